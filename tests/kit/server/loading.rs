//! A server that is still loading, for as long as a test likes. Redis produces this itself, too: it
//! is started on a snapshot, with a delay for each key that its authors use in their own tests.

use super::{RedisServer, spawn};
use crate::patience::until;

/// Database of the data that makes loading long: loaded last, and not used otherwise.
const BALLAST_DB: &str = "15";
/// More than a test waits, one delay each.
const BALLAST: u32 = 600;
/// Between two looks at its sockets a loading Redis reads at least so many bytes; with one such key
/// between two looks, it answers after every delay.
const SIZE: usize = 1024;
/// In microseconds.
const DELAY: &str = "100000";

impl RedisServer {
    /// Restarts it with the data it has, and leaves it loading: it refuses everything with
    /// `LOADING` until [`finish_loading`](Self::finish_loading), or for a minute.
    pub async fn restart_loading(&mut self) {
        let ballast = "local value = string.rep('x', ARGV[2]) for key = 1, ARGV[1] do redis.call('SET', key, value) end";
        let mut other = self.endpoint.clone();
        other.db = BALLAST_DB.parse().expect("a number");
        let words = ["EVAL", ballast, "0", &BALLAST.to_string(), &SIZE.to_string()];
        other.ask(&words).await.expect("ballast can be written");
        self.command(&["CONFIG", "SET", "rdbcompression", "no"]).await;
        self.command(&["SAVE"]).await;
        self.kill();
        let interval = SIZE.to_string();
        let slow = ["--key-load-delay", DELAY, "--loading-process-events-interval-bytes", &interval];
        let arguments: Vec<_> = self.arguments.iter().cloned().chain(slow.map(str::to_owned)).collect();
        self.process = spawn(&self.endpoint, &arguments, self.folder.path());
        until("redis-server to say that it is loading", async || {
            assert!(self.process.is_running(), "redis-server does not start:\n{}", self.log());
            // Its own log says that it is this server that answers.
            self.log().contains("Loading RDB")
                && self.try_command(&["PING"]).await.is_err_and(|error| error.code() == Some("LOADING"))
        })
        .await;
    }

    /// Lets it load the rest at once, and waits until it has.
    pub async fn finish_loading(&self) {
        self.command(&["CONFIG", "SET", "key-load-delay", "0"]).await;
        until("redis-server to have loaded", async || self.try_command(&["PING"]).await.is_ok()).await;
        let mut ballast = self.endpoint.clone();
        ballast.db = BALLAST_DB.parse().expect("a number");
        ballast.ask(&["FLUSHDB"]).await.expect("ballast can be removed");
        std::fs::remove_file(self.folder.path().join("dump.rdb")).expect("the snapshot can be removed");
    }
}
