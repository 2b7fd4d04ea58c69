//! The scripts that append events and keep the log within its bytes, asked directly: so many events
//! of so many sizes would take long from outside.

use serde_json::json;
use vx11_kit::RedisServer;

const PUBLISH: &str = concat!(
    include_str!("../../../src/events/redis/size.lua"),
    include_str!("../../../src/events/redis/fields.lua"),
    include_str!("../../../src/events/redis/publish.lua")
);
const RELIEVE: &str = include_str!("../../../src/events/redis/relieve.lua");
const LOG: &str = "{vx11}:events";
const STATE: &str = "{vx11}:log";
/// The bound in these tests.
const MIB: usize = 1024 * 1024;
/// The smallest event that can be published, and nearly the largest.
const SMALL: usize = 1;
const LARGE: usize = 65_000;

/// A Redis with a log.
async fn with_log() -> RedisServer {
    let redis = RedisServer::start().await;
    redis.command(&["HSET", STATE, "founding", "f", "epoch", "0000000e"]).await;
    redis
}

async fn publish(redis: &RedisServer, bytes: usize) {
    let arguments = json!({
        "log_bytes": MIB, "log_entries": 1_000_000, "generation": "f", "type": "message", "data": "x".repeat(bytes),
    });
    redis.script(PUBLISH, &[LOG, STATE, STATE], &arguments).await;
}

/// Publishes under an idempotency key, for an instance that has entered this log generation.
/// Returns the answer of the script.
async fn publish_under(redis: &RedisServer, generation: &str, key: &str, event: [&str; 2]) -> Vec<String> {
    let (name, [data, fingerprint]) = (format!("{{vx11}}:published:{key}"), event);
    let arguments = json!({
        "log_bytes": MIB, "log_entries": 1_000_000, "generation": generation, "type": "message", "data": data,
        "key": key, "fingerprint": fingerprint, "key_seconds": 900,
    });
    redis::from_redis_value(redis.script(PUBLISH, &[LOG, STATE, &name], &arguments).await).unwrap()
}

/// Publishes an event to these topics, under a key. Returns the fields of its entry, and the bytes
/// that were counted for it.
async fn publish_to(redis: &RedisServer, topics: Option<&str>) -> (Vec<String>, usize) {
    let arguments = json!({
        "log_bytes": MIB, "log_entries": 1_000_000, "generation": "f", "type": "message", "data": "1", "topics": topics,
        "key": "k", "fingerprint": "aa", "key_seconds": 900,
    });
    let counted = async || match redis.command(&["HGET", STATE, "reach"]).await {
        redis::Value::Nil => 0,
        reach => redis::from_redis_value::<usize>(reach).unwrap(),
    };
    let before = counted().await;
    redis.command(&["DEL", "{vx11}:published:k"]).await;
    redis.script(PUBLISH, &[LOG, STATE, "{vx11}:published:k"], &arguments).await;
    let entries = redis.command(&["XREVRANGE", LOG, "+", "-", "COUNT", "1"]).await;
    let mut entries: Vec<(String, Vec<String>)> = redis::from_redis_value(entries).unwrap();
    (entries.pop().unwrap().1, counted().await - before)
}

/// The sizes of the events in the log, oldest first.
async fn sizes(redis: &RedisServer) -> Vec<usize> {
    let entries = redis.command(&["XRANGE", LOG, "-", "+"]).await;
    let entries: redis::streams::StreamRangeReply = redis::from_redis_value(entries).unwrap();
    entries.ids.iter().map(|entry| entry.get::<String>("data").unwrap().len()).collect()
}

async fn number(redis: &RedisServer, command: &[&str]) -> usize {
    redis.command_text(command).await.parse().unwrap()
}

#[tokio::test]
async fn an_event_is_appended_once_under_its_key_and_only_to_the_log_that_the_instance_has_joined() {
    let redis = with_log().await;
    let first = publish_under(&redis, "f", "a", ["1", "aa"]).await;
    assert_eq!((first.len(), first[0].as_str()), (2, "0000000e"));
    let again = publish_under(&redis, "f", "a", ["22", "bb"]).await;
    assert_eq!(again, [first[0].as_str(), &first[1], "aa"], "what was published first under this key");
    let other = publish_under(&redis, "f", "b", ["333", "cc"]).await;
    assert!(other.len() == 2 && other[1] != first[1], "{other:?}");
    assert!(publish_under(&redis, "another", "c", ["4444", "dd"]).await.is_empty());
    assert_eq!(sizes(&redis).await, [1, 3]);
    assert_eq!(redis.command_text(&["EXISTS", "{vx11}:published:c"]).await, "0");
}

