//! The whole way a request takes: through nginx, an instance and Redis. What more instances bring,
//! what each part costs, and what a stream costs nginx: the constants of `docs/scaling.md`.

#[path = "../support/load.rs"]
mod load;
#[path = "../support/memory.rs"]
mod memory;
#[path = "../support/processor.rs"]
mod processor;
#[path = "../support/progress.rs"]
mod progress;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/sample.rs"]
mod sample;
mod streams;
mod testbed;
mod throughput;

use std::process::ExitCode;

const ABOUT: &str = "wrk, nginx with the configuration that ships and one worker for each core, instances and Redis, all on \
                     the same cores: these are full with one instance already, so more of them show what \
                     they cost and not what they bring. One to three instances take turns, round after \
                     round. Processor time is that of all processes of a kind, for one request. Tokens live 12 seconds.";

fn main() -> ExitCode {
    report::run("cluster", ABOUT, || {
        let testbed = testbed::Testbed::start();
        let mut rows = throughput::measure(&testbed);
        rows.extend(streams::measure(&testbed));
        rows
    })
}
