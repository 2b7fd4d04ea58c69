//! Opening streams: with a plain token beside the previous release, under a limit of the subject,
//! with a single-use token, and with both. The time, and the commands to Redis.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::http::Client;
use crate::instance::Instance;
use crate::previous::Previous;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::server::Redis;
use crate::sse_clients::SseClients;

/// Many short rounds: what else the machine does then falls on few of them, and on all alike.
const ROUNDS: usize = 12;
/// Streams that are opened in a round, up to 256 at a time.
const STREAMS: u32 = 500;
/// Streams that are opened one after the other in a round.
const ONE_BY_ONE: u32 = 40;
/// Time in which the commands of an idle instance are counted.
const IDLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(1);
const LIFE: &str = "60";
/// Commands that an opening sends itself; scripts call others.
const SENT: [&str; 2] = ["mget", "eval"];

/// A kind of token.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    has_subject: bool,
    is_ticket: bool,
    /// Commands that it may cost.
    commands: &'static str,
}

const PLAIN: Kind = Kind { name: "open a stream", has_subject: false, is_ticket: false, commands: "<= 1.05" };
const CAPPED: Kind = Kind {
    name: "open under a limit of the subject",
    has_subject: true,
    is_ticket: false,
    commands: "<= 2.05",
};
const TICKET: Kind =
    Kind { name: "open with a single-use token", has_subject: false, is_ticket: true, commands: "<= 2.05" };
const BOTH: Kind = Kind { name: "open with both", has_subject: true, is_ticket: true, commands: "<= 3.05" };

/// Result of a round.
struct Round {
    /// Streams opened in a second.
    per_second: f64,
    /// Milliseconds of each opening, one after the other.
    alone: Vec<f64>,
    /// Commands of an opening.
    commands: f64,
}

/// A server, and the commands that its Redis handles in a second while nothing happens.
struct Server<'a> {
    target: (SocketAddr, &'a str),
    redis: &'a Redis,
    idle: f64,
}

pub(crate) fn measure() -> Vec<Row> {
    say("opening streams, in turn with the previous release");
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit on open files can be raised to its maximum");
    let (redis, other) = (Redis::start(), Redis::start());
    let (settings, of_previous) = (redis.settings(LIFE), other.settings(LIFE));
    let mut settings = as_environment(&settings);
    settings.push(("VX11_OPERATOR__STREAMS__PER_SUBJECT", "5"));
    let instance = Instance::start("redis-openings", &settings);
    let previous = Previous::start(&as_environment(&of_previous));
    let ours = Server::new(instance.server(), &redis);
    let former = Server::new(previous.server(), &other);

    let turns = [(&former, PLAIN), (&ours, PLAIN), (&ours, CAPPED), (&ours, TICKET), (&ours, BOTH)];
    let all = || turns.each_ref().map(|(server, kind)| server.round(*kind));
    // One that does not count: connections, caches, the processor's clock.
    let _ = all();
    let rounds: Vec<_> = (0..ROUNDS).map(|_| all()).collect();
    let median = |of: &dyn Fn(&[Round; 5]) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
    let alone = |place: usize| {
        let all = rounds.iter().flat_map(|round| round[place].alone.iter().copied());
        quantile(all.collect(), 0.5)
    };
    let mut rows = vec![
        Row::judged(
            "open a stream, streams a second / previous release",
            ">= 0.95",
            median(&|round| round[1].per_second / round[0].per_second),
        ),
        Row::figure("open a stream, alone, half within / previous release", alone(1) / alone(0), ""),
    ];
    for (place, (_, kind)) in turns.iter().enumerate().skip(1) {
        let named = |what: &str| format!("{}, {what}", kind.name);
        rows.push(Row::figure(&named("streams a second"), median(&|round| round[place].per_second), ""));
        rows.push(Row::figure(&named("alone, half within"), alone(place), "ms"));
        let commands = median(&|round| round[place].commands);
        rows.push(Row::judged(&named("commands to Redis"), kind.commands, commands));
    }
    rows
}

fn as_environment<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

impl<'a> Server<'a> {
    fn new(target: (SocketAddr, &'a str), redis: &'a Redis) -> Self {
        let before = redis.calls_of(&SENT);
        std::thread::sleep(IDLE);
        Self { target, redis, idle: (redis.calls_of(&SENT) - before) / IDLE.as_secs_f64() }
    }

    fn round(&self, kind: Kind) -> Round {
        let address = self.target.0;
        let mut client = Client::connect(self.target);
        let mut targets: Vec<_> = (0..STREAMS + ONE_BY_ONE).map(|_| target(&mut client, kind)).collect();
        let alone = targets.split_off(STREAMS as usize);
        let alone = alone.iter().map(|target| open_alone(address, target)).collect();
        await_none(&mut client);
        let before = self.redis.calls_of(&SENT);
        let started = Instant::now();
        let mut clients = SseClients::new(STREAMS);
        clients.open_each(address, targets.into_iter(), started + PATIENCE);
        let seconds = started.elapsed().as_secs_f64();
        let commands = self.redis.calls_of(&SENT) - before - self.idle * started.elapsed().as_secs_f64();
        drop(clients);
        await_none(&mut client);
        let streams = f64::from(STREAMS);
        Round { per_second: streams / seconds, alone, commands: commands / streams }
    }
}

/// Waits until the server has noticed that all clients have left.
fn await_none(client: &mut Client) {
    let started = Instant::now();
    loop {
        client.send("GET /operator/internal/cache-stats", "application/json", "");
        let figures: serde_json::Value = serde_json::from_str(&client.receive().1).expect("figures are JSON");
        if figures["instance"]["streams"] == 0 {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the streams are still counted");
    }
}

/// Target of a stream with a new token.
fn target(client: &mut Client, kind: Kind) -> String {
    let mut fields = serde_json::Map::new();
    if kind.has_subject {
        fields.insert("subject".to_owned(), format!("user-{}", fastrand::u64(..)).into());
    }
    if kind.is_ticket {
        fields.insert("single_use".to_owned(), true.into());
    }
    let token = if fields.is_empty() {
        client.issue()
    } else {
        client.issue_with(&serde_json::Value::from(fields).to_string())
    };
    format!("/operator/api/events/stream?token={token}")
}

/// Milliseconds from the request to the first byte of the answer, on a new connection.
fn open_alone(address: SocketAddr, target: &str) -> f64 {
    let mut connection = TcpStream::connect(address).expect("the server accepts");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let started = Instant::now();
    connection.write_all(request.as_bytes()).expect("the server takes a request");
    let mut status = [0; 12];
    connection.read_exact(&mut status).expect("the server answers");
    let elapsed = started.elapsed();
    assert_eq!(&status, b"HTTP/1.1 200", "the stream opens");
    elapsed.as_secs_f64() * 1e3
}
