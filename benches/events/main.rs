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
mod schedule;
mod server;
mod share;
mod slow;
#[path = "../support/sse_clients.rs"]
#[expect(dead_code, reason = "closing some of the streams is measured by another benchmark")]
mod sse_clients;

use std::process::ExitCode;

const ABOUT: &str = "15,000 streams of one client process, which reads them on the same cores. An instance of the \
                     operator on its memory store and nginx with nchan (Debian's, set up as benches/events/nchan.conf \
                     says) take turns, each round on a fresh server; ratios are taken round by round. Events have 256 \
                     bytes of JSON. Random ones come as from publishers who know nothing of each other: four a second \
                     on average, at the same moments for both. Lone ones come every half second, when the one before \
                     has arrived. Latency runs from the moment the publishing request is due to the client's read of the \
                     event, over all receipts. Memory is what all processes of a server hold (PSS), without the \
                     kernel's buffers. A burst is a thousand such events at once and one of 60,000 bytes to 2,000 \
                     streams. Slow readers are 200 of 4,000 clients that take nothing of 4 KB events, with rounds in \
                     which they do in between. Three instances have 1,000 streams each and their log in Redis.";

fn main() -> ExitCode {
    report::run("events", ABOUT, || {
        rlimit::increase_nofile_limit(u64::MAX)
            .expect("the limit on open files can be raised to its maximum");
        let parts = [fan_out::measure, heartbeat::measure, burst::measure, slow::measure, instances::measure];
        parts.into_iter().flat_map(|measure| measure()).collect()
    })
}
