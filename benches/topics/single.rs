//! Events for one of fifteen thousand streams: an instance of the service and nginx with nchan, in
//! turn.

use std::time::Duration;

use fastrand::Rng;

use crate::delivery::deliver;
use crate::nchan::Nchan;
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::sse_clients::SseClients;
use crate::{HEARTBEAT, PUBLISHERS, SIZE, STREAMS, open, publishers};

/// Of each; odd, so that the median is a round.
const ROUNDS: u32 = 3;
/// Events a second, for the times until they arrive.
const RATE: u32 = 200;
/// Events a second, for the processor time of one. At [`RATE`] the server falls asleep between two
/// events, and waking up costs more than the event.
const BUSY_RATE: u32 = 1_000;
/// Seconds of a load: a period in which each stream has one heartbeat.
const SECONDS: u32 = 15;
/// Time for an event to reach streams that it is not for.
const FURTHER: Duration = Duration::from_millis(500);

/// Result of a round.
struct Round {
    /// Events to topics drawn at random.
    any: Load,
    /// The same at [`BUSY_RATE`].
    busy: Load,
    /// Events to one topic.
    one: Load,
    /// Bytes of a stream.
    memory: f64,
}

struct Load {
    /// Streams that an event has reached.
    deliveries: f64,
    /// Microseconds of the server's processor time for one event.
    cost: f64,
    /// Milliseconds.
    p50: f64,
    p99: f64,
}

/// One of its figures.
type Of = fn(&Round) -> f64;

pub(crate) fn measure() -> Vec<Row> {
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        say(&format!(
            "{STREAMS} streams of {STREAMS} topics, vx11-operator and nchan, round {number} of {ROUNDS}"
        ));
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
    let figures: [(&str, &str, &str, Of); 10] = [
        ("one of many, streams that an event reaches", "<= 1", "", |round| round.any.deliveries),
        ("one of many, processor time for one event", "", "µs", |round| round.any.cost),
        ("one of many at 1,000 events a second, processor time for one event", "< 100 µs", "µs", |round| {
            round.busy.cost
        }),
        ("one of many, 99 % within", "< 5 ms", "ms", |round| round.any.p99),
        ("one of many, half within", "", "ms", |round| round.any.p50),
        ("all to one of many, streams that an event reaches", "<= 1", "", |round| round.one.deliveries),
        ("all to one of many, processor time for one event", "", "µs", |round| round.one.cost),
        ("all to one of many, 99 % within", "< 5 ms", "ms", |round| round.one.p99),
        ("all to one of many, half within", "", "ms", |round| round.one.p50),
        ("memory of a stream of a separate topic", "", "KB", |round| round.memory / 1024.0),
    ];
    let mut rows = Vec::new();
    for (what, target, unit, of) in figures {
        let (ours, name) = (median(&|(operator, _)| of(operator)), format!("{what}, vx11-operator"));
        rows.push(if target.is_empty() {
            Row::figure(&name, ours, unit)
        } else {
            Row::judged(&name, target, ours)
        });
        rows.push(Row::figure(&format!("{what}, nchan"), median(&|(_, nchan)| of(nchan)), unit));
    }
    rows
}

/// Opens all streams on a fresh server, each of a separate channel, and publishes.
fn round(server: &impl Server, seed: u32) -> Round {
    let mut clients = SseClients::new(STREAMS);
    let at_rest = server.resident_bytes();
    open(&mut clients, server, (0..STREAMS).map(Some));
    let mut chance = Rng::with_seed(seed.into());
    let mut any = || Some(chance.u32(..STREAMS));
    let schedule = |rate, seconds| Schedule::regular(rate * seconds, Duration::from_secs(1) / rate, SIZE);
    // The first ones do not count: buffers, caches, the processor's clock.
    deliver(&mut clients, 1, &schedule(RATE, 1).each_to(&mut any), publishers(server, PUBLISHERS));
    let memory = (server.resident_bytes() - at_rest) / f64::from(STREAMS);
    let busy = server.processor_seconds();
    clients.listen_for(HEARTBEAT);
    let idle = server.processor_seconds() - busy;
    let busy = load(&mut clients, server, &schedule(BUSY_RATE, SECONDS).each_to(&mut any), idle);
    let any = load(&mut clients, server, &schedule(RATE, SECONDS).each_to(any), idle);
    let one = load(&mut clients, server, &schedule(RATE, SECONDS).each_to(|| Some(0)), idle);
    Round { any, busy, one, memory }
}

/// Publishes for as long as a heartbeat is away, in which an idle server takes `idle` seconds of
/// processor time.
fn load(clients: &mut SseClients, server: &impl Server, schedule: &Schedule, idle: f64) -> Load {
    let publishers = publishers(server, PUBLISHERS);
    let events = schedule.events();
    let busy = server.processor_seconds();
    let delivered = deliver(clients, 1, schedule, publishers);
    let busy = server.processor_seconds() - busy - idle;
    let further = clients.listen_for(FURTHER);
    let reached = u32::try_from(delivered.len()).expect("a number of events is small") + further;
    let mut arrived: Vec<_> = delivered.iter().map(|delivered| delivered.event).collect();
    arrived.sort_unstable();
    arrived.dedup();
    assert!(reached > events || arrived.len() == events as usize, "an event has reached no stream");
    let latencies: Vec<_> = delivered.iter().map(|delivered| delivered.after).collect();
    Load {
        deliveries: f64::from(reached) / f64::from(events),
        cost: busy * 1e6 / f64::from(events),
        p50: quantile(latencies.clone(), 0.5),
        p99: quantile(latencies, 0.99),
    }
}
