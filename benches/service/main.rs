//! Cost of the service: issuing and introspection against constant answers of the same size behind
//! the same middleware.

#[path = "../support/child.rs"]
mod child;
#[path = "../support/constant.rs"]
mod constant;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/instance.rs"]
mod instance;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/processor.rs"]
mod processor;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/rounds.rs"]
mod rounds;
#[path = "../support/sample.rs"]
mod sample;
#[path = "../support/target.rs"]
mod target;

use std::process::ExitCode;

use actix_web::web::ServiceConfig;

use http::{Client, ISSUE};
use instance::Instance;
use load::Load;
use report::Row;
use rounds::{Costed, alternate, costed, median};

/// As in the real binary: it shapes both speed and memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "wrk with 128 connections loads one instance with a memory store. Rounds with \
                     the real endpoint and with a constant answer of the same size alternate. A \
                     ratio is taken round by round; the median counts. Tokens live 10 seconds, so \
                     that expiry is part of the measurement.";
/// Many short rounds: what else the machine does then falls on few of them, and on both loads
/// alike.
const ROUNDS: usize = 15;
const ROUND_SECONDS: u32 = 2;
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const FORM: &str = "application/x-www-form-urlencoded";
/// Size of the answer to issuing.
const ISSUED: &str = r#"{"sse_token":"00000000-0000-8000-8000-000000000000","token_id":"0000000000000000","expires_in":10,"expires_at":"2026-01-03T20:00:00.000Z","instance_id":"1","backend":"memory"}"#;
const SETTINGS: [(&str, &str); 3] = [
    ("EPHEMERAL_TOKEN_TTL_SEC", "10"),
    // More room than an instance has by default: no client issues at this rate.
    ("VX11_OPERATOR__MEMORY__MAX_ENTRIES", "20000000"),
    ("VX11_OPERATOR__MEMORY__MAX_BYTES", "4000000000"),
];

fn main() -> ExitCode {
    if child::is_measured() {
        instance::serve(Some(routes));
        return ExitCode::FAILURE;
    }
    report::run("service", ABOUT, measure)
}

fn routes(config: &mut ServiceConfig) {
    constant::routes(config, ISSUED);
}

fn measure() -> Vec<Row> {
    let instance = Instance::start("service", &SETTINGS);
    let mut client = Client::connect(instance.server());

    constant::assert_alike(&mut client, ISSUE, constant::BESIDE_ISSUE, FORM, "");
    let mut rows = compare(&instance, "issue", || {
        [constant::BESIDE_ISSUE, ISSUE].map(|path| Load::post(instance.server(), path, FORM, ""))
    });

    let form = |client: &mut Client| format!("token={}", client.issue());
    let body = form(&mut client);
    constant::assert_alike(&mut client, INTROSPECT, constant::BESIDE_INTROSPECT, FORM, &body);
    rows.extend(compare(&instance, "introspect", || {
        // A fresh token for each round, because it must outlive the round.
        let body = form(&mut Client::connect(instance.server()));
        [constant::BESIDE_INTROSPECT, INTROSPECT].map(|path| Load::post(instance.server(), path, FORM, &body))
    }));
    rows
}

/// Rounds of both loads in turn: first the constant answer, then the real one.
fn compare(instance: &Instance, name: &str, loads: impl Fn() -> [Load; 2]) -> Vec<Row> {
    let rounds = alternate(ROUNDS, loads, |load| costed(instance, load, ROUND_SECONDS));
    let median = |of: fn(&[Costed; 2]) -> f64| median(&rounds, of);
    let ratio = median(|[constant, real]| real.0.per_second / constant.0.per_second);
    let title = |what: &str| format!("{name}, {what}");
    let beside = |what: &str| format!("constant beside {name}, {what}");
    vec![
        Row::judged(&title("throughput / constant"), ">= 0.80", ratio),
        Row::figure(&title("requests a second"), median(|[_, it]| it.0.per_second), ""),
        Row::figure(&beside("requests a second"), median(|[it, _]| it.0.per_second), ""),
        Row::figure(&title("99 % within"), median(|[_, it]| it.0.p99), "ms"),
        Row::figure(&beside("99 % within"), median(|[it, _]| it.0.p99), "ms"),
        Row::figure(&title("processor time for one"), median(|[_, it]| it.1), "µs"),
        Row::figure(&beside("processor time for one"), median(|[it, _]| it.1), "µs"),
    ]
}
