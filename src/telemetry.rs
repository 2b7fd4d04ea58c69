//! Logs: one line per event, as text or JSON, each with the id of its request.
//!
//! Lines contain the route of a request, never its URL: a query string may contain a token. They go
//! through a bounded [queue](Log), so that a thread that logs never waits for the reader.

mod log;
mod queue;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Span};
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

pub use self::log::{Log, LogLines, take_lost_lines};
#[cfg(test)]
pub(crate) use self::queue::FLUSH;
pub(crate) use self::queue::{LineQueue, Lines, Room};

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A subscriber that writes to `writer` the lines that pass `filter`, with colours only on a
/// terminal.
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
    // The layer would write its failures to standard error, past the queue.
    let lines = lines.log_internal_errors(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter.and(WithoutClosedListener::new())))
}

/// Drops the error that actix logs when a drain shuts the listening socket down (ADR 0028).
/// `accept` fails with this error on such a socket only.
///
/// `callsite_enabled` keeps the default, "sometimes": `event_enabled` is not called reliably for
/// callsites that are always enabled.
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

/// Id of a request in its log lines and error body: 16 hex characters, or the id that a trusted
/// proxy chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Parses the id of a trusted proxy: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        fits.then(|| Self(text.into()))
    }

    /// The span that adds this id to each log line.
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

/// Source of request ids, which do not repeat within a process and hardly between processes.
#[derive(Debug)]
pub struct RequestIds(AtomicU64);

impl RequestIds {
    /// Step between ids: odd, so that an id repeats after 2^64 steps; large, so that successive ids
    /// look different.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Starts at `start`, a random number.
    #[must_use]
    pub const fn new(start: u64) -> Self {
        Self(AtomicU64::new(start))
    }

    /// The next id.
    pub fn draw(&self) -> RequestId {
        RequestId(format!("{:016x}", self.0.fetch_add(Self::STEP, Ordering::Relaxed)).into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The lines that `act` logs.
    fn logged(act: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(line)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sink, filter) = (Sink::default(), Targets::new().with_default(tracing::Level::INFO));
        let writer = sink.clone();
        let subscriber = subscriber(LogFormat::Text, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        let lines = sink.0.lock().unwrap().clone();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn of_the_accept_loop_only_the_error_of_a_closed_listener_is_left_out() {
        let closed = io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error());
        let too_many = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        // Twice each: the second time the callsite is known.
        let text = logged(|| {
            for error in [&closed, &too_many, &closed, &too_many] {
                tracing::error!(target: "actix_server::accept", "Error accepting connection: {error}");
                tracing::error!(target: "elsewhere", "Error accepting connection: {error}");
            }
        });
        let count = |error: &io::Error| text.matches(&error.to_string()).count();
        assert_eq!((count(&closed), count(&too_many)), (2, 4), "{text}");
    }
}
