//! Metrics of orders about subjects and streams.

use prometheus::{Error, IntCounter, IntGauge};
use strum::{IntoStaticStr, VariantArray};

use super::label::CounterBy;
use super::names::Names;

/// Attempt to use what a blocked subject may not have.
#[derive(Debug, Clone, Copy, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum BlockedAttempt {
    /// Issuing a token for it.
    Issue,
    /// Opening a stream, or passing a proxy, with a token of it.
    Open,
    /// Introspecting a token of it.
    Other,
}

/// Metrics of orders.
pub struct ControlMetrics {
    blocked: IntGauge,
    invalid: IntCounter,
    forgotten: IntCounter,
    available: IntGauge,
    /// Attempts of blocked subjects.
    pub blocked_attempts: CounterBy,
}

impl ControlMetrics {
    pub(super) fn register(names: &Names<'_>) -> Result<Self, Error> {
        let metrics = Self {
            blocked: names.gauge(
                "vx11_operator_subjects_blocked",
                "Subjects that are blocked, as far as this instance knows.",
            )?,
            invalid: names.counter(
                "vx11_operator_orders_invalid_total",
                "Orders about subjects and streams in Redis that cannot be read, or have a time out of range.",
            )?,
            forgotten: names.counter(
                "vx11_operator_orders_forgotten_total",
                "Orders about subjects and streams that this instance had no room for; it carried them out once.",
            )?,
            available: names.gauge(
                "vx11_operator_control_available",
                "1 while this instance has read the orders of all instances, else 0; always 1 without Redis.",
            )?,
            blocked_attempts: names.counters(
                "vx11_operator_blocked_attempts_total",
                "Tokens of blocked subjects that were refused or not issued, by the attempt.",
                "at",
            )?,
        };
        metrics.available(true);
        Ok(metrics)
    }

    /// Sets the number of blocked subjects.
    pub fn blocked(&self, subjects: usize) {
        self.blocked.set(i64::try_from(subjects).unwrap_or(i64::MAX));
    }

    /// Counts an invalid order.
    pub fn invalid(&self) {
        self.invalid.inc();
    }

    /// Counts an order without room to remember it.
    pub fn forgotten(&self) {
        self.forgotten.inc();
    }

    /// Sets whether all orders are read.
    pub fn available(&self, available: bool) {
        self.available.set(i64::from(available));
    }
}
