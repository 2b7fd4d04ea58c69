//! Cost of Redis: issuing and introspection with it, against constant answers of the same server, a
//! pool's checkout for each request, and a reference of the predecessor; the effect of a million
//! live tokens; and opening streams.

mod checkout;
#[path = "../support/child.rs"]
mod child;
#[path = "../support/constant.rs"]
mod constant;
mod forged;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/instance.rs"]
mod instance;
#[path = "../support/load.rs"]
mod load;
mod million;
mod openings;
mod predecessor;
#[path = "../support/previous.rs"]
mod previous;
#[path = "../support/processor.rs"]
mod processor;
#[path = "../support/progress.rs"]
mod progress;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/rounds.rs"]
mod rounds;
#[path = "../support/sample.rs"]
mod sample;
mod server;
#[path = "../support/sse_clients.rs"]
#[expect(dead_code, reason = "events are measured by other benchmarks")]
mod sse_clients;
#[path = "../support/target.rs"]
mod target;
mod throughput;

use std::process::ExitCode;

use actix_web::web::ServiceConfig;

/// As in the real binary: it shapes both speed and memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "wrk with 128 connections loads one instance with one Redis, all on the same \
                     cores. Rounds of what is compared alternate. A ratio is taken round by \
                     round; the median counts. Tokens live 1 second while issuing is measured, so \
                     that as many expire as are issued. The checkout is a route of the same \
                     server that only records a token, on a connection from a deadpool of the \
                     default size. The Python reference (benches/redis/predecessor) is FastAPI \
                     and redis-py in two workers of uvicorn with its defaults, on the same Redis. \
                     An instance issued the million tokens. Streams are opened 500 in a round, up \
                     to 256 at a time, and 40 one after the other; a limit of the subject is 5, \
                     and each stream has another subject. The previous release \
                     (.ci/previous-release) is built with the same profile, and has a separate \
                     Redis. The commands of an idle instance are subtracted.";
/// Size of the answer to issuing.
const ISSUED: &str = r#"{"sse_token":"00000000-0000-8000-8000-000000000000","token_id":"0000000000000000","expires_in":1,"expires_at":"2026-01-03T20:00:00.000Z","instance_id":"1","backend":"redis"}"#;

fn main() -> ExitCode {
    if child::is_measured() {
        instance::serve(Some(routes));
        return ExitCode::FAILURE;
    }
    report::run("redis", ABOUT, || {
        let mut rows = throughput::measure();
        rows.extend(million::measure());
        rows.extend(forged::measure());
        rows.extend(openings::measure());
        rows
    })
}

fn routes(config: &mut ServiceConfig) {
    constant::routes(config, ISSUED);
    checkout::route(config, ISSUED);
}
