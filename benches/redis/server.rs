//! The Redis that instances are measured with.

use std::process::Command;

use tokio::runtime::{Builder, Runtime};
use vx11_kit::RedisServer;

use crate::instance::Instance;
use crate::target::target_directory;

/// Credentials of all instances, which have different principals.
const SIGNING_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A separate, empty Redis.
pub(crate) struct Redis {
    server: RedisServer,
    runtime: Runtime,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        Self { server: runtime.block_on(RedisServer::start()), runtime }
    }

    /// Environment that names this Redis and the lifetime `life` in seconds.
    pub(crate) fn settings(&self, life: &str) -> [(&'static str, String); 3] {
        [
            ("REDIS_HOST", "127.0.0.1".to_owned()),
            ("REDIS_PORT", self.server.port().to_string()),
            ("EPHEMERAL_TOKEN_TTL_SEC", life.to_owned()),
        ]
    }

    /// An instance on this Redis, of one deployment with the others. Its log is named after both
    /// `name` and the benchmark.
    pub(crate) fn instance(&self, name: &str, id: &str, life: &str) -> Instance {
        let settings = self.settings(life);
        let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        settings.extend([("INSTANCE_ID", id), ("VX11_OPERATOR_SIGNING_KEYS", SIGNING_KEY)]);
        Instance::start(&format!("redis-{name}"), &settings)
    }

    /// Commands it has handled, but for those named.
    pub(crate) fn calls_beside(&self, others: &[&str]) -> f64 {
        self.calls(|command| !others.contains(&command))
    }

    /// Commands with these names that it has handled.
    pub(crate) fn calls_of(&self, names: &[&str]) -> f64 {
        self.calls(|command| names.contains(&command))
    }

    fn calls(&self, is_counted: impl Fn(&str) -> bool) -> f64 {
        let calls = self.runtime.block_on(self.server.commandstats());
        let calls = calls.iter().filter(|(command, _)| is_counted(command));
        let calls: u64 = calls.map(|(_, count)| *count).sum();
        f64::from(u32::try_from(calls).expect("a benchmark calls no more often"))
    }

    /// Keys in the database that instances use.
    pub(crate) fn keys(&self) -> u32 {
        let keys = self.runtime.block_on(self.server.command_text(&["DBSIZE"]));
        keys.parse().expect("a number of keys")
    }

    /// Bytes that the data takes, and the server itself.
    pub(crate) fn memory(&self) -> f64 {
        let memory = self.runtime.block_on(self.server.info("memory"));
        memory["used_memory"].parse().expect("a number of bytes")
    }
}

/// Records per second of a Redis without another load, with 64 commands at a time.
pub(crate) fn ceiling() -> f64 {
    let redis = Redis::start();
    let output = Command::new("redis-benchmark")
        .args(["-p", &redis.server.port().to_string()])
        .args(["-n", "2000000", "-r", "1000000", "-P", "64", "-q"])
        .args(["SETEX", "token:__rand_int__", "60", "123"])
        .current_dir(target_directory())
        .output();
    let output = output.unwrap_or_else(|error| panic!("redis-benchmark cannot be started: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    // It writes the same line again and again while it runs.
    let last = said.rsplit(['\r', '\n']).find_map(|line| line.split_once(" requests per second"));
    let figure = last.and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    figure.unwrap_or_else(|| {
        panic!("redis-benchmark failed: {said}{}", String::from_utf8_lossy(&output.stderr))
    })
}
