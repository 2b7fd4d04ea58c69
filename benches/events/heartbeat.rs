//! Cost of SSE heartbeats on fifteen thousand streams.

use std::time::Duration;

use crate::fan_out::{STREAMS, open};
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::server::Server;
use crate::sse_clients::SseClients;

/// The default.
const INTERVAL: Duration = Duration::from_secs(15);
const ROUNDS: u32 = 3;

pub(crate) fn measure() -> Vec<Row> {
    say(&format!("{ROUNDS} heartbeats of {STREAMS} idle streams"));
    let server = Instance::start(&[]);
    let mut clients = SseClients::new(STREAMS);
    open(&mut clients, &server);
    // Work that opening leaves behind; the first heartbeats follow later.
    clients.listen_for(INTERVAL / 3);
    let busy = server.processor_seconds();
    clients.listen_for(INTERVAL * ROUNDS);
    let round = (server.processor_seconds() - busy) / f64::from(ROUNDS);
    vec![
        Row::figure("a heartbeat of all streams, processor time", round * 1e3, "ms"),
        Row::figure("idle streams, of one processor", round / INTERVAL.as_secs_f64() * 100.0, "%"),
    ]
}
