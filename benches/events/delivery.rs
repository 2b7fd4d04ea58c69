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

/// Publishes as scheduled, until each event has reached so many streams as `readers` says.
pub(crate) fn deliver(
    clients: &mut SseClients,
    readers: u32,
    schedule: &Schedule,
    publishers: Vec<Publisher>,
) -> Vec<Delivered> {
    let publishing = schedule.run(publishers);
    let receipts = clients.receive((readers * schedule.events()) as usize, Instant::now() + PATIENCE);
    let due = publishing.join().expect("publishing succeeds");
    let delivered = receipts.iter().map(|receipt| {
        let event = receipt.number as usize;
        Delivered { event, after: (receipt.at - due[event]).as_secs_f64() * 1e3 }
    });
    delivered.collect()
}