/// The previous release delivers what does not begin with `control` to all its streams.
#[tokio::test]
async fn an_event_that_is_not_for_default_begins_with_control_and_another_one_has_the_form_of_all_releases() {
    let redis = with_log().await;
    let common = ["type", "message", "data", "1"];
    let cases: [(Option<&str>, bool); 6] = [
        (None, true),
        (Some("default orders/1"), true),
        (Some("orders/1 default users/7"), true),
        (Some("orders/1"), false),
        (Some("default/1 defaults"), false),
        (Some("$streams/opened"), false),
    ];
    for (topics, is_for_default) in cases {
        let mut expected = if is_for_default { Vec::new() } else { vec!["control", "event"] };
        expected.extend(common);
        expected.extend(topics.into_iter().flat_map(|topics| ["topics", topics]));
        expected.extend(["key", "k"]);
        let (fields, counted) = publish_to(&redis, topics).await;
        assert_eq!(fields, expected);
        let texts: usize = fields.iter().map(String::len).sum();
        assert_eq!(counted, texts + 64, "topics count as well: {topics:?}");
    }
}

#[tokio::test]
async fn large_events_push_out_small_ones_to_stay_within_the_bound_and_small_ones_few_large_ones() {
    let redis = with_log().await;
    for _ in 0..500 {
        publish(&redis, SMALL).await;
    }
    assert_eq!(sizes(&redis).await.len(), 500);
    for published in 1..=40 {
        publish(&redis, LARGE).await;
        let kept = sizes(&redis).await;
        let large = kept.iter().filter(|size| **size == LARGE).count();
        assert!(kept.iter().sum::<usize>() <= MIB && large >= published.min(14), "{large} of {published}");
    }
    for _ in 0..500 {
        publish(&redis, SMALL).await;
    }
    let kept = sizes(&redis).await;
    let large = kept.iter().filter(|size| **size == LARGE).count();
    assert_eq!(kept.len() - large, 500);
    assert!((13..=16).contains(&large), "{large}: small events push out no more than their size");
}

#[tokio::test]
async fn the_bound_is_used_and_kept_whatever_the_sizes_of_events() {
    let redis = with_log().await;
    let mut published = 0;
    for round in 0..40_usize {
        for step in 0..12_usize {
            let bytes = (round * 7919 + step * 104_729) % 10_000;
            publish(&redis, bytes).await;
            published += bytes;
        }
        let bytes: usize = sizes(&redis).await.iter().sum();
        assert!(bytes <= MIB, "{bytes}");
        // A 64th is left free until the next look, what a block of Redis holds is removed together,
        // and each event counts a little more than its data.
        assert!(bytes >= published.min(MIB * 9 / 10), "{bytes} of {published}");
    }
    assert!(published > 2 * MIB, "{published}");
}

/// Those of an instance of an earlier version, during an update.
#[tokio::test]
async fn events_that_nobody_has_counted_leave_the_log_when_the_bound_is_reached_and_not_before() {
    let redis = with_log().await;
    for _ in 0..50 {
        redis.command(&["XADD", LOG, "*", "type", "message", "data", "1"]).await;
    }
    publish(&redis, LARGE).await;
    assert_eq!(sizes(&redis).await.len(), 51);
    for _ in 0..20 {
        publish(&redis, LARGE).await;
    }
    assert!(sizes(&redis).await.iter().sum::<usize>() <= MIB);
}

/// Takes the older half off the log, if Redis is full; says how many entries that were.
async fn relieve(redis: &RedisServer) -> usize {
    let answer = redis.script(RELIEVE, &[LOG], &json!({ "kept": 10 })).await;
    redis::from_redis_value(answer).unwrap()
}

#[tokio::test]
async fn of_several_instances_that_find_redis_full_one_shortens_the_log() {
    let redis = with_log().await;
    assert_eq!(relieve(&redis).await, 0, "there is no log");
    let data = "x".repeat(LARGE);
    for _ in 0..100 {
        redis.command(&["XADD", LOG, "*", "type", "message", "data", &data]).await;
    }
    assert_eq!(relieve(&redis).await, 0, "Redis is not full");
    let used: usize = redis.info("memory").await["used_memory"].parse().unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", &(used - MIB).to_string()]).await;
    assert!(redis.try_command(&["SET", "other", "1"]).await.is_err());
    assert_eq!(relieve(&redis).await, 50);
    redis.command(&["SET", "other", "1"]).await;
    assert_eq!(relieve(&redis).await, 0, "there is room again");
    assert_eq!(number(&redis, &["XLEN", LOG]).await, 50);
}

#[tokio::test]
async fn a_redis_that_something_else_fills_leaves_the_log_its_newest_events() {
    let redis = with_log().await;
    for n in 0..35 {
        redis.command(&["XADD", LOG, &format!("{}-0", n + 1), "type", "message", "data", "1"]).await;
    }
    redis.refuse_memory().await;
    let mut taken = Vec::new();
    while taken.last() != Some(&0) {
        taken.push(relieve(&redis).await);
    }
    assert_eq!(taken, [18, 7, 0]);
    assert_eq!(redis.command_text(&["XLEN", LOG]).await, "10");
    let first: redis::streams::StreamRangeReply =
        redis::from_redis_value(redis.command(&["XRANGE", LOG, "-", "+", "COUNT", "1"]).await).unwrap();
    assert_eq!(first.ids[0].id, "26-0");
}
