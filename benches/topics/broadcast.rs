//! One event to fifteen thousand streams: on one topic, on `default`, and on the previous release.

use std::path::Path;
use std::time::{Duration, Instant};

use vx11_kit::previous_release;

use crate::delivery::{PATIENCE, deliver};
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::schedule::Schedule;
use crate::server::{Channel, Server};
use crate::sse_clients::SseClients;
use crate::{PUBLISHERS, SIZE, STREAMS, publishers};

/// Name and unit of a figure, and where a turn has it.
type Figure = (&'static str, &'static str, fn(&Turn) -> f64);

/// Of each; odd, so that the median is a round.
const ROUNDS: u32 = 5;
/// Events at random moments, so many on average a second.
const RATE: u32 = 4;
const EVENTS: u32 = 48;
/// Streams that share a token, as tabs of one browser do; it only spares the client some requests.
const STREAMS_PER_TOKEN: u32 = 1_000;

/// Result of a turn.
struct Turn {
    /// Microseconds of the server's processor time for one delivery.
    cost: f64,
    /// Milliseconds.
    p50: f64,
    p99: f64,
}

/// The turns of a round: of the previous release, of `default`, of one topic.
type Round = [Turn; 3];

pub(crate) fn measure() -> Vec<Row> {
    let executable = previous_release("release");
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        say(&format!("{STREAMS} streams of one topic or of `default`, round {number} of {ROUNDS}"));
        rounds.push(round(&executable, number));
    }
    let median = |of: &dyn Fn(&Round) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
    let ratio =
        |of: fn(&Turn) -> f64, one: usize, other: usize| median(&|round| of(&round[one]) / of(&round[other]));
    let [previous, default, topic] = [0, 1, 2];
    let mut rows = vec![
        Row::judged(
            "all on one topic, processor time for one delivery / previous release",
            "<= 1.05",
            ratio(|turn| turn.cost, topic, previous),
        ),
        Row::judged(
            "all on one topic, processor time for one delivery / on default",
            "<= 1.05",
            ratio(|turn| turn.cost, topic, default),
        ),
        Row::figure(
            "all on default, processor time for one delivery / previous release",
            ratio(|turn| turn.cost, default, previous),
            "",
        ),
        Row::figure(
            "all on one topic, 99 % within / previous release",
            ratio(|turn| turn.p99, topic, previous),
            "",
        ),
        Row::figure("all on one topic, 99 % within / on default", ratio(|turn| turn.p99, topic, default), ""),
    ];
    let figures: [Figure; 3] = [
        ("processor time for one delivery", "µs", |turn| turn.cost),
        ("99 % within", "ms", |turn| turn.p99),
        ("half within", "ms", |turn| turn.p50),
    ];
    let turns = [(topic, "on one topic"), (default, "on default"), (previous, "on the previous release")];
    for (what, unit, of) in figures {
        for (turn, name) in turns {
            rows.push(Row::figure(&format!("all {name}, {what}"), median(&|round| of(&round[turn])), unit));
        }
    }
    rows
}

/// A turn of each, in another order than in the round before.
fn round(previous: &Path, seed: u32) -> Round {
    let run: [&dyn Fn() -> Turn; 3] = [
        &|| turn(&Instance::of(previous, &[]), None, seed),
        &|| turn(&Instance::start(&[]), None, seed),
        &|| turn(&Instance::start(&[]), Some(0), seed),
    ];
    let mut turns = [None, None, None];
    for step in 0..turns.len() {
        let place = (step + seed as usize) % turns.len();
        turns[place] = Some(run[place]());
    }
    turns.map(|turn| turn.expect("each has had its turn"))
}

/// Opens all streams on a fresh server, and publishes to all of them.
fn turn(server: &Instance, channel: Channel, seed: u32) -> Turn {
    let mut clients = SseClients::new(STREAMS);
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..STREAMS / STREAMS_PER_TOKEN {
        clients.open(server.address(), &server.target(channel), STREAMS_PER_TOKEN, deadline);
    }
    // The first ones do not count: buffers, caches, the processor's clock.
    let first = Schedule::regular(3, Duration::from_millis(500), SIZE).each_to(|| channel);
    deliver(&mut clients, STREAMS, &first, publishers(server, PUBLISHERS));
    let schedule = Schedule::random(EVENTS, Duration::from_secs(1) / RATE, SIZE, seed.into());
    let publishers = publishers(server, PUBLISHERS);
    let busy = server.processor_seconds();
    let delivered = deliver(&mut clients, STREAMS, &schedule.each_to(|| channel), publishers);
    let busy = server.processor_seconds() - busy;
    let latencies: Vec<_> = delivered.iter().map(|delivered| delivered.after).collect();
    Turn {
        cost: busy * 1e6 / f64::from(STREAMS * EVENTS),
        p50: quantile(latencies.clone(), 0.5),
        p99: quantile(latencies, 0.99),
    }
}
