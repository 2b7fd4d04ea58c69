//! One event to fifteen thousand streams: an instance of the service and nginx with nchan, in turn.

use std::time::{Duration, Instant};

use crate::delivery::{PATIENCE, deliver};
use crate::nchan::Nchan;
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::sse_clients::SseClients;

pub(crate) const STREAMS: u32 = 15_000;
/// Streams that share a token, as tabs of one browser do; it only spares the client some requests.
const STREAMS_PER_TOKEN: u32 = 1_000;
/// Of each; odd, so that the median is a round.
const ROUNDS: u32 = 5;
/// Bytes of an event's data.
const SIZE: usize = 256;
/// Connections that publish.
const PUBLISHERS: usize = 8;

/// Result of a round.
struct Round {
    /// Streams opened in a second.
    opening: f64,
    /// Bytes of a stream.
    memory: f64,
    /// Of events that each find the server at rest.
    lone: Delivery,
    /// Of events at any moment.
    random: Delivery,
}

struct Delivery {
    /// Milliseconds.
    p50: f64,
    p99: f64,
    /// Microseconds of the server's processor time for one.
    cost: f64,
    /// Processors that the server kept busy.
    load: f64,
}

/// One of its figures.
type Of = fn(&Round) -> f64;

pub(crate) fn measure() -> Vec<Row> {
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        say(&format!("{STREAMS} streams, vx11-operator and nchan in turn, round {number} of {ROUNDS}"));
        let operator = || round(&Instance::start(&[]), number);
        let nchan = || round(&Nchan::start(), number);
        // The second one runs on a warmer machine.
        rounds.push(if number % 2 == 0 {
            let operator = operator();
            (operator, nchan())
        } else {
            let nchan = nchan();
            (operator(), nchan)
        });
    }
    rows(&rounds)
}

fn rows(rounds: &[(Round, Round)]) -> Vec<Row> {
    let median = |of: &dyn Fn(&(Round, Round)) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
    let ratio = |of: Of| median(&|(operator, nchan)| of(operator) / of(nchan));
    let mut rows = vec![
        Row::judged(
            "random events, 99 % within, vx11-operator / nchan",
            "<= 0.60",
            ratio(|round| round.random.p99),
        ),
        Row::judged(
            "random events, half within, vx11-operator / nchan",
            "<= 0.80",
            ratio(|round| round.random.p50),
        ),
        Row::judged("memory of a stream, vx11-operator / nchan", "<= 1.20", ratio(|round| round.memory)),
        Row::figure("lone events, 99 % within, vx11-operator / nchan", ratio(|round| round.lone.p99), ""),
        Row::figure("lone events, half within, vx11-operator / nchan", ratio(|round| round.lone.p50), ""),
    ];
    let figures: [(&str, &str, Of); 9] = [
        ("random events, 99 % within", "ms", |round| round.random.p99),
        ("random events, half within", "ms", |round| round.random.p50),
        ("random events, processor time for one delivery", "µs", |round| round.random.cost),
        ("random events, busy processors", "", |round| round.random.load),
        ("lone events, 99 % within", "ms", |round| round.lone.p99),
        ("lone events, half within", "ms", |round| round.lone.p50),
        ("lone events, processor time for one delivery", "µs", |round| round.lone.cost),
        ("memory of a stream", "KB", |round| round.memory / 1024.0),
        ("streams opened in a second", "", |round| round.opening),
    ];
    for (what, unit, of) in figures {
        rows.push(Row::figure(
            &format!("{what}, vx11-operator"),
            median(&|(operator, _)| of(operator)),
            unit,
        ));
        rows.push(Row::figure(&format!("{what}, nchan"), median(&|(_, nchan)| of(nchan)), unit));
    }
    rows
}

/// Opens all streams on a fresh server, and publishes.
fn round(server: &impl Server, seed: u32) -> Round {
    let mut clients = SseClients::new(STREAMS);
    let at_rest = server.resident_bytes();
    let opening = open(&mut clients, server);
    // The first ones do not count: buffers, caches, the processor's clock.
    measured(&mut clients, server, &Schedule::regular(3, Duration::from_millis(500), SIZE));
    let lone = measured(&mut clients, server, &Schedule::regular(12, Duration::from_millis(500), SIZE));
    let random = Schedule::random(60, Duration::from_millis(250), SIZE, seed.into());
    let random = measured(&mut clients, server, &random);
    let memory = server.resident_bytes() - at_rest;
    let (opening, memory) = (f64::from(STREAMS) / opening.as_secs_f64(), memory / f64::from(STREAMS));
    Round { opening, memory, lone, random }
}

/// Opens all streams; says how long it took.
pub(crate) fn open(clients: &mut SseClients, server: &impl Server) -> Duration {
    let started = Instant::now();
    for _ in 0..STREAMS / STREAMS_PER_TOKEN {
        clients.open(server.address(), &server.target(None), STREAMS_PER_TOKEN, started + PATIENCE);
    }
    started.elapsed()
}

/// Publishes as scheduled; says what that came to.
fn measured(clients: &mut SseClients, server: &impl Server, schedule: &Schedule) -> Delivery {
    let publishers = (0..PUBLISHERS).map(|_| server.publisher()).collect();
    let (busy, started) = (server.processor_seconds(), Instant::now());
    let delivered = deliver(clients, STREAMS, schedule, publishers);
    let (busy, took) = (server.processor_seconds() - busy, started.elapsed());
    let latencies: Vec<_> = delivered.iter().map(|delivered| delivered.after).collect();
    Delivery {
        p50: quantile(latencies.clone(), 0.5),
        p99: quantile(latencies, 0.99),
        cost: busy * 1e6 / f64::from(STREAMS * schedule.events()),
        load: busy / took.as_secs_f64(),
    }
}
