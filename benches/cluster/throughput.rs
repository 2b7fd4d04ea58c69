//! Issuing and introspecting through nginx with one, two and three instances.

use crate::load::{Load, Round};
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::testbed::{MOST, Part, Testbed};

/// Rounds of each kind; the median counts.
const ROUNDS: usize = 5;
const SECONDS: u32 = 3;
/// So few that nobody waits for a processor: what is left is the way itself.
const FEW: u32 = 2;
/// Shorter than a token lives.
const QUIET_SECONDS: u32 = 2;
const ISSUE: &str = "/operator/api/events/sse-token";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const FORM: &str = "application/x-www-form-urlencoded";

/// A round, and what it cost: microseconds of nginx, the instances and Redis for one request.
struct Costed {
    round: Round,
    cost: [f64; 3],
}

pub(crate) fn measure(testbed: &Testbed) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, path) in [("issue", ISSUE), ("introspect", INTROSPECT)] {
        say(&format!("{what} through nginx, with one to {MOST} instances in turn"));
        let body = || match path {
            INTROSPECT => format!("token={}", testbed.token()),
            _ => String::new(),
        };
        let rounds: Vec<[Costed; MOST]> = (0..ROUNDS)
            .map(|_| {
                [1, 2, 3]
                    .map(|count| costed(testbed, &Load::post(testbed.balancer(count), path, FORM, &body())))
            })
            .collect();
        let median = |of: &dyn Fn(&[Costed; MOST]) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
        for index in 0..MOST {
            let with = instances(index + 1);
            rows.push(Row::figure(
                &format!("{what}, {with}, requests a second"),
                median(&|r| r[index].round.per_second),
                "",
            ));
            rows.push(Row::figure(
                &format!("{what}, {with}, 99 % within"),
                median(&|r| r[index].round.p99),
                "ms",
            ));
        }
        let ratio = median(&|rounds| rounds[MOST - 1].round.per_second / rounds[0].round.per_second);
        // On two cores that one fills, six workers are more switches and smaller batches; what they
        // bring, they bring on other machines.
        rows.push(Row::judged(&format!("{what}, {MOST} instances / 1 instance"), ">= 0.70", ratio));
        for (part, name) in ["nginx", "the instance", "Redis"].into_iter().enumerate() {
            let cost = median(&|r| r[0].cost[part]);
            rows.push(Row::figure(&format!("{what}, processor time of {name} for one"), cost, "µs"));
        }
        let way = |server| Load::post(server, path, FORM, &body()).run_with(FEW, QUIET_SECONDS).p99;
        let quiet: Vec<_> =
            (0..ROUNDS).map(|_| (way(testbed.instance()), way(testbed.balancer(MOST)))).collect();
        let direct = quantile(quiet.iter().map(|(direct, _)| *direct).collect(), 0.5);
        let through = quantile(quiet.iter().map(|(_, through)| *through).collect(), 0.5);
        rows.push(Row::figure(&format!("{what}, two at a time, to an instance, 99 % within"), direct, "ms"));
        rows.push(Row::figure(&format!("{what}, two at a time, through nginx, 99 % within"), through, "ms"));
    }
    rows.extend(traffic(testbed));
    testbed.assert_well();
    rows
}

fn costed(testbed: &Testbed, load: &Load) -> Costed {
    let now = || [Part::Nginx, Part::Instances, Part::Redis].map(|part| testbed.processor_seconds(part));
    let before = now();
    let round = load.run(SECONDS);
    let after = now();
    let cost = [0, 1, 2].map(|part: usize| (after[part] - before[part]) * 1e6 / round.requests);
    Costed { round, cost }
}

/// Network traffic of one token between the instances and Redis.
fn traffic(testbed: &Testbed) -> Vec<Row> {
    say("bytes to Redis and back for one token");
    let mut rows = Vec::new();
    for (what, path) in [("issued", ISSUE), ("introspected", INTROSPECT)] {
        let body = if path == INTROSPECT { format!("token={}", testbed.token()) } else { String::new() };
        let before = testbed.redis_traffic();
        let round = Load::post(testbed.balancer(MOST), path, FORM, &body).run(SECONDS);
        let after = testbed.redis_traffic();
        let to = (after.0 - before.0) / round.requests;
        let from = (after.1 - before.1) / round.requests;
        rows.push(Row::figure(&format!("bytes to Redis for a token {what}"), to, "B"));
        rows.push(Row::figure(&format!("bytes from Redis for a token {what}"), from, "B"));
    }
    rows
}

fn instances(count: usize) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}
