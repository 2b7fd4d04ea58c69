//! The script by which an instance enters the log, asked directly: two instances that each know an event the other does not
//! know, in between, cannot be had at will from outside.

use redis::Value;
use vx11_rig::RedisServer;

const JOIN: &str = include_str!("../../../src/events/redis/join.lua");
const EPOCH: &str = "0000000e";

/// What an instance brings.
struct Joining<'a> {
    name: &'a str,
    /// In milliseconds.
    window: &'a str,
    epoch: &'a str,
    head: &'a str,
    /// Up to where it has nothing.
    horizon: &'a str,
    ids: &'a [&'a str],
}

impl Joining<'_> {
    /// The epoch and the milliseconds until the log is open.
    async fn call(&self, redis: &RedisServer) -> (String, u64) {
        let fixed =
            ["EVAL", JOIN, "2", "{vx11}:events", "{vx11}:log", self.name, "00000000000000aa", self.window];
        let mut command: Vec<&str> = fixed.to_vec();
        command.extend([self.epoch, self.head, "900", "10000", "{vx11}:published:", self.horizon]);
        let keys: Vec<_> = self.ids.iter().map(|id| format!("{:0>32}", id.replace('-', ""))).collect();
        for (id, key) in self.ids.iter().zip(&keys) {
            command.extend([id, "message", "1", key.as_str(), "ff"]);
        }
        let Value::Array(answer) = redis.command(&command).await else { panic!("not a list") };
        let words: Vec<String> =
            answer.into_iter().map(|word| redis::from_redis_value(word).unwrap()).collect();
        (words[1].clone(), words[2].parse().unwrap())
    }
}

async fn ids(redis: &RedisServer) -> Vec<String> {
    let entries = redis.command(&["XRANGE", "{vx11}:events", "-", "+"]).await;
    let entries: redis::streams::StreamRangeReply = redis::from_redis_value(entries).unwrap();
    entries.ids.into_iter().map(|entry| entry.id).collect()
}

const FIRST: Joining =
    Joining { name: "a", window: "60000", epoch: EPOCH, head: "5-0", horizon: "0-0", ids: &["2-0", "5-0"] };

#[tokio::test]
async fn before_the_log_is_open_everything_is_put_in_its_place_with_its_key() {
    let redis = RedisServer::start().await;
    let (epoch, opens_in) = FIRST.call(&redis).await;
    assert_eq!(epoch, EPOCH);
    assert!((1..=60_000).contains(&opens_in));
    let second = Joining { head: "9-0", ids: &["1-0", "2-0", "3-0", "3-1", "5-0", "9-0"], ..FIRST };
    assert_eq!(second.call(&redis).await.0, EPOCH);
    assert_eq!(
        ids(&redis).await,
        ["2-0", "3-0", "3-1", "5-0", "9-0"],
        "what lies before the first is history"
    );
    let key = format!("{{vx11}}:published:{:0>32}", "30");
    assert_eq!(redis.command_text(&["GET", &key]).await, format!("{EPOCH} 3-0 ff"));
    // Once more changes nothing.
    second.call(&redis).await;
    assert_eq!(ids(&redis).await.len(), 5);
}

#[tokio::test]
async fn ids_go_on_behind_the_furthest_that_anybody_has_read() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    Joining { head: "7-7", ids: &[], ..FIRST }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "5-0", "7-7"]);
}

#[tokio::test]
async fn what_comes_when_the_log_is_open_begins_another_epoch_if_it_belongs_before_the_end() {
    let redis = RedisServer::start().await;
    let open = Joining { window: "0", ..FIRST };
    assert_eq!(open.call(&redis).await, (EPOCH.to_owned(), 0));
    let behind = Joining { ids: &["2-0", "5-0", "6-0"], head: "6-0", ..open };
    assert_eq!(behind.call(&redis).await.0, EPOCH, "what follows may still follow");
    let late = Joining { ids: &["2-0", "3-0"], head: "6-0", window: "0", ..FIRST };
    assert_eq!(late.call(&redis).await.0, "00000000", "the first half of the number nobody used before");
    assert_eq!(ids(&redis).await[..3], ["2-0", "5-0", "6-0"]);
    assert_eq!(ids(&redis).await.len(), 4, "the change of epoch stands in the log");
    let key = format!("{{vx11}}:published:{:0>32}", "30");
    assert_eq!(redis.command(&["GET", &key]).await, Value::Nil, "what is not in the log may be published");
}

#[tokio::test]
async fn who_knows_another_epoch_brings_nothing() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    let other = Joining { epoch: "0000000f", ids: &["3-0"], ..FIRST };
    assert_eq!(other.call(&redis).await.0, EPOCH);
    assert_eq!(ids(&redis).await, ["2-0", "5-0"]);
}

#[tokio::test]
async fn data_of_another_name_and_a_clock_that_was_set_back_found_the_log_anew() {
    let redis = RedisServer::start().await;
    Joining { window: "0", ..FIRST }.call(&redis).await;
    let (epoch, opens_in) = Joining { name: "b", window: "5000", ..FIRST }.call(&redis).await;
    assert_eq!(epoch, EPOCH, "it is still the same log");
    assert!(opens_in > 0);
    redis.command(&["HSET", "{vx11}:log", "opens", "99999999999999"]).await;
    let (_, opens_in) = Joining { name: "b", window: "5000", ..FIRST }.call(&redis).await;
    assert!(opens_in <= 5000, "{opens_in}");
}

#[tokio::test]
async fn a_hole_that_nobody_can_fill_begins_another_epoch() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    let beyond = Joining { horizon: "6-0", head: "9-0", ids: &["7-0", "9-0"], ..FIRST };
    assert_ne!(beyond.call(&redis).await.0, EPOCH);
    assert_eq!(ids(&redis).await[..2], ["2-0", "5-0"]);
    assert_eq!(ids(&redis).await.len(), 3);
}
