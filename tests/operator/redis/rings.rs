//! Instances whose rings differ in size bring back a log that Redis has lost. It begins where the largest ring begins.

use serde_json::json;
use vx11_rig::{FaultProxy, RedisServer, until};

use super::Cluster;

/// Large enough that the larger ring is brought in several parts.
const EVENTS: usize = 40;
const BYTES: usize = 60_000;
const SMALL_RING: usize = 10;

/// Writes what the first instance to come would write, with more time to bring events: the second one must come within it.
async fn found(redis: &RedisServer) {
    let (server, replication) = (redis.info("server").await, redis.info("replication").await);
    let name = format!("{}:{}", server["run_id"], replication["master_replid"]);
    let now: Vec<u64> = redis::from_redis_value(redis.command(&["TIME"]).await).unwrap();
    let opens = (now[0] * 1000 + 7000).to_string();
    redis.command(&["HSET", "{vx11}:log", "data", &name, "founding", "f", "opens", &opens]).await;
}

/// Lets an instance reach Redis, and waits until it has brought so many events.
async fn brings(redis: &RedisServer, way: &FaultProxy, events: usize) {
    way.pass();
    until("events to be brought back", async || {
        let length: usize = redis.command_text(&["XLEN", "{vx11}:events"]).await.parse().unwrap();
        length >= events
    })
    .await;
}

async fn the_log_comes_back(small_ring_first: bool) {
    let mut cluster = Cluster::start().await;
    let ring = SMALL_RING.to_string();
    let settings = [("VX11_OPERATOR__EVENTS__RING_ENTRIES", ring.as_str())];
    let (small, way_of_small) = cluster.instance_with_way("1", &settings).await;
    let (large, way_of_large) = cluster.instance_with_way("2", &[]).await;
    let data = json!("x".repeat(BYTES));
    let mut ids = Vec::new();
    for n in 0..EVENTS {
        ids.push([&small, &large][n % 2].publish(data.clone()).await);
    }
    for instance in [&small, &large] {
        let mut stream = instance.resume_stream(&instance.issue().await.token, &ids[EVENTS - 2]).await;
        assert_eq!(stream.next_published().await.id, ids[EVENTS - 1], "it has read all of them");
    }
    way_of_small.refuse();
    way_of_large.refuse();
    cluster.redis.restart().await;
    found(&cluster.redis).await;
    if small_ring_first {
        brings(&cluster.redis, &way_of_small, SMALL_RING).await;
        brings(&cluster.redis, &way_of_large, EVENTS).await;
    } else {
        brings(&cluster.redis, &way_of_large, EVENTS).await;
        brings(&cluster.redis, &way_of_small, EVENTS).await;
    }
    ids.push(small.publish(json!("after")).await);
    for instance in [&small, &large] {
        let mut stream = instance.resume_stream(&instance.issue().await.token, &ids[0]).await;
        for id in &ids[1..] {
            assert_eq!(stream.next_published().await.id, *id);
        }
    }
}

#[tokio::test]
async fn the_log_begins_where_the_largest_ring_begins_if_the_instance_with_the_smaller_one_comes_first() {
    the_log_comes_back(true).await;
}

#[tokio::test]
async fn the_log_begins_where_the_largest_ring_begins_if_the_instance_with_that_one_comes_first() {
    the_log_comes_back(false).await;
}
