//! Recovery of the event log: when Redis loses it, the instances hold it and re-submit it before
//! new events follow. Only events that nobody can re-submit in order are lost, and then every
//! stream gets `reset`.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::{EventStream, RedisCluster, RedisServer, SentinelSet};

use super::Cluster;
use crate::support::{Instance, random_hex};

/// Publishes as publishers should: repeats under the same key until it is acknowledged.
async fn publish(instance: &Instance, n: usize) -> String {
    let key = random_hex();
    vx11_kit::eventually("an event to be published", async || {
        let request = instance.post_as_principal("/operator/api/events").header("Idempotency-Key", &key);
        let answer = request.json(&json!({ "data": n })).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        match status {
            StatusCode::ACCEPTED => Some(body["id"].as_str().unwrap().to_owned()),
            StatusCode::SERVICE_UNAVAILABLE => None,
            other => panic!("{other} {body}"),
        }
    })
    .await
}

async fn publish_some(instances: &[&Instance], count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(publish(instances[n % instances.len()], n).await);
    }
    ids
}

/// The ids of the next events, whatever is said about the connection in between; not a reset.
async fn next_ids(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let frame = stream.next().await.expect("the stream goes on");
        match frame.event.as_str() {
            "message" => ids.push(frame.id),
            "degraded" | "recovered" => {}
            other => panic!("{other}: {}", frame.data),
        }
    }
    ids
}

/// The next frame that is not about the connection.
async fn next(stream: &mut EventStream) -> (String, String) {
    loop {
        let frame = stream.next().await.expect("the stream goes on");
        if !["degraded", "recovered"].contains(&frame.event.as_str()) {
            return (frame.event, frame.data);
        }
    }
}

/// Everything can be resumed, from anywhere, on an instance that has seen all of it and on one that
/// has not.
async fn all_of_it_is_there(cluster: &Cluster, old: &Instance, start: &str, ids: &[String]) {
    let new = cluster.instance("9").await;
    for instance in [old, &new] {
        let mut stream = instance.resume_stream(&instance.issue().await.token, &ids[0]).await;
        assert_eq!(next_ids(&mut stream, ids.len() - 1).await, ids[1..]);
    }
    // The beginning of the log may be gone, but not on an instance that was there.
    let mut stream = old.resume_stream(&old.issue().await.token, start).await;
    assert_eq!(next_ids(&mut stream, ids.len()).await, ids);
}

#[tokio::test]
async fn the_log_of_a_redis_that_comes_back_empty_is_brought_back_and_goes_on() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let mut streams =
        [one.open_stream(&one.issue().await.token).await, two.open_stream(&two.issue().await.token).await];
    let start = streams[0].greeting.id.clone();
    let mut ids = publish_some(&[&one, &two], 30).await;
    for _ in 0..2 {
        cluster.redis.restart().await;
        ids.extend(publish_some(&[&two, &one], 10).await);
    }
    for stream in &mut streams {
        assert_eq!(next_ids(stream, ids.len()).await, ids);
    }
    all_of_it_is_there(&cluster, &one, &start, &ids).await;
}

#[tokio::test]
async fn a_flushed_log_is_brought_back() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let mut stream = two.open_stream(&two.issue().await.token).await;
    let start = stream.greeting.id.clone();
    let mut ids = publish_some(&[&one, &two], 20).await;
    cluster.redis.flush().await;
    ids.extend(publish_some(&[&one, &two], 10).await);
    assert_eq!(next_ids(&mut stream, ids.len()).await, ids);
    all_of_it_is_there(&cluster, &one, &start, &ids).await;
}

#[tokio::test]
async fn a_key_is_known_after_redis_has_lost_it() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let call = async || {
        let request = one.post_as_principal("/operator/api/events").header("Idempotency-Key", "k");
        let answer = request.json(&json!({"data": [1,
            2]}));
        answer.send().await.unwrap()
    };
    let first: Value = call().await.json().await.unwrap();
    cluster.redis.restart().await;
    publish(&one, 1).await;
    let again = call().await;
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first);
}

#[tokio::test]
async fn each_instance_brings_what_only_it_has_seen_in_its_place() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let (two, way) = cluster.instance_with_way("2", &[]).await;
    let mut streams =
        [one.open_stream(&one.issue().await.token).await, two.open_stream(&two.issue().await.token).await];
    let mut ids = publish_some(&[&one, &two], 4).await;
    way.refuse();
    ids.extend(publish_some(&[&one], 4).await);
    // Two may come first, with less than there was.
    cluster.redis.kill();
    way.pass();
    cluster.redis.restart().await;
    ids.extend(publish_some(&[&two], 1).await);
    for stream in &mut streams {
        assert_eq!(next_ids(stream, ids.len()).await, ids);
    }
}

