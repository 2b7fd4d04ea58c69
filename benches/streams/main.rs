//! Fifteen thousand open streams on one instance: their memory, their cost while nothing happens,
//! and how soon an event reaches all of them.

#[path = "../support/child.rs"]
mod child;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/instance.rs"]
mod instance;
#[path = "../support/memory.rs"]
mod memory;
#[path = "../support/processor.rs"]
mod processor;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/sample.rs"]
mod sample;
#[path = "../support/sse_clients.rs"]
mod sse_clients;
#[path = "../support/target.rs"]
mod target;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::Client;
use instance::Instance;
use report::Row;
use sample::quantile;
use sse_clients::{Receipt, SseClients};

/// As in the real binary: it packs what streams hold.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "One client process reads 15,000 streams on the same cores. Idle lasts 30 \
                     seconds, in which each stream gets two heartbeats. Latency begins before the \
                     publishing request is written and ends when the client reads the event; it \
                     covers all receipts of all events.";
const STREAMS: u32 = 15_000;
/// Streams that share a token, as tabs of one browser do; it only spares the client some requests.
const STREAMS_PER_TOKEN: u32 = 1_000;
/// Two heartbeats.
const IDLE: Duration = Duration::from_secs(30);
const EVENTS: u32 = 20;
const VANISHING: u32 = 1_000;
/// Between two events, so that each finds the server at rest.
const PAUSE: Duration = Duration::from_millis(500);
/// Far beyond any sensible latency.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    if child::is_measured() {
        instance::serve(None);
        return ExitCode::FAILURE;
    }
    report::run("streams", ABOUT, measure)
}

fn measure() -> Vec<Row> {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit on open files can be raised to its maximum");
    let instance = Instance::start("streams", &[("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")]);
    let mut client = Client::connect(instance.server());
    let mut clients = SseClients::new(STREAMS);

    let resident_bytes = || memory::resident_bytes(&instance.process.child.id().to_string());
    let at_rest = resident_bytes();
    let opening = open(&mut clients, &instance, &mut client);
    let memory = resident_bytes() - at_rest;

    let busy = instance.processor_seconds();
    clients.listen_for(IDLE);
    let idle = (instance.processor_seconds() - busy) / IDLE.as_secs_f64();

    let mut publisher = Client::connect(instance.server());
    let busy = instance.processor_seconds();
    let latencies: Vec<f64> =
        (1..=EVENTS).flat_map(|event| publish(&mut clients, &mut publisher, event)).collect();
    let delivering = instance.processor_seconds() - busy;
    let latency = |rank| quantile(latencies.clone(), rank) * 1e3;
    let resident = resident_bytes();
    let vanishing = vanish(&mut clients, &mut client);
    vec![
        Row::judged("resident memory of a stream", "<= 14 KB", memory / 1024.0 / f64::from(STREAMS)),
        Row::judged("processor while idle, of one core", "< 2 %", idle * 100.0),
        Row::figure("event to all streams, half of them within", latency(0.5), "ms"),
        Row::judged("event to all streams, 99 % within", "< 250 ms", latency(0.99)),
        Row::figure("event to all streams, the last within", latency(1.0), "ms"),
        Row::figure("processor time for one delivery", delivering * 1e6 / f64::from(STREAMS * EVENTS), "µs"),
        Row::figure("streams opened in a second", f64::from(STREAMS) / opening.as_secs_f64(), ""),
        Row::figure("resident memory with all streams", resident / 1024.0 / 1024.0, "MB"),
        Row::judged(
            "a thousand vanished clients counted out within",
            "< 1000 ms",
            vanishing.as_secs_f64() * 1e3,
        ),
    ]
}

/// Opens all streams; says how long it took.
fn open(clients: &mut SseClients, instance: &Instance, client: &mut Client) -> Duration {
    let started = Instant::now();
    for _ in 0..STREAMS / STREAMS_PER_TOKEN {
        let target = format!("/operator/api/events/stream?token={}", client.issue());
        clients.open(instance.address, &target, STREAMS_PER_TOKEN, started + PATIENCE);
    }
    started.elapsed()
}

/// Closes a thousand streams; says how long until the server has noticed. Nothing is sent on any
/// stream meanwhile.
fn vanish(clients: &mut SseClients, client: &mut Client) -> Duration {
    clients.listen_for(PAUSE);
    let started = Instant::now();
    clients.vanish(VANISHING);
    while open_streams(client) > u64::from(STREAMS - VANISHING) {
        assert!(started.elapsed() < PATIENCE, "the streams are still counted");
    }
    started.elapsed()
}

fn open_streams(client: &mut Client) -> u64 {
    client.send("GET /operator/internal/cache-stats", "application/json", "");
    let (_, body) = client.receive();
    let figures: serde_json::Value = serde_json::from_str(&body).expect("figures are JSON");
    figures["instance"]["streams"].as_u64().expect("the figures count streams")
}

/// Publishes the event with the number `event` and waits until all have it; says after how many
/// seconds each had.
fn publish(clients: &mut SseClients, publisher: &mut Client, event: u32) -> Vec<f64> {
    clients.listen_for(PAUSE);
    let body = format!(r#"{{"event": "bench", "data": {{"number":{event}}}}}"#);
    let started = Instant::now();
    publisher.send("POST /operator/api/events", "application/json", &body);
    let receipts = clients.receive(STREAMS as usize, started + PATIENCE);
    publisher.receive();
    let latency = |receipt: Receipt| {
        assert_eq!(receipt.number, event, "a stream got another event");
        receipt.at.duration_since(started).as_secs_f64()
    };
    receipts.into_iter().map(latency).collect()
}
