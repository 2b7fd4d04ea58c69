//! A million random UUIDs sent to the stream: what they cost the instance, and that they cost Redis
//! nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::progress::say;
use crate::report::Row;
use crate::server::Redis;

const CONNECTIONS: u32 = 4;
/// Requests sent before their answers are read.
const AT_ONCE: u32 = 100;
const FORGED: u32 = 1_000_000;
/// Commands of an idle instance, and of the benchmark for its figures.
const OF_THE_HEALTH_CHECK: [&str; 15] = [
    "info", "time", "xread", "eval", "xrange", "hget", "set", "hset", "hdel", "hgetall", "exists", "expire",
    "ping", "unwatch", "select",
];

pub(crate) fn measure() -> Vec<Row> {
    say("a million random UUIDs for a stream");
    let redis = Redis::start();
    let instance = redis.instance("forged", "1", "60");
    let before = redis.calls_beside(&OF_THE_HEALTH_CHECK);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| knock(instance.address, FORGED / CONNECTIONS));
        }
    });
    let per_second = f64::from(FORGED) / started.elapsed().as_secs_f64();
    let caused = redis.calls_beside(&OF_THE_HEALTH_CHECK) - before;
    vec![
        Row::judged("Redis commands that a million random UUIDs caused", "<= 0", caused),
        Row::figure("random UUIDs refused a second", per_second, ""),
    ]
}

/// Sends `count` UUIDs, half of them of the version that tokens have, and sees each refused.
fn knock(address: SocketAddr, count: u32) {
    let stream = TcpStream::connect(address).expect("the instance accepts");
    let mut stream = BufReader::new(stream);
    for _ in 0..count / AT_ONCE {
        let mut requests = String::new();
        for number in 0..AT_ONCE {
            let random =
                uuid::Uuid::from_u128(u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)));
            let uuid = if number % 2 == 0 {
                uuid::Builder::from_custom_bytes(random.into_bytes())
            } else {
                uuid::Builder::from_random_bytes(random.into_bytes())
            };
            requests += "GET /operator/api/events/stream?token=";
            requests += &uuid.into_uuid().to_string();
            requests += " HTTP/1.1\r\nHost: localhost\r\n\r\n";
        }
        stream.get_mut().write_all(requests.as_bytes()).expect("the instance takes requests");
        for _ in 0..AT_ONCE {
            refused(&mut stream);
        }
    }
}

/// Reads one answer.
fn refused(stream: &mut BufReader<TcpStream>) {
    let mut length = 0;
    let mut line = String::new();
    stream.read_line(&mut line).expect("the instance answers");
    assert!(line.starts_with("HTTP/1.1 403"), "{line}");
    while line != "\r\n" {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a length is a number");
        }
        line.clear();
        stream.read_line(&mut line).expect("the instance answers");
    }
    stream.read_exact(&mut vec![0; length]).expect("the body arrives");
}
