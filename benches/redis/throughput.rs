//! Issuing and introspection with Redis, beside all they are compared with.

use crate::checkout::CHECKOUT;
use crate::constant::{BESIDE_INTROSPECT, BESIDE_ISSUE, assert_alike};
use crate::http::{Client, ISSUE};
use crate::instance::Instance;
use crate::load::{Load, Round};
use crate::predecessor::Predecessor;
use crate::progress::say;
use crate::report::Row;
use crate::rounds::{Costed, alternate, costed, median};
use crate::server::{Redis, ceiling};

/// Many short rounds: what else the machine does then falls on few of them, and on all loads alike.
const ROUNDS: usize = 12;
/// Against the reference, where the difference is not a matter of percents.
const ROUNDS_BESIDE_PYTHON: usize = 4;
const ROUND_SECONDS: u32 = 3;
/// Seconds: as many tokens expire as are issued for most of a round, and about as many live as in a
/// busy deployment.
const LIFE: &str = "1";
/// Seconds: more than a round.
const LONG_LIFE: &str = "12";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

pub(crate) fn measure() -> Vec<Row> {
    say("redis-benchmark, with nothing beside it");
    let ceiling = Row::figure("redis-benchmark, records a second, 64 at a time", ceiling(), "");
    let redis = Redis::start();
    let issuer = redis.instance("issuing", "1", LIFE);
    let mut rows = issuing(&issuer);
    rows.push(ceiling);
    let introspector = redis.instance("introspecting", "2", LONG_LIFE);
    rows.extend(introspecting(&introspector));
    rows.extend(beside_python(&redis, &introspector));
    let openings: f64 = [&issuer, &introspector].map(openings_of_breaker).iter().sum();
    rows.push(Row::judged("openings of the breaker under all this load", "<= 0", openings));
    rows
}

fn issuing(instance: &Instance) -> Vec<Row> {
    say("issuing, between constant answers and checkouts from a pool");
    assert_alike(&mut Client::connect(instance.server()), ISSUE, BESIDE_ISSUE, FORM, "");
    let loads = || [BESIDE_ISSUE, ISSUE, CHECKOUT].map(|path| Load::post(instance.server(), path, FORM, ""));
    let rounds = alternate(ROUNDS, loads, |load| costed(instance, load, ROUND_SECONDS));
    let median = |of: fn(&[Costed; 3]) -> f64| median(&rounds, of);
    let ratio = median(|[constant, real, _]| real.0.per_second / constant.0.per_second);
    let pooled = median(|[constant, _, pooled]| pooled.0.per_second / constant.0.per_second);
    vec![
        Row::judged("issue, throughput / constant", ">= 0.70", ratio),
        Row::figure("a checkout for each request, throughput / constant", pooled, ""),
        Row::figure("issue, requests a second", median(|[_, it, _]| it.0.per_second), ""),
        Row::figure("constant beside issue, requests a second", median(|[it, ..]| it.0.per_second), ""),
        Row::figure("a checkout for each, requests a second", median(|[.., it]| it.0.per_second), ""),
        Row::figure("issue, 99 % within", median(|[_, it, _]| it.0.p99), "ms"),
        Row::figure("constant beside issue, 99 % within", median(|[it, ..]| it.0.p99), "ms"),
        Row::figure("a checkout for each, 99 % within", median(|[.., it]| it.0.p99), "ms"),
        Row::figure("issue, the instance's processor time for one", median(|[_, it, _]| it.1), "µs"),
        Row::figure("constant beside issue, processor time for one", median(|[it, ..]| it.1), "µs"),
    ]
}

fn introspecting(instance: &Instance) -> Vec<Row> {
    say("introspecting, between constant answers");
    let form = || format!("token={}", Client::connect(instance.server()).issue());
    assert_alike(&mut Client::connect(instance.server()), INTROSPECT, BESIDE_INTROSPECT, FORM, &form());
    let loads = || {
        // A fresh token for each turn, because it must outlive the turn.
        let body = form();
        [BESIDE_INTROSPECT, INTROSPECT].map(|path| Load::post(instance.server(), path, FORM, &body))
    };
    let rounds = alternate(ROUNDS, loads, |load| costed(instance, load, ROUND_SECONDS));
    let median = |of: fn(&[Costed; 2]) -> f64| median(&rounds, of);
    let ratio = median(|[constant, real]| real.0.per_second / constant.0.per_second);
    vec![
        Row::judged("introspect, throughput / constant", ">= 0.75", ratio),
        Row::figure("introspect, requests a second", median(|[_, it]| it.0.per_second), ""),
        Row::figure("constant beside introspect, requests a second", median(|[it, _]| it.0.per_second), ""),
        Row::figure("introspect, 99 % within", median(|[_, it]| it.0.p99), "ms"),
        Row::figure("constant beside introspect, 99 % within", median(|[it, _]| it.0.p99), "ms"),
    ]
}

fn beside_python(redis: &Redis, instance: &Instance) -> Vec<Row> {
    let reference = Predecessor::start(&redis.settings(LONG_LIFE));
    let servers = [reference.server(), instance.server()];
    say("issuing, in turn with the Python reference");
    let issue = || servers.map(|server| Load::post(server, ISSUE, FORM, ""));
    let run = |load: &Load| load.run(ROUND_SECONDS);
    let issued = alternate(ROUNDS_BESIDE_PYTHON, issue, run);
    say("introspecting, in turn with the Python reference");
    let introspect = || {
        servers.map(|server| {
            let body = format!(r#"{{"token":"{}"}}"#, Client::connect(server).issue());
            Load::post(server, INTROSPECT, JSON, &body)
        })
    };
    let introspected = alternate(ROUNDS_BESIDE_PYTHON, introspect, run);
    let times = |[python, ours]: &[Round; 2]| ours.per_second / python.per_second;
    let python = |[it, _]: &[Round; 2]| it.per_second;
    let python_p99 = |[it, _]: &[Round; 2]| it.p99;
    vec![
        Row::judged("issue, times the Python reference", ">= 15", median(&issued, times)),
        Row::figure("Python reference, issues a second", median(&issued, python), ""),
        Row::figure("Python reference, issue, 99 % within", median(&issued, python_p99), "ms"),
        Row::figure("introspect, times the Python reference", median(&introspected, times), ""),
        Row::figure("Python reference, introspections a second", median(&introspected, python), ""),
    ]
}

/// With the breaker open an instance issues without Redis, and that would be what was measured.
fn openings_of_breaker(instance: &Instance) -> f64 {
    const OPENED: &str = r#"vx11_operator_breaker_transitions_total{to="open","#;
    let mut client = Client::connect(instance.server());
    client.send("GET /metrics", JSON, "");
    let (_, page) = client.receive();
    let line = page.lines().find(|line| line.starts_with(OPENED));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.expect("the metrics count openings of the breaker")
}
