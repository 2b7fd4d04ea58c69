//! The breaker as all workers share it: cheap to ask, and the one place that tells of transitions,
//! in the log and in the metrics. Transitions and nothing else are told: a fault that lasts is
//! logged once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerState, Failure};
use crate::clock::{Clock, UnixMillis};
use crate::metrics::Metrics;
use crate::redis::Fault;

/// The shared breaker.
pub struct SharedBreaker {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// What callers read; written at transitions only.
    closed: AtomicBool,
    /// Whether a success has something to clear.
    counting: AtomicBool,
    /// How often it has opened, or data has changed its name: what was dialled before is not used
    /// after it.
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    breaker: Breaker,
    degraded_since: Option<UnixMillis>,
    opened_at: Instant,
    /// The reasons told in this outage, each once.
    told: Vec<&'static str>,
    /// The primary has been in use since the start.
    was_reached: bool,
}

impl SharedBreaker {
    /// Open, until the primary has shown that it is there.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let breaker = Breaker::default();
        metrics.breaker_begins(breaker.state().gauge(), true);
        let inner = Inner {
            breaker,
            degraded_since: Some(clock.now()),
            opened_at: Instant::now(),
            told: Vec::new(),
            was_reached: false,
        };
        Self {
            clock,
            metrics,
            closed: AtomicBool::new(false),
            counting: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// Whether calls may be made.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// How often it has opened.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Counts as an opening for whoever keeps connections from before: they are dialled anew.
    pub fn invalidate_connections(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.inner.lock().breaker.state()
    }

    /// Since when calls have been rejected; `None` while they are not.
    #[must_use]
    pub fn degraded_since(&self) -> Option<UnixMillis> {
        self.inner.lock().degraded_since
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        if self.counting.load(Ordering::Relaxed) {
            let mut inner = self.inner.lock();
            inner.breaker.succeeded();
            self.counting.store(inner.breaker.is_counting(), Ordering::Relaxed);
        }
    }

    /// A call or a probe that was made at `asked_at` failed.
    pub fn failed(&self, fault: &Fault, asked_at: Instant) {
        self.metrics.store_fault(fault.label());
        let failure = match fault {
            Fault::Timeout => Failure::Timeout { asked_at },
            _ => Failure::Hard,
        };
        let mut inner = self.inner.lock();
        let before = inner.breaker.state();
        let now = Instant::now();
        inner.breaker.failed(failure, now);
        let after = inner.breaker.state();
        self.counting.store(inner.breaker.is_counting(), Ordering::Relaxed);
        if after == BreakerState::Closed {
            return;
        }
        if before == BreakerState::Closed {
            self.closed.store(false, Ordering::Relaxed);
            self.generation.fetch_add(1, Ordering::Relaxed);
            inner.degraded_since = Some(self.clock.now());
            inner.opened_at = now;
            inner.told.clear();
        }
        if before != after {
            self.tell(after);
        }
        if !inner.told.contains(&fault.label()) {
            inner.told.push(fault.label());
            let reason = fault.label();
            // An outage passes by itself; what has never worked is more likely a mistake in the
            // configuration.
            if inner.was_reached {
                tracing::warn!(
                    reason,
                    "Redis cannot be used: {fault}. Tokens are kept in memory and stay valid until it is back"
                );
            } else {
                tracing::error!(
                    reason,
                    "Redis cannot be used and has not been usable since this instance started: {fault}. Tokens are kept in memory and stay valid until it can be used"
                );
            }
        }
    }

    /// A probe succeeded; says whether the breaker may be closed once the primary has what it
    /// missed.
    pub fn probe_succeeded(&self) -> bool {
        if self.is_closed() {
            self.succeeded();
            return false;
        }
        let mut inner = self.inner.lock();
        let before = inner.breaker.state();
        let now = Instant::now();
        inner.breaker.probe_succeeded(now);
        let after = inner.breaker.state();
        if before != after {
            self.tell(after);
        }
        inner.breaker.may_close(now)
    }

    /// Lets calls through again; `reconciled` tokens and tombstones were brought to the primary
    /// before.
    pub fn close(&self, reconciled: u64) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        inner.breaker.close(now);
        inner.degraded_since = None;
        inner.told.clear();
        inner.was_reached = true;
        self.tell(BreakerState::Closed);
        self.closed.store(true, Ordering::Relaxed);
        let after = now - inner.opened_at;
        tracing::info!(?after, reconciled, "Redis is in use");
    }

    fn tell(&self, state: BreakerState) {
        self.metrics.breaker_went_to(state.as_str(), state.gauge(), state != BreakerState::Closed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    fn breaker() -> SharedBreaker {
        let clock = Arc::new(ManualClock::at(UnixMillis(1_767_470_400_000)));
        SharedBreaker::new(clock, Arc::new(Metrics::new().unwrap()))
    }

    fn time_out(breaker: &SharedBreaker) {
        breaker.failed(&Fault::Timeout, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts_open_it_only_if_no_call_succeeds_between_them() {
        let breaker = breaker();
        breaker.close(0);
        for _ in 0..4 {
            time_out(&breaker);
            tokio::time::advance(Duration::from_millis(1)).await;
            time_out(&breaker);
            assert!(breaker.is_closed());
            breaker.succeeded();
        }
        time_out(&breaker);
        time_out(&breaker);
        time_out(&breaker);
        assert_eq!((breaker.is_closed(), breaker.state()), (false, BreakerState::Open));
    }

    /// Connections of an earlier generation may lead to a server that is no longer the master.
    #[tokio::test(start_paused = true)]
    async fn each_opening_and_each_loss_of_data_begins_another_connection_generation() {
        let breaker = breaker();
        breaker.close(0);
        let mut generations = vec![breaker.generation()];
        breaker.failed(&Fault::Loading, Instant::now());
        generations.push(breaker.generation());
        breaker.failed(&Fault::Loading, Instant::now());
        assert_eq!(breaker.generation(), generations[1], "it was open already");
        breaker.close(0);
        breaker.invalidate_connections();
        generations.push(breaker.generation());
        assert!(generations.is_sorted_by(|one, next| one < next), "{generations:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_rejected_since_the_first_failure_of_an_outage() {
        let clock = Arc::new(ManualClock::at(UnixMillis(1_000)));
        let breaker =
            SharedBreaker::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(Metrics::new().unwrap()));
        assert_eq!(breaker.degraded_since(), Some(UnixMillis(1_000)));
        breaker.close(0);
        assert_eq!(breaker.degraded_since(), None);
        for _ in 0..2 {
            clock.advance(Duration::from_secs(1));
            breaker.failed(&Fault::Loading, Instant::now());
            assert_eq!(breaker.degraded_since(), Some(UnixMillis(2_000)));
        }
    }
}
