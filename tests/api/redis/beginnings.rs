//! Streams that begin with earlier events (`?from=`): from the ring, or from the log where the ring
//! does not reach so far back, whatever happened to Redis.

use serde_json::json;
use vx11_kit::EventStream;

use super::{Cluster, backend_becomes};
use crate::support::{Instance, publish_to, stream, token_for};

/// A ring of which no test finds its events.
const SMALL_RING: [(&str, &str); 1] = [("VX11_OPERATOR__EVENTS__RING_ENTRIES", "2")];

/// Opens a stream of the principal with these parameters.
async fn open(instance: &Instance, from: &str, topic: &str) -> EventStream {
    let parameters = [("token", instance.principal.as_str()), ("from", from), ("topic", topic)];
    EventStream::connected(stream(instance, &parameters).send().await.unwrap()).await
}

/// Asserts that the next events of a stream are these, whatever is said about the log meanwhile.
async fn delivers(stream: &mut EventStream, expected: &[&str]) {
    for data in expected {
        let event = stream.next_published().await;
        assert_eq!((event.event.as_str(), event.json()), ("message", (*data).into()));
    }
}

/// Publishes ten events in turn to `orders/1`, `users/7` and `default`; their data is their number.
async fn ten_events(instance: &Instance) {
    for number in 0..10 {
        let topic = ["orders/1", "users/7", "default"][number % 3];
        publish_to(instance, topic, &number.to_string()).await;
    }
}

/// Beginnings, with topics, and the events of [`ten_events`] that they bring.
const BEGINNINGS: [(&str, &str, &[&str]); 9] = [
    ("start", "*", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
    ("start", "orders/*", &["0", "3", "6", "9"]),
    ("start", "users/8", &[]),
    ("-1", "*", &["9"]),
    ("-2", "users/7", &["4", "7"]),
    ("-3", "orders/*", &["3", "6", "9"]),
    ("-10", "*", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
    ("-1000", "default", &["2", "5", "8"]),
    ("-5", "users/8", &[]),
];

/// Asserts that each beginning brings its events, and that each stream goes on with the next one.
async fn begin_as_they_ask(instance: &Instance) {
    let mut streams = Vec::new();
    for (from, topic, expected) in BEGINNINGS {
        let mut stream = open(instance, from, topic).await;
        delivers(&mut stream, expected).await;
        streams.push(stream);
    }
    let live = json!({ "topics": ["orders/1", "users/7", "users/8", "default"], "data": "live" });
    instance.publish_body(&live.to_string()).await;
    for stream in &mut streams {
        delivers(stream, &["live"]).await;
    }
}

#[tokio::test]
async fn a_stream_begins_as_far_back_as_it_asks_in_the_ring_and_in_the_log() {
    for settings in [&[][..], &SMALL_RING] {
        let cluster = Cluster::start().await;
        let one = cluster.instance_with("1", settings).await;
        ten_events(&one).await;
        begin_as_they_ask(&one).await;
    }
}

#[tokio::test]
async fn a_stream_with_a_grant_begins_in_the_log_with_events_of_its_grant_only() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    ten_events(&one).await;
    let token = token_for(&one, &["orders/*", "users/7"]).await;
    for (from, expected) in [
        ("start", &["0", "1", "3", "4", "6", "7", "9"][..]),
        ("-2", &["7", "9"]),
        ("-5", &["3", "4", "6", "7", "9"]),
    ] {
        let request = stream(&one, &[("token", token.as_str()), ("from", from)]);
        let mut stream = EventStream::connected(request.send().await.unwrap()).await;
        delivers(&mut stream, expected).await;
    }
}

#[tokio::test]
async fn a_stream_that_asks_for_more_than_the_log_has_begins_where_the_log_begins() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    ten_events(&one).await;
    cluster.redis.command(&["XTRIM", "{vx11}:events", "MAXLEN", "=", "4"]).await;
    for from in ["start", "-10", "-1000"] {
        let mut stream = open(&one, from, "*").await;
        delivers(&mut stream, &["6", "7", "8", "9"]).await;
    }
}

#[tokio::test]
async fn after_a_loss_of_data_a_stream_begins_with_what_the_instances_held() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    ten_events(&one).await;
    cluster.redis.flush().await;
    vx11_kit::until("the log to be brought back", async || {
        redis::from_redis_value::<u64>(cluster.redis.command(&["XLEN", "{vx11}:events"]).await).unwrap() >= 10
    })
    .await;
    let late = cluster.instance_with("2", &SMALL_RING).await;
    backend_becomes(&late, "redis").await;
    for instance in [&one, &late] {
        for (from, topic, expected) in BEGINNINGS {
            delivers(&mut open(instance, from, topic).await, expected).await;
        }
    }
}

#[tokio::test]
async fn while_redis_is_away_a_stream_begins_in_the_ring_or_waits_for_the_log() {
    let cluster = Cluster::start().await;
    let (whole, way) = cluster.instance_with_way("1", &[]).await;
    let (small, other_way) = cluster.instance_with_way("2", &SMALL_RING).await;
    ten_events(&whole).await;
    for instance in [&whole, &small] {
        instance.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
        delivers(&mut open(instance, "-1", "*").await, &["9"]).await;
    }
    for way in [&way, &other_way] {
        way.refuse();
    }
    for instance in [&whole, &small] {
        backend_becomes(instance, "fallback-memory").await;
        delivers(&mut open(instance, "-2", "*").await, &["8", "9"]).await;
    }
    delivers(&mut open(&whole, "-3", "orders/*").await, &["3", "6", "9"]).await;
    let mut waits = [open(&small, "start", "*").await, open(&small, "-2", "users/7").await];
    for stream in &mut waits {
        assert_eq!(stream.next().await.unwrap().event, "degraded");
    }
    for way in [&way, &other_way] {
        way.pass();
    }
    let all = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    for (stream, expected) in waits.iter_mut().zip([&all[..], &["4", "7"]]) {
        delivers(stream, expected).await;
    }
}
