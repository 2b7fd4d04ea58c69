//! Events to topics that nobody reads, and what they cost fifteen thousand streams of other topics.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::sse_clients::SseClients;
use crate::{HEARTBEAT, PUBLISHERS, SIZE, STREAMS, open, publishers};

/// Odd, so that the median is a round.
const ROUNDS: u32 = 3;
/// Events a second.
const RATE: u32 = 1_000;
/// As many as there are in a period in which each stream has one heartbeat.
const EVENTS: u32 = RATE * 15;

pub(crate) fn measure() -> Vec<Row> {
    say(&format!("{RATE} events a second beside {STREAMS} quiet streams and beside none, {ROUNDS} rounds"));
    let [quiet, empty] = [Instance::start(&[]), Instance::start(&[])];
    let mut clients = SseClients::new(STREAMS);
    open(&mut clients, &quiet, (0..STREAMS).map(Some));
    // One that does not count.
    load(&mut clients, &empty, 0);
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        let idle = share(&quiet, || clients.listen_for(HEARTBEAT));
        let [with, without] = [&quiet, &empty].map(|server| load(&mut clients, server, number));
        rounds.push([idle, with, without]);
    }
    let median = |of: fn(&[f64; 3]) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
    let difference = median(|[_, with, without]| with - without);
    vec![
        Row::judged("quiet streams beside 1,000 events a second, of one core", "< 5 %", difference),
        Row::figure("quiet streams without events, of one core", median(|[idle, ..]| *idle), "%"),
        Row::figure("1,000 events a second beside quiet streams, of one core", median(|[_, it, _]| *it), "%"),
        Row::figure("1,000 events a second without streams, of one core", median(|[.., it]| *it), "%"),
    ]
}

/// Publishes to topics that nobody reads; the share of a core that the server takes.
fn load(clients: &mut SseClients, server: &Instance, seed: u32) -> f64 {
    let mut chance = Rng::with_seed(seed.into());
    let schedule = Schedule::regular(EVENTS, Duration::from_secs(1) / RATE, SIZE);
    let schedule = schedule.each_to(|| Some(STREAMS + chance.u32(..STREAMS)));
    let publishers = publishers(server, PUBLISHERS);
    share(server, || {
        let publishing = schedule.run(publishers);
        let delivered = clients.listen_for(HEARTBEAT);
        assert_eq!(delivered, 0, "an event has reached a stream of another topic");
        publishing.join().expect("publishing succeeds");
    })
}

/// Share of a core that the server takes meanwhile, in %.
fn share<T>(server: &Instance, meanwhile: impl FnOnce() -> T) -> f64 {
    let (busy, started) = (server.processor_seconds(), Instant::now());
    meanwhile();
    (server.processor_seconds() - busy) / started.elapsed().as_secs_f64() * 100.0
}
