//! One Sentinel.

use std::collections::BTreeMap;

use redis::{FromRedisValue, from_redis_value};
use tempfile::TempDir;

use super::NAME;
use crate::endpoint::Endpoint;
use crate::patience::eventually;
use crate::port::Port;
use crate::process::Process;

/// Intervals in ms: queries of servers; messages to other Sentinels; questions to them, whose
/// answers about a lost master hold five times as long; and signs of life. By default the last is
/// as long as the silence that means death here. A new master would then sometimes be declared dead
/// before the first query, and the empty one would replace it.
const PERIODS: [&str; 8] =
    ["INFO-PERIOD", "250", "PUBLISH-PERIOD", "500", "ASK-PERIOD", "200", "PING-PERIOD", "200"];
/// Log line of a Sentinel that has started.
const READY: &str = "Sentinel ID is";
/// File of its state.
const FILE: &str = "sentinel.conf";

/// A process of `redis-sentinel`; killed when dropped.
pub(super) struct Watcher {
    process: Process,
    endpoint: Endpoint,
    folder: TempDir,
    _port: Port,
}

/// State of a server according to a Sentinel.
type Opinion = BTreeMap<String, String>;

impl Watcher {
    /// A Sentinel that watches the master on this port.
    pub(super) async fn start(master: u16) -> Self {
        eventually("a port that nobody else takes", async || {
            let port = Port::reserve();
            let folder = tempfile::tempdir().expect("a folder for the sentinel");
            std::fs::write(folder.path().join(FILE), configuration(port.number(), master))
                .expect("the folder can be written");
            let process = spawn(&folder);
            let endpoint = Endpoint::new(port.number(), 0);
            let mut watcher = Self { process, endpoint, folder, _port: port };
            watcher.is_ready().await.then_some(watcher)
        })
        .await
    }

    pub(super) fn address(&self) -> String {
        self.endpoint.address()
    }

    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    pub(super) async fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.folder);
        assert!(self.is_ready().await, "redis-sentinel does not start again:\n{}", self.process.log());
    }

    /// Waits until it answers; false if it ended instead.
    async fn is_ready(&mut self) -> bool {
        eventually("redis-sentinel to start or end", async || {
            if !self.process.is_running() {
                return Some(false);
            }
            let mut periods = vec!["SENTINEL", "DEBUG"];
            periods.extend(PERIODS);
            // Its own log says that it is this one that answers.
            let begun = self.process.log().contains(READY);
            (begun && self.endpoint.ask(&periods).await.is_ok()).then_some(true)
        })
        .await
    }

    /// The port of the master; none if the Sentinel is dead.
    pub(super) async fn master_port(&self) -> Option<u16> {
        let (_host, port): (String, u16) = self.ask("GET-MASTER-ADDR-BY-NAME").await?;
        Some(port)
    }

    /// Orders to replace the master now; whether the Sentinel obeys.
    pub(super) async fn fail_over(&self) -> bool {
        self.ask::<String>("FAILOVER").await.is_some()
    }

    /// Whether it sees nothing wrong with this master, this replica and two other Sentinels.
    pub(super) async fn is_content(&self, master: u16, replica: u16) -> bool {
        let Some(seen) = self.ask::<Opinion>("MASTER").await else { return false };
        let Some(replicas) = self.ask::<Vec<Opinion>>("REPLICAS").await else { return false };
        let Some(others) = self.ask::<Vec<Opinion>>("SENTINELS").await else { return false };
        let [follower] = replicas.as_slice() else { return false };
        is(&seen, "port", &master.to_string())
            && is(&seen, "flags", "master")
            && is(&seen, "role-reported", "master")
            && is(follower, "port", &replica.to_string())
            && is(follower, "flags", "slave")
            && is(follower, "role-reported", "slave")
            && is(follower, "master-link-status", "ok")
            && others.len() == 2
            && others.iter().all(|other| is(other, "flags", "sentinel"))
    }

    async fn ask<T: FromRedisValue>(&self, about: &str) -> Option<T> {
        let answer = self.endpoint.ask(&["SENTINEL", about, NAME]).await.ok()?;
        from_redis_value(answer).ok()
    }
}

fn is(opinion: &Opinion, name: &str, value: &str) -> bool {
    opinion.get(name).is_some_and(|found| found == value)
}

fn spawn(folder: &TempDir) -> Process {
    Process::start("redis-sentinel", &[FILE.to_owned()], folder.path())
}

fn configuration(port: u16, master: u16) -> String {
    format!(
        "port {port}
bind 127.0.0.1
sentinel monitor {NAME} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {NAME} 1000
sentinel failover-timeout {NAME} 3000
"
    )
}
