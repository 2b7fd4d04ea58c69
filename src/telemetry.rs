//! Logs: one line an occurrence, as text for people or JSON for machines, each with the id of its request.
//!
//! Requests are named by their route, never by their URL: a query string may hold a token.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Span};
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A subscriber that writes to `writer` what `filter` lets through. Colours only where a person looks.
pub fn subscriber<W>(
    format: LogFormat,
    filter: Targets,
    colour: bool,
    writer: W,
) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter.and(WithoutClosedListener::new())))
}

/// Leaves out the error that actix logs when a drain shuts the listening socket down. Its accept loop waits on that
/// socket and cannot be taken off it first: `pause` returns before the loop has noticed, and connections that arrive
/// in between would be reset. `accept` fails with this error on a socket that was shut down, and on no other.
struct WithoutClosedListener {
    message: String,
}

impl WithoutClosedListener {
    fn new() -> Self {
        let error = io::Error::from(rustix::io::Errno::INVAL);
        Self { message: format!("Error accepting connection: {error}") }
    }
}

impl<S> Filter<S> for WithoutClosedListener {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        struct Comparison<'a> {
            message: &'a str,
            is_equal: bool,
        }
        impl Visit for Comparison<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.is_equal |= field.name() == "message" && format!("{value:?}") == self.message;
            }
        }
        if event.metadata().target() != "actix_server::accept" {
            return true;
        }
        let mut comparison = Comparison { message: &self.message, is_equal: false };
        event.record(&mut comparison);
        !comparison.is_equal
    }
}

/// Names one request in its log lines and error body: 16 hex characters, or what a trusted proxy chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// An id given by a trusted proxy: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        fits.then(|| Self(text.into()))
    }

    /// The span that puts this id into each log line written within it.
    #[must_use]
    pub fn span(&self) -> Span {
        tracing::info_span!("request", id = %self)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hands out request ids that do not repeat within a process and hardly between processes.
#[derive(Debug)]
pub struct RequestIds(AtomicU64);

impl RequestIds {
    /// Odd, so that 2^64 steps pass before an id repeats; large, so that neighbours look different.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Counts from `start`, drawn at random.
    #[must_use]
    pub const fn new(start: u64) -> Self {
        Self(AtomicU64::new(start))
    }

    /// The next id.
    pub fn draw(&self) -> RequestId {
        RequestId(format!("{:016x}", self.0.fetch_add(Self::STEP, Ordering::Relaxed)).into())
    }
}
