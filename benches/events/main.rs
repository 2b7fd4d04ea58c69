//! Events on their way to many streams: how soon, at what price, and how that compares with nginx
//! and nchan.

mod burst;
mod delivery;
mod fan_out;
mod heartbeat;
#[path = "../support/http.rs"]
mod http;
mod instances;
mod nchan;
mod operator;
#[path = "../support/processor.rs"]
mod processor;
#[path = "../support/progress.rs"]
mod progress;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/sample.rs"]
mod sample;
#[expect(dead_code, reason = "events to separate topics are measured by another benchmark")]
mod schedule;
mod server;
mod share;
mod slow;
#[path = "../support/sse_clients.rs"]
#[expect(dead_code, reason = "closing some of the streams is measured by another benchmark")]
mod sse_clients;
#[path = "../support/target.rs"]
mod target;

use std::process::ExitCode;

const ABOUT: &str = "One client process reads 15,000 streams on the same cores. An instance of \
                     vx11-operator with a memory store and nginx with nchan (Debian's package, \
                     configured by benches/events/nchan.conf) take turns, each round on a fresh \
                     server. A ratio is taken round by round; the median counts. Events have 256 \
                     bytes of JSON. Random events come from publishers that know nothing of each \
                     other: four a second on average, at the same moments for both servers. Lone \
                     events come every half second, each after the one before has arrived. \
                     Latency begins when the publishing request is due and ends when the client \
                     reads the event; it covers all receipts. Memory is that of all processes of \
                     a server (PSS), without the kernel's buffers. A burst is a thousand such \
                     events at once and one of 60,000 bytes, to 2,000 streams. Slow readers are \
                     200 of 4,000 clients that do not read events of 4 KB; rounds in which they \
                     read alternate with these. Three instances have 1,000 streams each and their \
                     event log in Redis.";

fn main() -> ExitCode {
    report::run("events", ABOUT, || {
        rlimit::increase_nofile_limit(u64::MAX)
            .expect("the limit on open files can be raised to its maximum");
        let parts = [fan_out::measure, heartbeat::measure, burst::measure, slow::measure, instances::measure];
        parts.into_iter().flat_map(|measure| measure()).collect()
    })
}
