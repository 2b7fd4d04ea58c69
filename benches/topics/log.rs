//! One event log in Redis that every instance reads: its price for Redis and for each instance, and
//! the rate of events that it carries.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use vx11_kit::RedisServer;

use crate::delivery::deliver;
use crate::operator::Instance;
use crate::progress::say;
use crate::report::Row;
use crate::sample::quantile;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::sse_clients::SseClients;
use crate::{PUBLISHERS, SIZE, open, processor, publishers};

const INSTANCES: usize = 3;
/// Credentials of all instances, which have different principals.
const SIGNING_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Events a second, and for how long.
const RATE: u32 = 1_000;
const SECONDS: u32 = 10;
/// Rates that are tried, in events a second, and the duration of each try.
const RATES: [u32; 6] = [500, 1_000, 2_000, 4_000, 8_000, 16_000];
const SECONDS_OF_A_RATE: u32 = 5;
/// A rate is carried if 99 % of its events come within so many milliseconds.
const IN_TIME: f64 = 50.0;
/// Number of publishers: enough that no event waits for the answer to the one before.
const MANY_PUBLISHERS: usize = 64;
/// Room for all events of a rate, so that none leaves the log or a ring unread.
const ROOM: [(&str, &str); 4] = [
    ("VX11_OPERATOR__EVENTS__LOG_ENTRIES", "200000"),
    ("VX11_OPERATOR__EVENTS__LOG_BYTES", "268435456"),
    ("VX11_OPERATOR__EVENTS__RING_ENTRIES", "200000"),
    ("VX11_OPERATOR__EVENTS__RING_BYTES", "268435456"),
];

/// Price of one event.
struct Price {
    /// Microseconds of processor time of Redis.
    redis: f64,
    /// Microseconds of the instance that publishes.
    publisher: f64,
    /// Microseconds of all others together, which only read it.
    others: f64,
    /// Bytes that Redis sends.
    bytes: f64,
}

struct Testbed {
    runtime: Runtime,
    redis: RedisServer,
    instances: Vec<Instance>,
}

pub(crate) fn measure() -> Vec<Row> {
    say(&format!("{RATE} events a second in the log of one instance, then of {INSTANCES}"));
    let mut testbed = Testbed::start();
    testbed.add_instance();
    let alone = testbed.price();
    while testbed.instances.len() < INSTANCES {
        testbed.add_instance();
    }
    let shared = testbed.price();
    let others = f64::from(u32::try_from(INSTANCES - 1).expect("few instances"));
    let of_each = |of: fn(&Price) -> f64| (of(&shared) - of(&alone)) / others;
    vec![
        Row::figure("one log, processor time of Redis for one event, one instance", alone.redis, "µs"),
        Row::figure(
            "one log, processor time of Redis for one event, each further instance",
            of_each(|price| price.redis),
            "µs",
        ),
        Row::figure(
            "one log, bytes from Redis for one event, each further instance",
            of_each(|price| price.bytes),
            "B",
        ),
        Row::figure(
            "one log, processor time of the instance that publishes, for one event",
            shared.publisher,
            "µs",
        ),
        Row::figure(
            "one log, processor time of each instance that only reads, for one event",
            shared.others / others,
            "µs",
        ),
        Row::figure(
            "one log, events a second that three instances carry, 99 % within 50 ms",
            f64::from(testbed.rate()),
            "",
        ),
    ]
}

impl Testbed {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let redis = runtime.block_on(RedisServer::start());
        Self { runtime, redis, instances: Vec::new() }
    }

    fn add_instance(&mut self) {
        let (id, port) = ((self.instances.len() + 1).to_string(), self.redis.port().to_string());
        let settings = [
            ("INSTANCE_ID", id.as_str()),
            ("REDIS_HOST", "127.0.0.1"),
            ("REDIS_PORT", &port),
            ("VX11_OPERATOR_SIGNING_KEYS", SIGNING_KEY),
        ];
        let instance = Instance::start(&[&settings[..], &ROOM].concat());
        instance.await_well();
        self.instances.push(instance);
    }

    /// Publishes on the first instance to a topic that nobody reads. The processor time of a period
    /// without events is subtracted.
    fn price(&self) -> Price {
        let schedule = |events| Schedule::regular(events, Duration::from_secs(1) / RATE, SIZE);
        let run = |events| {
            let publishing =
                schedule(events).each_to(|| Some(0)).run(publishers(&self.instances[0], PUBLISHERS));
            publishing.join().expect("publishing succeeds");
        };
        // The first ones do not count: connections, caches, the processor's clock.
        run(RATE);
        let idle = self.spent(|| thread::sleep(Duration::from_secs(SECONDS.into())));
        let busy = self.spent(|| run(RATE * SECONDS));
        let [redis, publisher, others, bytes] =
            [0, 1, 2, 3].map(|part: usize| (busy[part] - idle[part]) / f64::from(RATE * SECONDS));
        Price { redis: redis * 1e6, publisher: publisher * 1e6, others: others * 1e6, bytes }
    }

    /// Seconds of processor time of Redis, of the first instance and of all others, and bytes that
    /// Redis has sent meanwhile.
    fn spent(&self, meanwhile: impl FnOnce()) -> [f64; 4] {
        let now = || {
            let stats = self.runtime.block_on(self.redis.info("stats"));
            let bytes: f64 = stats["total_net_output_bytes"].parse().expect("a number of bytes");
            let (first, others) = self.instances.split_first().expect("there is an instance");
            let others: f64 = others.iter().map(Instance::processor_seconds).sum();
            [processor::seconds(self.redis.pid()), first.processor_seconds(), others, bytes]
        };
        let before = now();
        meanwhile();
        let after = now();
        [0, 1, 2, 3].map(|part: usize| after[part] - before[part])
    }

    /// The highest rate that is carried, in events a second.
    fn rate(&self) -> u32 {
        let reader = self.instances.last().expect("there is an instance");
        let mut clients = SseClients::new(1);
        open(&mut clients, reader, std::iter::once(Some(0)));
        let mut is_carried = |rate: u32| {
            say(&format!("{rate} events a second in the log of {INSTANCES} instances"));
            let started = Instant::now();
            let schedule = Schedule::regular(rate * SECONDS_OF_A_RATE, Duration::from_secs(1) / rate, SIZE);
            let publishers = publishers(&self.instances[0], MANY_PUBLISHERS);
            let delivered = deliver(&mut clients, 1, &schedule.each_to(|| Some(0)), publishers);
            let p99 = quantile(delivered.iter().map(|delivered| delivered.after).collect(), 0.99);
            say(&format!("99 % within {p99:.1} ms, all within {:.1} s", started.elapsed().as_secs_f64()));
            p99 <= IN_TIME
        };
        RATES.into_iter().take_while(|rate| is_carried(*rate)).last().unwrap_or(0)
    }
}
