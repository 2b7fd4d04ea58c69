//! All metrics, with names, labels and buckets, in one struct.
//!
//! Names follow the Prometheus conventions; names without a comment come from the predecessor, a
//! Python service. No label contains a token, a principal, a subject, a topic or a client's
//! address.

mod admission;
mod control;
mod events;
mod identity;
mod label;
mod names;
mod revocations;

use std::time::Duration;

use prometheus::{Encoder, Gauge, HistogramVec, IntCounter, IntGauge, Registry, TextEncoder};
use strum::{IntoStaticStr, VariantArray};

pub use self::admission::AdmissionMetrics;
pub use self::control::{BlockedAttempt, ControlMetrics};
pub use self::events::{EventMetrics, RefusedEvent, ResumedFrom};
pub use self::identity::{IdentityMetrics, KeyFetch};
pub use self::label::{CounterBy, HistogramBy, Label};
use self::names::Names;
pub use self::revocations::RevocationMetrics;
use crate::clock::{ExpiringCounts, UnixMillis};
use crate::telemetry::take_lost_lines;

/// Buckets in seconds, from a lookup in memory to the longest deadline of a request.
const REQUEST_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Buckets in seconds, up to the deadline of a call of the store.
const STORE_BUCKETS: &[f64] = &[
    0.000_001, 0.000_01, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15,
    0.25,
];
/// An operation of a token store.
#[derive(Debug, Clone, Copy, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum StoreOperation {
    /// Recording a token.
    Record,
    /// Looking a token up.
    Lookup,
    /// Writing a tombstone.
    Revoke,
}

/// Reason for closing a connection whose client had not finished.
#[derive(Debug, Clone, Copy, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Closed {
    /// The bound of connections is reached, and all of them have a request in progress.
    NoRoom,
    /// The bound is reached, and this connection was idle the longest.
    ForRoom,
    /// The head of a request was not complete in time.
    SlowHead,
}

