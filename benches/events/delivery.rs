//! Publishing to streams that are open, and how long it took to reach them.

use std::time::{Duration, Instant};

use crate::schedule::Schedule;
use crate::server::Publisher;
use crate::sse_clients::SseClients;

/// Far beyond any sensible latency.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// An event that has reached a stream.
pub(crate) struct Delivered {
    /// Which of those of the schedule, counted from zero.
    pub(crate) event: usize,
    /// Milliseconds after it was due.
    pub(crate) after: f64,
}

/// Publishes as scheduled, until each of the crowd's streams has every event.
pub(crate) fn deliver(
    clients: &mut SseClients,
    streams: u32,
    schedule: &Schedule,
    publishers: Vec<Publisher>,
) -> Vec<Delivered> {
    let publishing = schedule.run(publishers);
    let receipts = clients.receive((streams * schedule.events()) as usize, Instant::now() + PATIENCE);
    let due = publishing.join().expect("publishing succeeds");
    // Streams have had others before.
    let first = receipts.iter().map(|receipt| receipt.event).min().unwrap_or_default();
    let delivered = receipts.iter().map(|receipt| {
        let event = (receipt.event - first) as usize;
        Delivered { event, after: (receipt.at - due[event]).as_secs_f64() * 1e3 }
    });
    delivered.collect()
}
