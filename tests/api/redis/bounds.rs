//! The log is bounded in bytes, and leaves Redis room for tokens and revocations. The servers have
//! the shipped settings with less memory.

use serde_json::{Value, json};
use vx11_kit::{RedisServer, until};

use super::{Cluster, DocumentedUser, nothing_was_denied, revoke_everywhere};
use crate::support::{Instance, random_hex};

const MIB: usize = 1024 * 1024;
const LOG: &str = "{vx11}:events";
/// Events published at the same time.
const TOGETHER: usize = 20;
const RELIEVED: &str = "Redis is full (maxmemory)";

/// A Redis with so much memory.
async fn cluster(memory: usize) -> Cluster {
    let memory = memory.to_string();
    let redis = RedisServer::with(&["--maxmemory", &memory, "--maxmemory-policy", "noeviction"]).await;
    Cluster { redis, principal: random_hex() }
}

async fn instance(cluster: &Cluster, id: &str, log_bytes: usize) -> Instance {
    // With no right more than the documentation asks for.
    let user = DocumentedUser::new();
    user.create(&cluster.redis).await;
    let log_bytes = log_bytes.to_string();
    let bound = [("VX11_OPERATOR__EVENTS__LOG_BYTES", log_bytes.as_str())];
    cluster.instance_with(id, &[&user.settings()[..], &bound].concat()).await
}

/// Publishes so many events of so many bytes, and returns the id of the first.
async fn publish(instance: &Instance, count: usize, bytes: usize) -> String {
    let data = json!("x".repeat(bytes));
    let first = instance.publish(data.clone()).await;
    for _ in 0..count / TOGETHER {
        let calls = (0..TOGETHER).map(|_| instance.publish(data.clone()));
        futures_util::future::join_all(calls).await;
    }
    first
}

async fn number(redis: &RedisServer, command: &[&str]) -> usize {
    redis.command_text(command).await.parse().unwrap()
}

/// Fills Redis with something else, beyond its limit by less than half of the log: a script goes on
/// once it has begun.
async fn fill(redis: &RedisServer) {
    let script = "for n = 1, ARGV[1] do redis.call('SET', KEYS[1] .. n, string.rep('x', ARGV[2])) end";
    // The allocation is hardly larger than the bytes.
    let bytes = 98_000;
    let memory = redis.info("memory").await;
    let number = |name: &str| -> usize { memory[name].parse().unwrap() };
    let pieces = (number("maxmemory") - number("used_memory") + MIB) / bytes;
    redis.command(&["EVAL", script, "1", "other", &pieces.to_string(), &bytes.to_string()]).await;
}

/// Tokens are recorded in Redis, and a revocation reaches all instances.
async fn tokens_are_as_usual(instances: [&Instance; 2]) {
    for instance in instances {
        until("a token to be recorded in Redis", async || {
            let answer = instance.post_as_principal("/operator/api/events/sse-token").send().await.unwrap();
            answer.json::<Value>().await.unwrap()["backend"] == "redis"
        })
        .await;
        let issued = instance.issue().await;
        revoke_everywhere(instance, ("token", &issued.token)).await;
    }
}

#[tokio::test]
async fn whatever_is_published_tokens_are_recorded_and_revocations_reach_the_cluster() {
    let cluster = cluster(24 * MIB).await;
    let (one, two) = (instance(&cluster, "1", 4 * MIB).await, instance(&cluster, "2", 4 * MIB).await);
    publish(&one, 1000, 100).await;
    // More than Redis can hold.
    publish(&two, 480, 60_000).await;
    tokens_are_as_usual([&one, &two]).await;
    one.publish(json!("small")).await;
    let refused = cluster.redis.info("errorstats").await;
    assert!(!refused.keys().any(|name| name.contains("OOM")), "Redis was full: {refused:?}");
    let log = number(&cluster.redis, &["MEMORY", "USAGE", LOG]).await;
    assert!((3 * MIB..=4 * MIB * 13 / 10).contains(&log), "{log}");
    assert_eq!(two.metric("vx11_operator_event_log_relieved_total").await, 0);
    nothing_was_denied(&cluster.redis).await;
}

