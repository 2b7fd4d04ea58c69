//! Memory of a stream with a topic, of one without, and of one of the previous release.

use std::time::Duration;

use vx11_kit::previous_release;

use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::server::{Channel, Server};
use crate::sse_clients::SseClients;
use crate::{STREAMS, open};

/// Of each; odd, so that the median is a round.
const ROUNDS: u32 = 3;
/// Time for what opening leaves behind.
const SETTLING: Duration = Duration::from_secs(2);

pub(crate) fn measure() -> Vec<Row> {
    let previous = previous_release("release");
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        say(&format!("memory of {STREAMS} streams with a topic and without, round {number} of {ROUNDS}"));
        rounds.push([
            bytes(&Instance::of(&previous, &[]), |_| None),
            bytes(&Instance::start(&[]), |_| None),
            bytes(&Instance::start(&[]), Some),
        ]);
    }
    let median = |of: fn(&[f64; 3]) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
    vec![
        Row::judged(
            "memory of a stream with a separate topic, beyond one of default",
            "<= 300 B",
            median(|[_, default, topic]| topic - default),
        ),
        Row::figure(
            "memory of a stream with a separate topic, beyond one of the previous release",
            median(|[previous, _, topic]| topic - previous),
            "B",
        ),
        Row::figure("memory of a stream of default", median(|[_, default, _]| default / 1024.0), "KB"),
    ]
}

/// Bytes of a stream, each with a separate token.
fn bytes(server: &Instance, channel: fn(u32) -> Channel) -> f64 {
    let mut clients = SseClients::new(STREAMS);
    let at_rest = server.resident_bytes();
    open(&mut clients, server, (0..STREAMS).map(channel));
    clients.listen_for(SETTLING);
    (server.resident_bytes() - at_rest) / f64::from(STREAMS)
}
