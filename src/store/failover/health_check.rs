//! The health check of the primary: the one background task that probes it and decides when it is
//! used again. Requests never probe.
//!
//! Each check does, in this order:
//!
//! 1. probe the primary and exchange member records (`Primary::check_health`);
//! 2. after a loss of data, write all known tombstones to it again;
//! 3. count the probe. If the breaker is closed, or probes were good for long enough, write records
//!    and tombstones of the standby to the primary (reconciliation);
//! 4. close the breaker if it was open.
//!
//! Tombstones come before the breaker closes, so that no revoked token is accepted in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FailoverStore, Figures};
use crate::clock::{Jitter, UnixMillis};
use crate::metrics::Metrics;
use crate::redis::Fault;
use crate::token::TokenId;

/// Interval of the checks, with a jitter of a fifth, so that instances do not check at once.
const INTERVAL: Duration = Duration::from_millis(250);
/// Number of consecutive failed checks after which a warning is logged, if requests reach the
/// primary meanwhile.
const FAILURES_UNTIL_WARNING: u32 = 10;
/// Difference of the clocks, in ms, above which a warning is logged. Tokens allow for two seconds,
/// while no store answers.
const SKEW_WARNING: i64 = 1000;

/// Dependencies of the health check.
pub struct HealthCheckDeps {
    /// The store whose primary is checked.
    pub store: Arc<FailoverStore>,
    /// Source of this instance's figures; also receives the results.
    pub metrics: Arc<Metrics>,
    /// Randomises the interval.
    pub jitter: Arc<Jitter>,
}

/// The health check of the primary, a background task.
pub struct HealthCheck {
    deps: HealthCheckDeps,
    skewed: bool,
    /// Tombstones that the primary has lost and does not have again yet.
    tombstones_to_restore: Option<Vec<(TokenId, UnixMillis)>>,
    /// Consecutive failed checks while requests reach the primary.
    failures_while_closed: u32,
}

impl HealthCheck {
    /// Creates the task.
    #[must_use]
    pub const fn new(deps: HealthCheckDeps) -> Self {
        Self { deps, skewed: false, tombstones_to_restore: None, failures_while_closed: 0 }
    }

    /// Checks until the primary is in use or has failed once, bounded by the primary's deadlines.
    /// Called before the first request, so that an instance with a healthy primary never starts
    /// degraded.
    pub async fn begin(&mut self) {
        while self.check().await.is_ok() && !self.deps.store.breaker.is_closed() {}
    }

    /// Checks for as long as the instance runs.
    pub async fn run(mut self) {
        loop {
            let pause = self.deps.jitter.between(INTERVAL * 4 / 5, INTERVAL * 6 / 5);
            let began = Instant::now();
            let succeeded = self.check().await.is_ok();
            // After a failure while closed the next check follows at once: an outage may begin.
            if succeeded || !self.deps.store.breaker.is_closed() {
                tokio::time::sleep_until(began + pause).await;
            }
        }
    }

    /// Checks once, and counts a failure.
    async fn check(&mut self) -> Result<(), Fault> {
        let store = Arc::clone(&self.deps.store);
        let asked_at = Instant::now();
        let outcome = self.check_and_reconcile(&store).await;
        if let Err(fault) = &outcome {
            store.breaker.failed(fault, asked_at);
        }
        let failed_while_closed = outcome.is_err() && store.breaker.is_closed();
        self.failures_while_closed =
            if failed_while_closed { self.failures_while_closed.saturating_add(1) } else { 0 };
        if self.failures_while_closed == FAILURES_UNTIL_WARNING {
            tracing::warn!(
                "health checks of Redis fail, although requests reach it, so the figures of the other instances are outdated. Check the load of Redis and the network"
            );
        }
        outcome
    }

    /// Steps 1 to 4 of the module's documentation.
    async fn check_and_reconcile(&mut self, store: &FailoverStore) -> Result<(), Fault> {
        let HealthCheckDeps { metrics, .. } = &self.deps;
        let figures = Figures { active: metrics.active_tokens(), streams: metrics.open_streams() };
        let report = store.primary.check_health(figures).await?;
        self.observe_skew(report.skew_millis);
        if report.lost_data {
            self.tombstones_to_restore = Some(store.lose());
        }
        if let Some(tombstones) = self.tombstones_to_restore.take() {
            store.restore_tombstones(tombstones).await.map_err(|(fault, remaining)| {
                self.tombstones_to_restore = Some(remaining);
                fault
            })?;
        }
        let may_close = store.breaker.probe_succeeded();
        if may_close || store.breaker.is_closed() {
            let reconciled = store.reconcile().await?;
            if may_close {
                store.breaker.close(reconciled);
            }
        }
        Ok(())
    }

    /// Sets the metric of the skew, and logs when the skew becomes large.
    fn observe_skew(&mut self, skew_millis: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a difference of milliseconds")]
        self.deps.metrics.clock_skew(skew_millis as f64 / 1000.0);
        let skewed = skew_millis.abs() > SKEW_WARNING;
        if skewed && !self.skewed {
            tracing::warn!(
                ahead_by_milliseconds = skew_millis,
                "the clocks of this instance and of Redis differ. An instance whose clock is ahead refuses tokens early, by its lead. Check NTP on both machines"
            );
        }
        self.skewed = skewed;
    }
}
