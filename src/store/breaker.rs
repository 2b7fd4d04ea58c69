//! State machine of the circuit breaker before Redis. No I/O and no clock: callers pass results and
//! times.
//!
//! - closed: calls are allowed. A hard failure, or [`TIMEOUTS_TO_OPEN`] timeouts without a success
//!   between them, opens it.
//! - open: calls are rejected; the health check probes.
//! - half-open: calls are rejected; the last probe succeeded. After [`GOOD_PROBES_TO_CLOSE`] good
//!   probes and reconciliation it closes. If it opens again soon after closing (a flap), probes
//!   have to stay good for longer.

use std::time::Duration;

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};
use tokio::time::Instant;
use utoipa::ToSchema;

/// Consecutive timeouts that open the breaker.
const TIMEOUTS_TO_OPEN: u32 = 3;
/// Consecutive good probes that are needed to close it.
const GOOD_PROBES_TO_CLOSE: u32 = 2;
/// An opening within this time after a closing is a flap.
const FLAP_WINDOW: Duration = Duration::from_secs(10);
/// Time for which probes have to stay good after the first flap; it doubles with each further flap.
const FIRST_HOLD: Duration = Duration::from_millis(250);
/// Bound of that time.
const LONGEST_HOLD: Duration = Duration::from_millis(1500);

/// State of the breaker, as shown to administrators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum BreakerState {
    /// Calls are allowed.
    Closed,
    /// Calls are rejected; the last probe succeeded.
    HalfOpen,
    /// Calls are rejected.
    Open,
}

impl BreakerState {
    /// Value of the gauge: 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub const fn gauge(self) -> u8 {
        self as u8
    }
}

/// Kind of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// An error that a second try does not cure.
    Hard,
    /// No answer in time.
    Timeout {
        /// Start of the call. Calls that wait in the same pause time out for one reason: those that
        /// started before the last counted timeout are not counted again.
        asked_at: Instant,
    },
}

enum State {
    Closed { timeouts: u32, last_timeout: Option<Instant> },
    Open { good: u32, good_since: Option<Instant> },
}

/// The circuit breaker.
pub struct Breaker {
    state: State,
    closed_at: Option<Instant>,
    hold: Duration,
}

impl Default for Breaker {
    /// Open: Redis has not answered a probe yet.
    fn default() -> Self {
        Self { state: State::Open { good: 0, good_since: None }, closed_at: None, hold: Duration::ZERO }
    }
}

impl Breaker {
    /// Present state.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { good: 0, .. } => BreakerState::Open,
            State::Open { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether the breaker has counted timeouts, which the next success resets.
    #[must_use]
    pub const fn is_counting(&self) -> bool {
        matches!(self.state, State::Closed { timeouts: 1.., .. })
    }

    /// Counts a call that succeeded.
    pub const fn succeeded(&mut self) {
        if let State::Closed { timeouts, .. } = &mut self.state {
            *timeouts = 0;
        }
    }

    /// Counts a call that failed.
    pub fn failed(&mut self, failure: Failure, now: Instant) {
        let State::Closed { timeouts, last_timeout } = &mut self.state else {
            self.probe_failed();
            return;
        };
        let opens = match failure {
            Failure::Hard => true,
            Failure::Timeout { asked_at } => {
                if last_timeout.is_none_or(|last| asked_at >= last) {
                    *timeouts += 1;
                    *last_timeout = Some(now);
                }
                *timeouts >= TIMEOUTS_TO_OPEN
            }
        };
        if opens {
            let flaps = self.closed_at.is_some_and(|closed| now - closed < FLAP_WINDOW);
            self.hold = if flaps { (self.hold * 2).clamp(FIRST_HOLD, LONGEST_HOLD) } else { Duration::ZERO };
            self.state = State::Open { good: 0, good_since: None };
        }
    }

    /// Counts a probe that succeeded. Without effect while closed.
    pub fn probe_succeeded(&mut self, now: Instant) {
        if let State::Open { good, good_since } = &mut self.state {
            *good = good.saturating_add(1);
            good_since.get_or_insert(now);
        }
    }

    fn probe_failed(&mut self) {
        self.state = State::Open { good: 0, good_since: None };
    }

    /// Whether probes were good for long enough, so that reconciliation may begin and the breaker
    /// may close after it.
    #[must_use]
    pub fn may_close(&self, now: Instant) -> bool {
        match self.state {
            State::Open { good, good_since: Some(since) } => {
                good >= GOOD_PROBES_TO_CLOSE && now - since >= self.hold
            }
            _ => false,
        }
    }

    /// Closes the breaker.
    pub const fn close(&mut self, now: Instant) {
        self.state = State::Closed { timeouts: 0, last_timeout: None };
        self.closed_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn closed(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        breaker.close(now);
        breaker
    }

    /// Probes every 100 ms until the breaker may close, and closes it. Returns the time of the
    /// closing.
    fn recover(breaker: &mut Breaker, mut now: Instant) -> Instant {
        while !breaker.may_close(now) {
            now += 100 * MS;
            breaker.probe_succeeded(now);
        }
        breaker.close(now);
        now
    }

    #[test]
    fn it_begins_open_and_closes_after_two_good_probes() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker.probe_succeeded(now);
        assert_eq!((breaker.state(), breaker.may_close(now)), (BreakerState::HalfOpen, false));
        breaker.probe_succeeded(now);
        assert!(breaker.may_close(now));
        breaker.close(now);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_failed_probe_restarts_the_count() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.probe_succeeded(now);
        breaker.failed(Failure::Hard, now);
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker.probe_succeeded(now);
        assert!(!breaker.may_close(now));
    }

    #[test]
    fn one_hard_failure_opens_it() {
        let now = Instant::now();
        let mut breaker = closed(now);
        breaker.failed(Failure::Hard, now);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn the_third_timeout_in_a_row_opens_it_and_a_success_between_them_clears_the_count() {
        let mut now = Instant::now();
        let mut breaker = closed(now);
        let mut time_out = |breaker: &mut Breaker| {
            let asked_at = now;
            now += 150 * MS;
            breaker.failed(Failure::Timeout { asked_at }, now);
        };
        time_out(&mut breaker);
        time_out(&mut breaker);
        assert!(breaker.is_counting());
        breaker.succeeded();
        assert!(!breaker.is_counting());
        time_out(&mut breaker);
        time_out(&mut breaker);
        assert_eq!(breaker.state(), BreakerState::Closed);
        time_out(&mut breaker);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn calls_that_wait_through_the_same_pause_count_once() {
        let asked_at = Instant::now();
        let mut breaker = closed(asked_at);
        for late in 0..100 {
            breaker.failed(Failure::Timeout { asked_at: asked_at + late * MS }, asked_at + (150 + late) * MS);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn the_more_it_flaps_the_longer_probes_must_stay_good_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breaker = closed(now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            now += 1000 * MS;
            breaker.failed(Failure::Hard, now);
            let opened = now;
            now = recover(&mut breaker, now);
            waits.push((now - opened).as_millis());
        }
        assert!(waits.is_sorted() && waits[0] < 500, "{waits:?}");
        assert!(waits[5] >= 1500 && waits[5] <= 1700, "{waits:?}");
        now += FLAP_WINDOW;
        breaker.failed(Failure::Hard, now);
        assert!(recover(&mut breaker, now) - now <= 200 * MS, "a long good time is forgiven");
    }
}
