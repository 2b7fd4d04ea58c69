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

const ABOUT: &str = "wrk, nginx as shipped with one worker for each core, the instances and Redis \
                     share the same cores. One instance already fills these, so further instances \
                     show what they cost and not what they bring. One, two and three instances \
                     take turns, round after round. Processor time is that of all processes of a \
                     kind, for one request. Tokens live 12 seconds.";

fn main() -> ExitCode {
    report::run("cluster", ABOUT, || {
        let testbed = testbed::Testbed::start();
        let mut rows = throughput::measure(&testbed);
        rows.extend(streams::measure(&testbed));
        rows
    })
}
