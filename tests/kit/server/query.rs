//! Questions to a server, each on a connection that lives as long as its answer takes. Servers
//! count these, too: a test that counts commands compares two counts of the commands it cares for.

use std::collections::BTreeMap;

use redis::{RedisResult, Value, from_redis_value};

use super::RedisServer;
use crate::endpoint::command;

impl RedisServer {
    /// Answer of Redis to a command that succeeds.
    pub async fn command(&self, words: &[&str]) -> Value {
        let answer = self.try_command(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same as text.
    pub async fn command_text(&self, words: &[&str]) -> String {
        from_redis_value(self.command(words).await).expect("the answer is a text")
    }

    /// Answer of a Lua script with these keys and named arguments, as the service sends them.
    pub async fn script(&self, text: &str, keys: &[&str], arguments: &serde_json::Value) -> Value {
        let document = rmp_serde::to_vec(arguments).expect("JSON has a msgpack document");
        let mut connection = self.endpoint.connection().await.expect("the server can be connected to");
        let mut command = redis::cmd("EVAL");
        command.arg(text).arg(keys.len()).arg(keys).arg(document);
        let answer = command.query_async(&mut connection).await;
        answer.unwrap_or_else(|error| panic!("{arguments}: {error}"))
    }

    /// Answer of Redis, refusals included.
    ///
    /// # Errors
    ///
    /// When Redis refuses or cannot be reached.
    pub async fn try_command(&self, words: &[&str]) -> RedisResult<Value> {
        self.endpoint.ask(words).await
    }

    /// The members of one section of `INFO`.
    pub async fn info(&self, section: &str) -> BTreeMap<String, String> {
        let text = self.command_text(&["INFO", section]).await;
        let members = text.lines().filter_map(|line| line.split_once(':'));
        members.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
    }

    /// Number of calls of each command since the start of the server, by lower-case name, such as
    /// `setex`.
    pub async fn commandstats(&self) -> BTreeMap<String, u64> {
        let counted = self.info("commandstats").await.into_iter().map(|(name, counts)| {
            let calls = counts.strip_prefix("calls=").and_then(|counts| counts.split(',').next());
            let calls = calls.and_then(|calls| calls.parse().ok()).expect("a count of calls");
            (name.trim_start_matches("cmdstat_").to_owned(), calls)
        });
        counted.collect()
    }

    /// All keys of the database, in order.
    pub async fn keys(&self) -> Vec<String> {
        let (mut keys, mut cursor) = (Vec::new(), "0".to_owned());
        let mut connection = self.endpoint.connection().await.expect("the server can be connected to");
        loop {
            let scan = command(&["SCAN", &cursor, "COUNT", "1000"]);
            let page = scan.query_async(&mut connection).await;
            let (next, found): (String, Vec<String>) = page.expect("keys can be listed");
            keys.extend(found);
            if next == "0" {
                break;
            }
            cursor = next;
        }
        keys.sort();
        // A scan may come across a key twice.
        keys.dedup();
        keys
    }
}
