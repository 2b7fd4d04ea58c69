//! Metrics of announced revocations.

use prometheus::{Error, IntCounter, IntGauge};

use super::names::Names;

/// Metrics of revocations.
pub struct RevocationMetrics {
    invalid: IntCounter,
    forgotten: IntCounter,
    available: IntGauge,
}

impl RevocationMetrics {
    pub(super) fn register(names: &Names<'_>) -> Result<Self, Error> {
        let metrics = Self {
            invalid: names.counter(
                "vx11_operator_revocations_invalid_total",
                "Announced revocations that cannot be read or end too late, and tombstones that Redis refuses because of their content.",
            )?,
            forgotten: names.counter(
                "vx11_operator_revocations_forgotten_total",
                "Revocations that this instance had no room for; it applies them only while Redis is available.",
            )?,
            available: names.gauge(
                "vx11_operator_revocations_in_reach",
                "1 while the revocations of all instances can be read, else 0; always 1 without Redis.",
            )?,
        };
        metrics.available(true);
        Ok(metrics)
    }

    /// Counts invalid revocations.
    pub fn invalid(&self, count: u64) {
        self.invalid.inc_by(count);
    }

    /// Counts a revocation without room to remember it.
    pub fn forgotten(&self) {
        self.forgotten.inc();
    }

    /// Sets whether announcements can be read.
    pub fn available(&self, available: bool) {
        self.available.set(i64::from(available));
    }
}
