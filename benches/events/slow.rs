//! Some clients stop reading, and what the others notice of it.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::delivery::{PATIENCE, deliver};
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::sse_clients::SseClients;

const OTHERS: u32 = 3_800;
/// One of twenty.
const SLOW: u32 = 200;
/// With and without; odd, so that the median is a round.
const ROUNDS: u32 = 5;
/// Bytes of an event's data; so many that buffers are soon full.
const SIZE: usize = 4096;
/// Before it counts: more than fits into the buffers between a server and a client that does not
/// read.
const FILLING: (u32, Duration) = (60, Duration::from_millis(80));
/// Over before the kernel cuts whoever has taken nothing for 20 seconds.
const MEASURED: (u32, Duration) = (50, Duration::from_millis(200));

/// Result of a round.
struct Round {
    /// Milliseconds within which 99 % of the others' events came.
    p99: f64,
    /// Bytes by which the server has grown.
    growth: f64,
    /// Bytes in the kernel's send queues of the slow ones.
    queued: f64,
}

pub(crate) fn measure() -> Vec<Row> {
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        say(&format!("{SLOW} of {} streams stop reading, or not, round {number} of {ROUNDS}", OTHERS + SLOW));
        rounds.push(if number % 2 == 0 {
            let with = round(true);
            (with, round(false))
        } else {
            let without = round(false);
            (round(true), without)
        });
    }
    let median = |of: &dyn Fn(&(Round, Round)) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
    let memory = median(&|(with, without)| with.growth - without.growth) / f64::from(SLOW);
    let queued = median(&|(with, _)| with.queued) / f64::from(SLOW);
    vec![
        Row::judged(
            "slow readers, the others' 99 % within, with / without",
            "<= 1.10",
            median(&|(with, without)| with.p99 / without.p99),
        ),
        Row::judged(
            "slow readers, memory for each, with the kernel's send queue",
            "< 64 KB",
            (memory + queued) / 1024.0,
        ),
        Row::figure("slow readers, memory of the instance for each", memory / 1024.0, "KB"),
        Row::figure("slow readers, the others' 99 % within, with", median(&|(with, _)| with.p99), "ms"),
        Row::figure(
            "slow readers, the others' 99 % within, without",
            median(&|(_, without)| without.p99),
            "ms",
        ),
    ]
}

/// Publishes to a fresh server; the slow ones read as well as all others, or nothing.
fn round(slow_ones_stop: bool) -> Round {
    let server = Instance::start(&[]);
    let (mut others, mut slow) = (SseClients::new(OTHERS), SseClients::new(SLOW));
    others.open(server.address(), &server.target(None), OTHERS, Instant::now() + PATIENCE);
    slow.open(server.address(), &server.target(None), SLOW, Instant::now() + PATIENCE);
    let before = server.resident_bytes();
    thread::scope(|scope| {
        if !slow_ones_stop {
            let (slow, events) = (&mut slow, SLOW * (FILLING.0 + MEASURED.0));
            scope.spawn(move || slow.receive(events as usize, Instant::now() + PATIENCE));
        }
        let mut publish = |(events, every)| {
            let schedule = Schedule::regular(events, every, SIZE);
            deliver(&mut others, OTHERS, &schedule, vec![server.publisher()])
        };
        publish(FILLING);
        let delivered = publish(MEASURED);
        Round {
            p99: quantile(delivered.iter().map(|delivered| delivered.after).collect(), 0.99),
            growth: server.resident_bytes() - before,
            queued: queued_bytes(server.address().port()),
        }
    })
}

/// Bytes that the kernel holds of what was sent from a port and not taken, with what it needs to
/// hold them.
fn queued_bytes(port: u16) -> f64 {
    let output = Command::new("ss")
        .args([
            "--tcp",
            "--numeric",
            "--memory",
            "--oneline",
            "--no-header",
            "sport",
            "=",
            &format!(":{port}"),
        ])
        .output()
        .expect("ss can be started: apt-get install iproute2");
    let sockets = String::from_utf8_lossy(&output.stdout).into_owned();
    // As `skmem:(r0,rb131072,t0,tb65536,f0,w52224,o0,bl0,d0)`; see ss(8).
    let queued = sockets.lines().filter_map(|socket| {
        let memory = socket.split_once("skmem:(")?.1;
        memory.split(',').find_map(|field| field.strip_prefix('w')?.parse::<f64>().ok())
    });
    queued.sum()
}
