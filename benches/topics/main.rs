//! Topics: the price of an event for one of many streams, of streams that an event is not for, of a
//! topic that all streams read, and of one log that every instance reads.

mod broadcast;
#[path = "../events/delivery.rs"]
mod delivery;
#[path = "../support/http.rs"]
mod http;
mod log;
mod memory;
#[path = "../events/nchan.rs"]
mod nchan;
#[path = "../events/operator.rs"]
mod operator;
#[path = "../support/processor.rs"]
mod processor;
#[path = "../support/progress.rs"]
mod progress;
mod quiet;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/sample.rs"]
mod sample;
#[path = "../events/schedule.rs"]
mod schedule;
#[path = "../events/server.rs"]
mod server;
#[path = "../events/share.rs"]
mod share;
mod single;
#[path = "../support/sse_clients.rs"]
#[expect(dead_code, reason = "closing some of the streams is measured by another benchmark")]
mod sse_clients;
#[path = "../support/target.rs"]
mod target;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use delivery::PATIENCE;
use server::{Channel, Publisher, Server};
use sse_clients::SseClients;
use vx11_kit::previous_release;

const ABOUT: &str = "One client process reads 15,000 streams on the same cores. Each stream has a \
                     separate token. Servers have their defaults and no Redis, and take turns; the \
                     median of the rounds counts. Events have 256 bytes of JSON. Latency begins when \
                     the publishing request is due and ends when the client reads the event. \
                     One of many: each stream reads a topic that no other reads (nchan: a channel), \
                     and 200 events a second go to topics drawn at random, or all to one topic. The \
                     processor time of a period without events is subtracted; it is that of \
                     heartbeats. Quiet streams: 1,000 events a second go to topics that nobody \
                     reads; an instance with 15,000 streams and one without any take turns, and \
                     the difference includes heartbeats. All on one topic: events at random moments \
                     go to 15,000 streams that read one topic, or `default`; the previous release \
                     (.ci/previous-release) is built with the same profile. Memory is that of all \
                     processes of a server (PSS), without the kernel's buffers. One log: the event \
                     log is in Redis, and each instance reads it. 1,000 events a second go to a \
                     topic without a stream; then the rate is doubled for as long as a stream on \
                     another instance than the publisher's gets 99 % of the events within 50 ms.";
/// Streams of an instance.
const STREAMS: u32 = 15_000;
/// Bytes of an event's data.
const SIZE: usize = 256;
/// Connections that publish.
const PUBLISHERS: usize = 8;
/// SSE heartbeats of a stream are so far apart: each has one in such a period.
const HEARTBEAT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    report::run("topics", ABOUT, || {
        rlimit::increase_nofile_limit(u64::MAX)
            .expect("the limit on open files can be raised to its maximum");
        // It may not be built, which is better known before anything is measured.
        let _ = previous_release("release");
        let parts = [single::measure, quiet::measure, broadcast::measure, memory::measure, log::measure];
        parts.into_iter().flat_map(|measure| measure()).collect()
    })
}

/// Opens a stream of each channel, with a token for each.
fn open(clients: &mut SseClients, server: &impl Server, channels: impl Iterator<Item = Channel>) {
    clients.open_each(server.address(), server.targets(channels), Instant::now() + PATIENCE);
}

/// Number of connections that publish.
fn publishers(server: &impl Server, count: usize) -> Vec<Publisher> {
    (0..count).map(|_| server.publisher()).collect()
}
