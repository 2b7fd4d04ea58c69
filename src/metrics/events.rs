//! Metrics of events: published, delivered, resumed, and availability of the log.

use prometheus::{IntCounter, IntGauge};
use strum::{IntoStaticStr, VariantArray};

use super::label::CounterBy;
use super::names::Names;

/// Source from which a stream resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ResumedFrom {
    /// The ring of this instance.
    Ring,
    /// The log.
    Log,
    /// None: the client gets `reset`.
    Nowhere,
}

/// Outcome of an event that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RefusedEvent {
    /// It is not in the log.
    NotPublished,
    /// Unknown.
    Unknown,
}

/// Metrics of the event log.
pub struct EventMetrics {
    published: IntCounter,
    repeated: IntCounter,
    refused: CounterBy,
    delivered: IntCounter,
    resumed: CounterBy,
    catch_up_pages: IntCounter,
    catch_up_bytes: IntCounter,
    unreadable: IntCounter,
    log_relieved: IntCounter,
    log_available: IntGauge,
    stream_events_lost: IntCounter,
}

impl EventMetrics {
    pub(super) fn register(names: &Names<'_>) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            resumed: names.counters(
                "vx11_operator_sse_streams_resumed_total",
                "Streams that resume, by the source of their next events; nowhere means a reset.",
                "from",
            )?,
            catch_up_pages: names.counter(
                "vx11_operator_catch_up_pages_total",
                "Pages of the event log read for streams in catch-up.",
            )?,
            catch_up_bytes: names.counter(
                "vx11_operator_catch_up_bytes_total",
                "Bytes of events read for streams in catch-up.",
            )?,
            unreadable: names.counter(
                "vx11_operator_events_unreadable_total",
                "Events in the event log that this version cannot read; streams get a reset.",
            )?,
            log_relieved: names.counter(
                "vx11_operator_event_log_relieved_total",
                "Times this instance removed the older half of the event log because Redis was full.",
            )?,
            log_available: names.gauge(
                "vx11_operator_event_log_in_reach",
                "1 while the event log is available, else 0; always 1 without Redis.",
            )?,
            stream_events_lost: names.counter(
                "vx11_operator_stream_events_lost_total",
                "Openings and ends of streams that could not be published as events.",
            )?,
            repeated: names.counter(
                "vx11_operator_events_repeated_total",
                "Events published again under the same idempotency key and found in the event log.",
            )?,
            refused: names.counters(
                "vx11_operator_events_refused_total",
                "Events answered with 503, by outcome: not published, or unknown.",
                "outcome",
            )?,
            published: names.counter(
                "vx11_operator_events_published_total",
                "Events that this instance appended to the event log.",
            )?,
            delivered: names.counter(
                "vx11_operator_events_delivered_total",
                "Events handed to a stream's connection, counted once for each stream.",
            )?,
        };
        metrics.resumed.show_all::<ResumedFrom>();
        metrics.refused.show_all::<RefusedEvent>();
        Ok(metrics)
    }

    /// Counts a stream that resumes.
    pub fn resumed(&self, from: ResumedFrom) {
        self.resumed.inc(from);
    }

    /// Counts a page of catch-up and its bytes.
    pub fn caught_up(&self, bytes: usize) {
        self.catch_up_pages.inc();
        self.catch_up_bytes.inc_by(bytes as u64);
    }

    /// Counts events that this version cannot read.
    pub fn unreadable(&self, count: u64) {
        self.unreadable.inc_by(count);
    }

    /// Counts a log that was trimmed to make room in Redis.
    pub fn log_relieved(&self) {
        self.log_relieved.inc();
    }

    /// Sets whether the log is available.
    pub fn log_available(&self, available: bool) {
        self.log_available.set(i64::from(available));
    }

    /// Counts openings and ends of streams that were not published.
    pub fn stream_events_lost(&self, count: u64) {
        self.stream_events_lost.inc_by(count);
    }

    /// Counts an event that was repeated under its idempotency key.
    pub fn repeated(&self) {
        self.repeated.inc();
    }

    /// Counts an event that was not acknowledged.
    pub fn refused(&self, outcome: RefusedEvent) {
        self.refused.inc(outcome);
    }

    /// Counts an event that was appended to the log.
    pub fn published(&self) {
        self.published.inc();
    }

    /// Counts an event that was delivered to a stream.
    pub fn delivered(&self, count: u64) {
        self.delivered.inc_by(count);
    }
}
