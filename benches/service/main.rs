//! Cost of the service: issuing and introspection against constant answers of the same size behind
//! the same middleware, and against the previous release; and the cost of a grant.

#[path = "../support/child.rs"]
mod child;
#[path = "../support/constant.rs"]
mod constant;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/instance.rs"]
mod instance;
mod jwt;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/previous.rs"]
mod previous;
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
use previous::Previous;
use report::Row;
use rounds::{Costed, alternate, costed, median};

/// As in the real binary: it shapes both speed and memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "wrk with 128 connections loads one instance with a memory store. Rounds with \
                     the real endpoint, with a constant answer of the same size, with a grant and \
                     with the previous release (.ci/previous-release, built with the same \
                     profile) alternate. A ratio is taken round by round; the median counts. A \
                     grant names a subject and two topics. Tokens live 12 seconds, so that expiry \
                     is part of the measurement.";
/// Many short rounds: what else the machine does then falls on few of them, and on all loads alike.
const ROUNDS: usize = 15;
const ROUND_SECONDS: u32 = 2;
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// Body of a request for a token with a grant.
const GRANT: &str = r#"{"subject": "user-7", "topics": ["users/7/*", "news"]}"#;
/// Size of the answer to issuing.
const ISSUED: &str = r#"{"sse_token":"00000000-0000-8000-8000-000000000000","token_id":"0000000000000000","expires_in":12,"expires_at":"2026-01-03T20:00:00.000Z","instance_id":"1","backend":"memory"}"#;
const SETTINGS: [(&str, &str); 3] = [
    ("EPHEMERAL_TOKEN_TTL_SEC", "12"),
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
    let previous = Previous::start(&SETTINGS);
    let instance = Instance::start("service", &SETTINGS);
    let mut client = Client::connect(instance.server());

    constant::assert_alike(&mut client, ISSUE, constant::BESIDE_ISSUE, FORM, "");
    let ours =
        |path: &str, content_type: &str, body: &str| Load::post(instance.server(), path, content_type, body);
    let mut rows = compare(&instance, "issue", || {
        [
            ours(constant::BESIDE_ISSUE, FORM, ""),
            ours(ISSUE, FORM, ""),
            ours(ISSUE, JSON, GRANT),
            Load::post(previous.server(), ISSUE, FORM, ""),
        ]
    });

    let form = |token: String| format!("token={token}");
    let body = form(client.issue());
    constant::assert_alike(&mut client, INTROSPECT, constant::BESIDE_INTROSPECT, FORM, &body);
    rows.extend(compare(&instance, "introspect", || {
        // Fresh tokens for each round, because they must outlive its four loads.
        let mut client = Client::connect(instance.server());
        let (plain, granted) = (form(client.issue()), form(client.issue_with(GRANT)));
        let of_previous = form(Client::connect(previous.server()).issue());
        [
            ours(constant::BESIDE_INTROSPECT, FORM, &plain),
            ours(INTROSPECT, FORM, &plain),
            ours(INTROSPECT, FORM, &granted),
            Load::post(previous.server(), INTROSPECT, FORM, &of_previous),
        ]
    }));
    rows.extend(jwt::measure());
    rows
}

/// Rounds of all loads in turn: the constant answer, the real one, one with a grant, and that of
/// the previous release, whose processor time is not measured.
fn compare(instance: &Instance, name: &str, loads: impl Fn() -> [Load; 4]) -> Vec<Row> {
    let rounds = alternate(ROUNDS, loads, |load| costed(instance, load, ROUND_SECONDS));
    let median = |of: fn(&[Costed; 4]) -> f64| median(&rounds, of);
    let title = |what: &str| format!("{name}, {what}");
    let granted = |what: &str| format!("{name} with a grant, {what}");
    let beside = |what: &str| format!("constant beside {name}, {what}");
    let by_constant = median(|[constant, real, ..]| real.0.per_second / constant.0.per_second);
    let by_previous = median(|[_, real, _, previous]| real.0.per_second / previous.0.per_second);
    let granted_by_previous =
        median(|[_, _, granted, previous]| granted.0.per_second / previous.0.per_second);
    let granted_by_plain = median(|[_, real, granted, _]| granted.0.per_second / real.0.per_second);
    vec![
        Row::judged(&title("throughput / constant"), ">= 0.80", by_constant),
        Row::judged(&title("throughput / previous release"), ">= 0.97", by_previous),
        Row::judged(&granted("throughput / previous release"), ">= 0.90", granted_by_previous),
        Row::figure(&granted("throughput / without"), granted_by_plain, ""),
        Row::figure(&title("requests a second"), median(|[_, it, ..]| it.0.per_second), ""),
        Row::figure(&granted("requests a second"), median(|[_, _, it, _]| it.0.per_second), ""),
        Row::figure(&beside("requests a second"), median(|[it, ..]| it.0.per_second), ""),
        Row::figure(&title("99 % within"), median(|[_, it, ..]| it.0.p99), "ms"),
        Row::figure(&granted("99 % within"), median(|[_, _, it, _]| it.0.p99), "ms"),
        Row::figure(&beside("99 % within"), median(|[it, ..]| it.0.p99), "ms"),
        Row::figure(&title("processor time for one"), median(|[_, it, ..]| it.1), "µs"),
        Row::figure(&granted("processor time for one"), median(|[_, _, it, _]| it.1), "µs"),
        Row::figure(&beside("processor time for one"), median(|[it, ..]| it.1), "µs"),
    ]
}