#[tokio::test]
async fn a_redis_filled_from_elsewhere_is_relieved_by_trimming_the_log() {
    let cluster = cluster(48 * MIB).await;
    let (one, two) = (instance(&cluster, "1", 16 * MIB).await, instance(&cluster, "2", 16 * MIB).await);
    let first = publish(&one, 700, 20_000).await;
    let before = number(&cluster.redis, &["XLEN", LOG]).await;
    fill(&cluster.redis).await;
    until("the log to be shorter", async || number(&cluster.redis, &["XLEN", LOG]).await < before).await;
    let last = one.publish(json!("small")).await;
    tokens_are_as_usual([&one, &two]).await;
    let after = number(&cluster.redis, &["XLEN", LOG]).await;
    assert!(
        (before / 2..=before / 2 + 2).contains(&after),
        "{after} of {before}: one instance halves the log"
    );
    let relieved = async |instance: &Instance| {
        let counted = instance.metric("vx11_operator_event_log_relieved_total").await;
        assert_eq!(instance.log_text().matches(RELIEVED).count() as u64, counted, "a warning says so");
        counted
    };
    assert_eq!(relieved(&one).await + relieved(&two).await, 1);
    // Streams in catch-up get `expired` for removed events; rings still have them.
    let three = instance(&cluster, "3", 16 * MIB).await;
    let mut late = three.resume_stream(&three.issue().await.token, &first).await;
    let reset = late.next_published().await;
    assert_eq!((reset.event.as_str(), reset.json()), ("reset", json!({"reason": "expired"})));
    let mut late = one.resume_stream(&one.issue().await.token, &first).await;
    while late.next_published().await.id != last {}
    nothing_was_denied(&cluster.redis).await;
}

#[tokio::test]
async fn an_instance_joins_a_full_redis() {
    let cluster = cluster(48 * MIB).await;
    let one = instance(&cluster, "1", 16 * MIB).await;
    one.publish(json!(1)).await;
    cluster.redis.refuse_memory().await;
    let two = instance(&cluster, "2", 16 * MIB).await;
    two.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
}

/// A new log generation is written, which needs room.
#[tokio::test]
async fn an_instance_makes_room_in_a_full_redis_whose_log_is_in_recovery() {
    let cluster = cluster(48 * MIB).await;
    let one = instance(&cluster, "1", 16 * MIB).await;
    publish(&one, 700, 20_000).await;
    one.kill().await;
    cluster.redis.command(&["HSET", "{vx11}:log", "data", "of another server"]).await;
    fill(&cluster.redis).await;
    let two = instance(&cluster, "2", 16 * MIB).await;
    two.publish(json!(2)).await;
    assert_eq!(two.metric("vx11_operator_event_log_relieved_total").await, 1);
}

#[tokio::test]
async fn a_log_that_cannot_fit_into_redis_is_warned_about_once_for_each_limit() {
    let cluster = cluster(32 * MIB).await;
    let one = instance(&cluster, "1", 64 * MIB).await;
    let limits = [32 * MIB, 30 * MIB];
    for limit in limits {
        cluster.redis.command(&["CONFIG", "SET", "maxmemory", &limit.to_string()]).await;
        one.logs(&format!("maxmemory={limit}")).await;
    }
    let log = one.log_text();
    for limit in limits {
        let of_this = |line: &&str| line.contains(&format!("maxmemory={limit}"));
        let warnings: Vec<_> = log.lines().filter(of_this).collect();
        let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
        for words in ["WARN", "Lower events.log_bytes or raise maxmemory"] {
            assert!(warning.contains(words), "{warning}");
        }
    }
}