/// All metrics of one instance.
///
/// Values of labels are variants of enums ([`Label`]). `app` creates the series of all values when
/// the instance starts.
pub struct Metrics {
    registry: Registry,
    issued: IntCounter,
    active: IntGauge,
    expired: IntCounter,
    /// Refused tokens.
    pub invalid: CounterBy,
    /// Requests that were not permitted, by the right that was missing or did not suffice.
    pub not_permitted: CounterBy,
    degraded_accepts: IntCounter,
    streams_by_token: IntCounter,
    streams_by_principal: IntCounter,
    streams_open: IntGauge,
    streams_limit: IntGauge,
    /// Ended streams.
    pub streams_ended: CounterBy,
    /// Refused streams.
    pub streams_refused: CounterBy,
    connections_closed: CounterBy,
    /// Metrics of orders about subjects and streams.
    pub control: ControlMetrics,
    /// Metrics of events.
    pub events: EventMetrics,
    /// Metrics of identity providers.
    pub identity: IdentityMetrics,
    /// Metrics of revocations.
    pub revocations: RevocationMetrics,
    /// Metrics of limits of subjects and of single-use tokens.
    pub admission: AdmissionMetrics,
    requests: HistogramVec,
    /// Operations of the store, by [`StoreOperation`] and backend.
    pub store_operations: HistogramBy,
    /// Faults of the primary.
    pub store_faults: CounterBy,
    store_degraded: IntGauge,
    breaker_state: IntGauge,
    /// Transitions of the breaker, by the state it went to.
    pub breaker_transitions: CounterBy,
    reconciled: IntCounter,
    clock_skew: Gauge,
    audit_lines_lost: IntCounter,
    log_lines_lost: IntCounter,
    expiring: ExpiringCounts,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// A name is registered twice, which a test rules out.
    #[expect(
        clippy::too_many_lines,
        reason = "a list: one entry for each metric, with its name and its help"
    )]
    pub fn new() -> Result<Self, prometheus::Error> {
        let service = [("service".to_owned(), "operator-backend".to_owned())].into();
        let registry = Registry::new_custom(None, Some(service))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let names = Names(&registry);
        let metrics = Self {
            control: ControlMetrics::register(&names)?,
            events: EventMetrics::register(&names)?,
            identity: IdentityMetrics::register(&names)?,
            revocations: RevocationMetrics::register(&names)?,
            admission: AdmissionMetrics::register(&names)?,
            issued: names
                .counter("vx11_operator_ephemeral_tokens_issued_total", "Tokens issued by this instance.")?,
            active: names.gauge(
                "vx11_operator_ephemeral_tokens_active",
                "Tokens issued by this instance that have not expired.",
            )?,
            expired: names.counter(
                "vx11_operator_ephemeral_tokens_expired_total",
                "Tokens issued by this instance that have expired.",
            )?,
            invalid: names.counters(
                "vx11_operator_ephemeral_tokens_invalid_total",
                "Tokens refused, by reason.",
                "reason",
            )?,
            not_permitted: names.counters(
                "vx11_operator_not_permitted_total",
                "Requests refused because their principal lacks a right, or a topic for it, by the right.",
                "right",
            )?,
            degraded_accepts: names.counter(
                "vx11_operator_degraded_accepts_total",
                "Tokens accepted by their signature alone, because the store could not confirm them.",
            )?,
            streams_by_token: names.counter(
                "vx11_operator_sse_connections_ephemeral_total",
                "Streams opened with a token.",
            )?,
            streams_by_principal: names.counter(
                "vx11_operator_sse_connections_principal_total",
                "Streams opened with a principal's credential.",
            )?,
            streams_open: names.gauge("vx11_operator_sse_streams_open", "Streams open now.")?,
            streams_limit: names.gauge(
                "vx11_operator_sse_streams_limit",
                "Limit of open streams: the configured one, or a lower one if the limit on open files is too low.",
            )?,
            streams_ended: names.counters(
                "vx11_operator_sse_streams_ended_total",
                "Streams ended, by reason.",
                "reason",
            )?,
            streams_refused: names.counters(
                "vx11_operator_sse_streams_refused_total",
                "Streams refused because a limit is reached or the instance is stopping, by reason.",
                "reason",
            )?,
            connections_closed: names.counters(
                "vx11_operator_connections_closed_total",
                "Connections that the server closed before their clients had finished, by reason.",
                "reason",
            )?,
            requests: names.histograms(
                "vx11_operator_http_request_duration_seconds",
                "Time until a request's response began.",
                &["route", "method", "status"],
                REQUEST_BUCKETS,
            )?,
            store_operations: HistogramBy(names.histograms(
                "vx11_operator_store_operation_duration_seconds",
                "Time a token store took for one operation.",
                &["operation", "backend"],
                STORE_BUCKETS,
            )?),
            store_faults: names.counters(
                "vx11_operator_store_faults_total",
                "Failed calls of Redis, including health checks, by reason.",
                "reason",
            )?,
            store_degraded: names.gauge(
                "vx11_operator_store_degraded",
                "1 while Redis is configured and unavailable, else 0.",
            )?,
            breaker_state: names.gauge(
                "vx11_operator_breaker_state",
                "State of the circuit breaker: 0 closed, 1 half-open, 2 open.",
            )?,
            breaker_transitions: names.counters(
                "vx11_operator_breaker_transitions_total",
                "Transitions of the circuit breaker, by the new state.",
                "to",
            )?,
            reconciled: names.counter(
                "vx11_operator_reconciled_tokens_total",
                "Tokens and revocations of an outage that reconciliation wrote to Redis.",
            )?,
            clock_skew: names.gauge_of_seconds(
                "vx11_operator_redis_clock_skew_seconds",
                "Lead of this instance's clock over that of Redis, in seconds.",
            )?,
            audit_lines_lost: names.counter(
                "vx11_operator_audit_lines_lost_total",
                "Lines of the audit trail that could not be written.",
            )?,
            log_lines_lost: names.counter(
                "vx11_operator_log_lines_lost_total",
                "Log lines that were dropped because their reader did not take them in time.",
            )?,
            expiring: ExpiringCounts::default(),
            registry,
        };
        metrics.connections_closed.show_all::<Closed>();
        Ok(metrics)
    }

    /// Counts an issued token that expires in the second `expires_at`.
    pub fn token_issued(&self, expires_at: u64) {
        self.issued.inc();
        self.expiring.add(expires_at);
    }

    /// Counts a token that was refused.
    pub fn token_refused(&self, reason: impl Label) {
        self.invalid.inc(reason);
    }

    /// Counts a request that was not permitted.
    pub fn not_permitted(&self, right: impl Label) {
        self.not_permitted.inc(right);
    }

    /// Counts a token that was accepted by its tag alone.
    pub fn degraded_accept(&self) {
        self.degraded_accepts.inc();
    }

    /// Moves expired tokens from active to expired; called about once a second.
    pub fn roll_expired(&self, now: UnixMillis) {
        let over = self.expiring.take_until(now.seconds());
        self.expired.inc_by(over);
    }

    /// Live tokens that this instance issued.
    #[must_use]
    pub fn active_tokens(&self) -> u64 {
        self.issued.get().saturating_sub(self.expired.get())
    }

    /// Counts an operation of a store, answered by `backend`.
    pub fn store_operation(&self, operation: StoreOperation, backend: impl Label, took: Duration) {
        self.store_operations.observe(operation, backend, took);
    }

    /// Counts a failed call of the primary.
    pub fn store_fault(&self, reason: impl Label) {
        self.store_faults.inc(reason);
    }

    /// Sets the state of the breaker at start, and whether the primary is out of use.
    pub fn breaker_begins(&self, value: u8, degraded: bool) {
        self.breaker_state.set(value.into());
        self.store_degraded.set(degraded.into());
    }

    /// Counts a transition of the breaker and sets its state.
    pub fn breaker_went_to(&self, state: impl Label, value: u8, degraded: bool) {
        self.breaker_transitions.inc(state);
        self.breaker_begins(value, degraded);
    }

    /// Counts entries that reconciliation wrote to the primary.
    pub fn reconciled(&self, count: u64) {
        self.reconciled.inc_by(count);
    }

    /// Sets the lead of this clock over the primary's, in seconds.
    pub fn clock_skew(&self, seconds: f64) {
        self.clock_skew.set(seconds);
    }

    /// Counts lost lines of the audit trail.
    pub fn audit_lines_lost(&self, count: u64) {
        self.audit_lines_lost.inc_by(count);
    }

    /// Counts a stream that was opened.
    pub fn stream_opened(&self, by_token: bool) {
        if by_token {
            self.streams_by_token.inc();
        } else {
            self.streams_by_principal.inc();
        }
        self.streams_open.inc();
    }

    /// Counts a stream that ended.
    pub fn stream_ended(&self, reason: impl Label) {
        self.streams_open.dec();
        self.streams_ended.inc(reason);
    }

    /// Counts a refused stream.
    pub fn stream_refused(&self, reason: impl Label) {
        self.streams_refused.inc(reason);
    }

    /// Counts a connection that the server closed.
    pub fn connection_closed(&self, reason: Closed) {
        self.connections_closed.inc(reason);
    }

    /// Sets the bound of open streams.
    pub fn streams_limit(&self, limit: usize) {
        self.streams_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Number of open streams.
    #[must_use]
    pub fn open_streams(&self) -> u64 {
        u64::try_from(self.streams_open.get()).unwrap_or(0)
    }

    /// Counts an answered request.
    pub fn request(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.requests.with_label_values(&[route, method, status]).observe(took.as_secs_f64());
    }

    /// The Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// A collector yields an invalid family.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        // Computed on request: otherwise every issue would write one more cache line that all
        // workers share.
        self.active.set(i64::try_from(self.active_tokens()).unwrap_or(i64::MAX));
        self.log_lines_lost.inc_by(take_lost_lines());
        let mut page = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_and_expired_tokens_add_up_to_those_issued() {
        let metrics = Metrics::new().unwrap();
        metrics.roll_expired(UnixMillis(1_000_000));
        for life in [1, 1, 60, 900] {
            metrics.token_issued(1000 + life);
        }
        metrics.roll_expired(UnixMillis(1_001_000));
        assert_eq!((metrics.active_tokens(), metrics.expired.get()), (2, 2));
        metrics.roll_expired(UnixMillis(1_500_000));
        assert_eq!((metrics.active_tokens(), metrics.expired.get()), (1, 3));
        metrics.roll_expired(UnixMillis(9_000_000));
        assert_eq!((metrics.active_tokens(), metrics.expired.get()), (0, 4));
    }
}
