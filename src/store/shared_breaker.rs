//! The circuit breaker that all worker threads of an instance share.
//!
//! Reading it costs one atomic load. It alone reports to log and metrics, and it reports
//! transitions only: a fault that lasts is logged once.
//!
//! # Connection generation
//!
//! A number that increases when the breaker opens, and when Redis is found to hold different data.
//! A worker connection notes the generation at which it was dialled and is used only while that is
//! the present one. So after an outage or a failover nobody uses a connection to the old server,
//! and nothing has to find and close them (docs/adr/0010).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerState, Failure};
use crate::clock::{Clock, UnixMillis};
use crate::metrics::Metrics;
use crate::redis::{Fault, FaultKind, LoggedOnce};

/// Circuit breaker shared by the worker threads.
pub struct SharedBreaker {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Whether calls are allowed; written at transitions only.
    closed: AtomicBool,
    /// Whether the breaker has counted timeouts, which the next success resets.
    counting: AtomicBool,
    /// Connection generation. Incremented when the breaker opens and when Redis is found to hold
    /// different data.
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    breaker: Breaker,
    degraded_since: Option<UnixMillis>,
    opened_at: Instant,
    logged: LoggedOnce,
    /// Whether Redis was used since the instance started.
    was_reached: bool,
}

impl SharedBreaker {
    /// Creates an open breaker: the health check closes it after the first good probes.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let breaker = Breaker::default();
        metrics.breaker_begins(breaker.state().gauge(), true);
        let inner = Inner {
            breaker,
            degraded_since: Some(clock.now()),
            opened_at: Instant::now(),
            logged: LoggedOnce::default(),
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

    /// Whether calls are allowed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Present connection generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Starts a new connection generation: existing connections are not used any more.
    pub fn invalidate_connections(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Present state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.inner.lock().breaker.state()
    }

    /// Time since which calls are rejected; `None` while the breaker is closed.
    #[must_use]
    pub fn degraded_since(&self) -> Option<UnixMillis> {
        self.inner.lock().degraded_since
    }

    /// Counts a call that succeeded.
    pub fn succeeded(&self) {
        if self.counting.load(Ordering::Relaxed) {
            let mut inner = self.inner.lock();
            inner.breaker.succeeded();
            self.counting.store(inner.breaker.is_counting(), Ordering::Relaxed);
        }
    }

    /// Counts a call or probe that was made at `asked_at` and failed.
    pub fn failed(&self, fault: &Fault, asked_at: Instant) {
        self.metrics.store_fault(FaultKind::from(fault));
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
            inner.logged.clear();
        }
        if before != after {
            self.count_transition(after);
        }
        if inner.logged.is_new(fault) {
            let reason = fault.label();
            // An outage ends without intervention. A Redis that was never usable points to a wrong
            // configuration.
            if inner.was_reached {
                tracing::warn!(
                    reason,
                    "Redis cannot be used: {fault}. Meanwhile this instance keeps tokens in its memory, and tokens stay valid"
                );
            } else {
                tracing::error!(
                    reason,
                    "Redis cannot be used, and this instance has not used it since its start: {fault}. Meanwhile it keeps tokens in its memory, and tokens stay valid"
                );
            }
        }
    }

    /// Counts a probe that succeeded. Returns whether the breaker may close after reconciliation.
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
            self.count_transition(after);
        }
        inner.breaker.may_close(now)
    }

    /// Closes the breaker after reconciliation, which brought `reconciled` records and tombstones.
    pub fn close(&self, reconciled: u64) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        inner.breaker.close(now);
        inner.degraded_since = None;
        inner.logged.clear();
        inner.was_reached = true;
        self.count_transition(BreakerState::Closed);
        self.closed.store(true, Ordering::Relaxed);
        let after = now - inner.opened_at;
        tracing::info!(?after, reconciled, "Redis is available");
    }

    fn count_transition(&self, state: BreakerState) {
        self.metrics.breaker_went_to(state, state.gauge(), state != BreakerState::Closed);
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
