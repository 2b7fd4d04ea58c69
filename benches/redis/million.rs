//! A million live tokens: what they take, and what they change.

use std::time::{Duration, Instant};

use crate::http::{Client, ISSUE};
use crate::instance::Instance;
use crate::load::Load;
use crate::progress::say;
use crate::report::Row;
use crate::rounds::{alternate, median};
use crate::sample::quantile;
use crate::server::Redis;

const TOKENS: u32 = 1_000_000;
/// The longest there is: the million must live until all is measured.
const LONG_LIFE: &str = "900";
/// One turn of the two loads: what a round adds is gone before the next round of the same load
/// ends.
const SHORT_LIFE: &str = "4";
const ROUNDS: usize = 8;
const ROUND_SECONDS: u32 = 2;
const CALLS: usize = 50;
/// Time for the instances to exchange member records.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn measure() -> Vec<Row> {
    let [full, empty] = [Redis::start(), Redis::start()];
    let issuer = full.instance("issuer", "2", LONG_LIFE);
    let (memory, keys) = (full.memory(), full.keys());
    fill(&full, &issuer);
    let bytes = (full.memory() - memory) / f64::from(full.keys() - keys);

    let beside_million = full.instance("million", "1", SHORT_LIFE);
    let beside_none = empty.instance("none", "1", SHORT_LIFE);
    let calls = ask_for_figures(&beside_million);

    say("issuing, in turn with a million tokens in Redis and with none");
    let loads = || [&beside_none, &beside_million].map(|it| Load::post(it.server(), ISSUE, "text/plain", ""));
    let rounds = alternate(ROUNDS, loads, |load| load.run(ROUND_SECONDS));
    let ratio = median(&rounds, |[none, million]| million.per_second / none.per_second);
    vec![
        Row::judged("one of a million tokens in Redis", "<= 200 B", bytes),
        Row::figure(
            "cache-stats of a million tokens, half of the calls within",
            quantile(calls.clone(), 0.5),
            "ms",
        ),
        Row::judged("cache-stats of a million tokens, all calls within", "< 20 ms", quantile(calls, 1.0)),
        Row::judged(
            "issue, throughput beside a million tokens / beside none (noise is 0.1)",
            ">= 0.90",
            ratio,
        ),
        Row::figure(
            "issue beside a million tokens, requests a second",
            median(&rounds, |[_, it]| it.per_second),
            "",
        ),
    ]
}

/// Has a million tokens issued.
fn fill(redis: &Redis, issuer: &Instance) {
    say("issuing a million tokens");
    let load = Load::post(issuer.server(), ISSUE, "text/plain", "");
    let mut most_in_a_second = 0.0_f64;
    while f64::from(TOKENS.saturating_sub(redis.keys())) > most_in_a_second {
        most_in_a_second = most_in_a_second.max(load.run(1).requests);
    }
    let mut client = Client::connect(issuer.server());
    for _ in redis.keys()..TOKENS {
        client.issue();
    }
}

/// Milliseconds that each of some calls takes.
fn ask_for_figures(instance: &Instance) -> Vec<f64> {
    say("asking for the figures of a million tokens");
    let mut client = Client::connect(instance.server());
    let mut ask = || {
        client.send("GET /operator/internal/cache-stats", "text/plain", "");
        let (_, body) = client.receive();
        let figures: serde_json::Value = serde_json::from_str(&body).expect("figures are JSON");
        figures["cache_size"].as_u64().expect("the figures count tokens")
    };
    let started = Instant::now();
    while ask() < u64::from(TOKENS) * 99 / 100 {
        assert!(started.elapsed() < PATIENCE, "the figures do not count a million tokens");
    }
    let calls = (0..CALLS).map(|_| {
        let asked = Instant::now();
        ask();
        asked.elapsed().as_secs_f64() * 1e3
    });
    calls.collect()
}
