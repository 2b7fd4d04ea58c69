//! A thousand events at once and a large one, and what streams still hold when they have passed
//! them on.

use std::time::{Duration, Instant};

use crate::delivery::{PATIENCE, deliver};
use crate::nchan::Nchan;
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::sse_clients::SseClients;

const STREAMS: u32 = 2_000;
const EVENTS: u32 = 1_000;
/// Number of publishers: enough that no event waits for the answer to the one before.
const PUBLISHERS: u32 = 200;
/// Bytes of data of each of them, and of the large one.
const SIZES: (usize, usize) = (256, 60_000);

/// Result of a burst.
struct Burst {
    /// Bytes by which a stream has grown.
    growth: f64,
    /// From the first event to its last receipt.
    took: Duration,
}

pub(crate) fn measure() -> Vec<Row> {
    say(&format!("a burst of {EVENTS} events to {STREAMS} streams"));
    let (operator, nchan) = (burst(&Instance::start(&[])), burst(&Nchan::start()));
    vec![
        Row::judged("memory of a stream after a burst, vx11-operator", "<= 8 KB", operator.growth / 1024.0),
        Row::figure("memory of a stream after a burst, nchan", nchan.growth / 1024.0, "KB"),
        Row::figure(
            "a thousand events at once, the last within, vx11-operator",
            operator.took.as_secs_f64() * 1e3,
            "ms",
        ),
        Row::figure(
            "a thousand events at once, the last within, nchan",
            nchan.took.as_secs_f64() * 1e3,
            "ms",
        ),
    ]
}

fn burst(server: &impl Server) -> Burst {
    let mut clients = SseClients::new(STREAMS);
    clients.open(server.address(), &server.target(None), STREAMS, Instant::now() + PATIENCE);
    let mut publish = |events, size| {
        let publishers = (0..PUBLISHERS).map(|_| server.publisher()).collect();
        deliver(&mut clients, STREAMS, &Schedule::regular(events, Duration::ZERO, size), publishers);
    };
    publish(1, SIZES.0);
    let before = server.resident_bytes();
    let started = Instant::now();
    publish(EVENTS, SIZES.0);
    let took = started.elapsed();
    publish(1, SIZES.1);
    Burst { growth: (server.resident_bytes() - before) / f64::from(STREAMS), took }
}
