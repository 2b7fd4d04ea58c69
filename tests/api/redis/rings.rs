//! Instances whose rings differ in size bring back a log that Redis has lost. It begins where the
//! largest ring begins.

use serde_json::json;
use vx11_kit::{FaultProxy, RedisServer, until};

use super::{Cluster, DocumentedUser, nothing_was_denied};
use crate::support::Instance;

/// Large enough that the larger ring is brought in several parts.
const EVENTS: usize = 40;
const BYTES: usize = 60_000;
const SMALL_RING: usize = 10;
/// Bytes a second of a link over which one part of them takes most of a second.
const NARROW: u32 = 1_500_000;

/// Writes what the first instance to come would write, with more time to bring events: the second
/// one must come within it.
async fn found(redis: &RedisServer) {
    let (server, replication) = (redis.info("server").await, redis.info("replication").await);
    let name = format!("{}:{}", server["run_id"], replication["master_replid"]);
    let now: Vec<u64> = redis::from_redis_value(redis.command(&["TIME"]).await).unwrap();
    let (founded, opens) = ((now[0] * 1000).to_string(), (now[0] * 1000 + 7000).to_string());
    let note = ["data", &name, "founding", "f", "opens", &opens, "founded", &founded];
    redis.command(&[&["HSET", "{vx11}:log"], &note[..]].concat()).await;
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

/// Two instances with all events in Redis, and in their rings as far as they go.
struct Rings {
    cluster: Cluster,
    small: Instance,
    way_of_small: FaultProxy,
    large: Instance,
    way_of_large: FaultProxy,
    ids: Vec<String>,
}

impl Rings {
    /// The instances are this user of Redis.
    async fn filled(user: &DocumentedUser) -> Self {
        let cluster = Cluster::start().await;
        user.create(&cluster.redis).await;
        let ring = SMALL_RING.to_string();
        let small_ring = [("VX11_OPERATOR__EVENTS__RING_ENTRIES", ring.as_str())];
        let settings = [&user.settings()[..], &small_ring].concat();
        let (small, way_of_small) = cluster.instance_with_way("1", &settings).await;
        let (large, way_of_large) = cluster.instance_with_way("2", &user.settings()).await;
        let data = json!("x".repeat(BYTES));
        let mut ids = Vec::new();
        for n in 0..EVENTS {
            ids.push([&small, &large][n % 2].publish(data.clone()).await);
        }
        for instance in [&small, &large] {
            let mut stream = instance.resume_stream(&instance.issue().await.token, &ids[EVENTS - 2]).await;
            assert_eq!(stream.next_published().await.id, ids[EVENTS - 1], "it has read all of them");
        }
        Self { cluster, small, way_of_small, large, way_of_large, ids }
    }

    /// Redis has lost its data, and no instance has come back to it.
    async fn lost(user: &DocumentedUser) -> Self {
        let mut rings = Self::filled(user).await;
        rings.way_of_small.refuse();
        rings.way_of_large.refuse();
        rings.cluster.redis.restart().await;
        user.create(&rings.cluster.redis).await;
        found(&rings.cluster.redis).await;
        rings
    }

    /// No event is missing anywhere.
    async fn are_whole(mut self) {
        self.ids.push(self.small.publish(json!("after")).await);
        for instance in [&self.small, &self.large] {
            let mut stream = instance.resume_stream(&instance.issue().await.token, &self.ids[0]).await;
            for id in &self.ids[1..] {
                assert_eq!(stream.next_published().await.id, *id);
            }
        }
    }
}

#[tokio::test]
async fn the_log_begins_where_the_largest_ring_begins_if_the_instance_with_the_smaller_one_comes_first() {
    let rings = Rings::lost(&DocumentedUser::new()).await;
    brings(&rings.cluster.redis, &rings.way_of_small, SMALL_RING).await;
    brings(&rings.cluster.redis, &rings.way_of_large, EVENTS).await;
    nothing_was_denied(&rings.cluster.redis).await;
    rings.are_whole().await;
}

#[tokio::test]
async fn the_log_begins_where_the_largest_ring_begins_if_the_instance_with_that_one_comes_first() {
    let rings = Rings::lost(&DocumentedUser::new()).await;
    brings(&rings.cluster.redis, &rings.way_of_large, EVENTS).await;
    brings(&rings.cluster.redis, &rings.way_of_small, EVENTS).await;
    rings.are_whole().await;
}

/// The instance with the larger ring has found the log empty, and sends its events.
#[tokio::test]
async fn the_log_begins_where_the_largest_ring_begins_if_the_other_instance_comes_between() {
    let rings = Rings::lost(&DocumentedUser::new()).await;
    let redis = &rings.cluster.redis;
    rings.way_of_large.narrow(NARROW);
    until("events to be on their way", async || {
        let clients = redis.command_text(&["CLIENT", "LIST"]).await;
        // A script's arguments are one large text. Redis collects it in the buffer of its client.
        let waiting = clients.split(' ').filter_map(|word| word.strip_prefix("qbuf="));
        waiting.filter_map(|bytes| bytes.parse().ok()).any(|bytes: usize| bytes > BYTES)
    })
    .await;
    brings(redis, &rings.way_of_small, SMALL_RING).await;
    rings.way_of_large.pass();
    until("the rest to be brought", async || {
        redis.command_text(&["XLEN", "{vx11}:events"]).await.parse::<usize>().unwrap() >= EVENTS
    })
    .await;
    rings.are_whole().await;
}

/// As in a list of rights from before the log was bounded in bytes.
#[tokio::test]
async fn the_log_comes_back_whole_with_a_user_of_redis_that_may_not_trim() {
    let rings = Rings::lost(&DocumentedUser::new().without("+xtrim")).await;
    brings(&rings.cluster.redis, &rings.way_of_small, SMALL_RING).await;
    brings(&rings.cluster.redis, &rings.way_of_large, EVENTS).await;
    rings.are_whole().await;
}