#[tokio::test]
async fn ids_go_on_after_all_events_that_were_read_even_if_the_clock_of_redis_was_ahead() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let mut stream = one.open_stream(&one.issue().await.token).await;
    publish(&one, 0).await;
    // As the clock of a server would have it that is a year ahead.
    let ahead = "33000000000000-0";
    cluster.redis.command(&["XADD", "{vx11}:events", ahead, "type", "message", "data", "1"]).await;
    let ids = next_ids(&mut stream, 2).await;
    assert!(ids[1].ends_with(ahead));
    cluster.redis.restart().await;
    let last = publish(&one, 2).await;
    assert_eq!(next_ids(&mut stream, 1).await, std::slice::from_ref(&last));
    assert!(last.contains("-33000000000000-"), "{last}");
}

#[tokio::test]
async fn an_event_that_comes_too_late_for_its_place_is_announced_to_every_stream() {
    let mut cluster = Cluster::start().await;
    let (one, way_of_one) = cluster.instance_with_way("1", &[]).await;
    let (two, way_of_two) = cluster.instance_with_way("2", &[]).await;
    let mut streams =
        [one.open_stream(&one.issue().await.token).await, two.open_stream(&two.issue().await.token).await];
    let both = publish(&two, 0).await;
    for stream in &mut streams {
        assert_eq!(next_ids(stream, 1).await, std::slice::from_ref(&both));
    }
    // Two is cut off while one publishes, and one is cut off when Redis comes back without that.
    way_of_two.refuse();
    let only_one = publish(&one, 1).await;
    assert_eq!(next_ids(&mut streams[0], 1).await, [only_one]);
    way_of_one.refuse();
    cluster.redis.restart().await;
    way_of_two.pass();
    let follows = publish(&two, 2).await;
    assert_eq!(next_ids(&mut streams[1], 1).await, [follows]);
    way_of_one.pass();
    for stream in &mut streams {
        assert_eq!(next(stream).await, ("reset".to_owned(), r#"{"reason":"epoch"}"#.to_owned()));
    }
    let last = publish(&one, 3).await;
    for stream in &mut streams {
        assert_eq!(next_ids(stream, 1).await, std::slice::from_ref(&last));
    }
}

#[tokio::test]
async fn an_instance_that_was_away_for_longer_than_the_log_reaches_back_tells_its_streams() {
    let cluster = Cluster::start().await;
    let small = ("VX11_OPERATOR__EVENTS__LOG_ENTRIES", "200");
    let (one, way) = cluster.instance_with_way("1", &[small]).await;
    let two = cluster.instance_with("2", &[small]).await;
    let mut stream = one.open_stream(&one.issue().await.token).await;
    let before = publish(&two, 0).await;
    assert_eq!(next_ids(&mut stream, 1).await, std::slice::from_ref(&before));
    way.refuse();
    for n in 0..1000 {
        two.publish(json!(n)).await;
    }
    way.pass();
    let frame = loop {
        let frame = stream.next().await.unwrap();
        if !["degraded", "recovered"].contains(&frame.event.as_str()) {
            break frame;
        }
    };
    assert_eq!((frame.event.as_str(), frame.json()), ("reset", json!({"reason": "expired"})));
    // From where the log begins on, nothing is missing.
    let mut seen = Vec::new();
    while seen.last() != Some(&json!(999)) {
        let frame = stream.next().await.unwrap();
        if frame.event == "message" {
            seen.push(frame.json());
        }
    }
    assert!((200..1000).contains(&seen.len()), "{}", seen.len());
    let all: Vec<_> = (1000 - seen.len()..1000).map(|n| json!(n)).collect();
    assert_eq!(seen, all);
    // Nobody resumes across the gap here; the other's ring has no gap.
    let resume = async |instance: &Instance| {
        let mut late = instance.resume_stream(&instance.issue().await.token, &before).await;
        next(&mut late).await
    };
    assert_eq!(resume(&one).await, ("reset".to_owned(), r#"{"reason":"expired"}"#.to_owned()));
    assert_eq!(resume(&two).await, ("message".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_log_that_no_instance_has_any_longer_is_announced_by_reset() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let id = publish(&one, 0).await;
    one.kill().await;
    cluster.redis.restart().await;
    let two = cluster.instance("2").await;
    let mut stream = two.resume_stream(&two.issue().await.token, &id).await;
    assert_eq!(next(&mut stream).await, ("reset".to_owned(), r#"{"reason":"epoch"}"#.to_owned()));
    let live = publish(&two, 1).await;
    assert_eq!(next_ids(&mut stream, 1).await, [live]);
}

/// Two instances that ask these sentinels.
async fn under(set: &SentinelSet) -> Vec<Instance> {
    let sentinels = set.sentinels().join(",");
    let principal = random_hex();
    let mut instances = Vec::new();
    for id in ["1", "2"] {
        let settings = [
            ("VX11_PRINCIPAL_TOKEN", principal.as_str()),
            ("INSTANCE_ID", id),
            ("REDIS_SENTINELS", sentinels.as_str()),
            ("REDIS_SENTINEL_MASTER", set.name()),
        ];
        instances.push(Instance::with(&settings).await);
    }
    instances
}

#[tokio::test]
async fn under_sentinel_an_event_is_acknowledged_when_a_replica_has_it_or_there_has_been_none_for_a_while() {
    let mut set = SentinelSet::start().await;
    let instances = under(&set).await;
    publish(&instances[0], 0).await;
    set.kill_replica().await;
    let call = async || {
        let request = instances[0].post_as_principal("/operator/api/events").header("Idempotency-Key", "k");
        request.json(&json!({"data": 1})).send().await.unwrap()
    };
    let first = call().await;
    assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(first.json::<Value>().await.unwrap()["code"], "outcome_unknown", "the master alone has it");
    vx11_kit::until("a master to be trusted alone", async || {
        let answer = call().await;
        answer.status() == StatusCode::ACCEPTED && answer.headers()["idempotent-replayed"] == "true"
    })
    .await;
}

/// Nobody replaces the master of a set without Sentinels, so no event needs a copy there.
#[tokio::test]
async fn without_sentinels_the_loss_of_a_replica_does_not_stop_publishing() {
    let at_once = ["--repl-diskless-sync-delay", "0"];
    let (master, mut replica) = (RedisServer::with(&at_once).await, RedisServer::with(&at_once).await);
    replica.command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    vx11_kit::until("the replica to be in step", async || {
        master.info("replication").await.get("slave0").is_some_and(|replica| replica.contains("state=online"))
    })
    .await;
    let settings = [("REDIS_URL", master.url()), ("VX11_PRINCIPAL_TOKEN", random_hex())];
    let instance = Instance::with(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    publish(&instance, 0).await;
    // The instance looks at the replicas four times a second.
    let looked = async || master.commandstats().await.get("info").copied().unwrap_or(0);
    let before = looked().await;
    vx11_kit::until("the instance to have seen the replica", async || looked().await > before + 2).await;
    replica.kill();
    let before = looked().await;
    vx11_kit::until("the instance to have seen its loss", async || looked().await > before + 2).await;
    let answer = instance.post_as_principal("/operator/api/events").json(&json!({ "data": 1 })).send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_failover_loses_no_event_that_was_acknowledged() {
    let mut set = SentinelSet::start().await;
    let instances = under(&set).await;
    let both: Vec<_> = instances.iter().collect();
    let mut streams = Vec::new();
    for instance in &both {
        streams.push(instance.open_stream(&instance.issue().await.token).await);
    }
    let mut ids = publish_some(&both, 20).await;
    set.kill_master().await;
    ids.extend(publish_some(&both, 20).await);
    for stream in &mut streams {
        assert_eq!(next_ids(stream, ids.len()).await, ids);
    }
}

#[tokio::test]
async fn a_cluster_keeps_one_log_for_all_instances() {
    let cluster = RedisCluster::start(true).await;
    let nodes = cluster.addresses().join(",");
    let principal = random_hex();
    let settings = [("VX11_PRINCIPAL_TOKEN", principal.as_str()), ("REDIS_CLUSTER_NODES", nodes.as_str())];
    let (one, two) = (Instance::with(&settings).await, Instance::with(&settings).await);
    let mut stream = two.open_stream(&two.issue().await.token).await;
    let ids = publish_some(&[&one, &two], 10).await;
    assert_eq!(next_ids(&mut stream, 10).await, ids);
    let three = Instance::with(&settings).await;
    let mut stream = three.resume_stream(&three.issue().await.token, &ids[0]).await;
    assert_eq!(next_ids(&mut stream, 9).await, ids[1..]);
}
