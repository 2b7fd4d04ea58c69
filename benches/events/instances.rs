//! Three instances with one log in Redis: from publishing on one of them to the last stream of all.

use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use vx11_kit::RedisServer;

use crate::delivery::{PATIENCE, deliver};
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::sse_clients::SseClients;

const INSTANCES: u32 = 3;
/// On each.
const STREAMS: u32 = 1_000;
const EVENTS: u32 = 200;
/// Credentials of all instances, which have different principals.
const SIGNING_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

pub(crate) fn measure() -> Vec<Row> {
    say(&format!("{INSTANCES} instances with {STREAMS} streams each"));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let redis = runtime.block_on(RedisServer::start());
    let port = redis.port().to_string();
    let instances: Vec<_> = (1..=INSTANCES)
        .map(|id| {
            let id = id.to_string();
            let instance = Instance::start(&[
                ("INSTANCE_ID", &id),
                ("REDIS_HOST", "127.0.0.1"),
                ("REDIS_PORT", &port),
                ("VX11_OPERATOR_SIGNING_KEYS", SIGNING_KEY),
            ]);
            instance.await_well();
            instance
        })
        .collect();
    let mut clients = SseClients::new(INSTANCES * STREAMS);
    for instance in &instances {
        clients.open(instance.address(), &instance.target(None), STREAMS, Instant::now() + PATIENCE);
    }
    let mut last = |schedule: &Schedule| {
        let publishers = vec![instances[0].publisher()];
        let mut last = vec![0.0_f64; schedule.events() as usize];
        for delivered in deliver(&mut clients, INSTANCES * STREAMS, schedule, publishers) {
            last[delivered.event] = last[delivered.event].max(delivered.after);
        }
        last
    };
    // Some that do not count.
    last(&Schedule::regular(10, Duration::from_millis(100), 256));
    let last = last(&Schedule::regular(EVENTS, Duration::from_millis(100), 256));
    vec![
        Row::figure(
            "three instances, publishing to last delivery, half within",
            quantile(last.clone(), 0.5),
            "ms",
        ),
        Row::figure("three instances, publishing to last delivery, 99 % within", quantile(last, 0.99), "ms"),
    ]
}
