//! Topics of events: how they are published, and what a stream begins and goes on with.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::EventStream;

use crate::support::{Instance, TextStream, field, problem, publish_to, stream, token_for};

const PUBLISH: &str = "/operator/api/events";

/// Opens a stream with these parameters.
async fn open(instance: &Instance, parameters: &[(&str, &str)]) -> EventStream {
    EventStream::connected(stream(instance, parameters).send().await.unwrap()).await
}

/// Asserts that the next events of a stream have these data.
async fn delivers(stream: &mut EventStream, data: &[&str]) {
    for data in data {
        assert_eq!(stream.next().await.unwrap().json(), *data);
    }
}

#[tokio::test]
async fn an_event_carries_its_topic_in_a_line_and_an_event_of_default_carries_none() {
    let instance = Instance::start().await;
    let token = token_for(&instance, &["orders/*", "default"]).await;
    let mut stream = TextStream::open(stream(&instance, &[("token", &token)])).await;
    let id = publish_to(&instance, "orders/42", "of an order").await;
    instance.publish(json!("of default")).await;
    let frame = stream.frame_with("of an order").await;
    assert_eq!(field(&frame, "topic"), Some("orders/42"));
    assert_eq!((field(&frame, "id"), field(&frame, "event")), (Some(id.as_str()), Some("message")));
    let frame = stream.frame_with("of default").await;
    assert_eq!(field(&frame, "topic"), None, "{frame}");
}

#[tokio::test]
async fn an_event_of_several_topics_is_one_event_and_shows_the_first_topic_that_matches() {
    let instance = Instance::start().await;
    let mut streams = Vec::new();
    for topics in [&["orders/*", "users/7"][..], &["users/*", "news"], &["news"], &["*"], &["default"]] {
        let token = token_for(&instance, topics).await;
        streams.push(TextStream::open(stream(&instance, &[("token", &token)])).await);
    }
    let body = json!({ "topics": ["orders/42", "users/7", "news"], "data": "the event" });
    let id = instance.publish_body(&body.to_string()).await;
    let last = json!({ "topics": ["default", "news", "users/7"], "data": "the last" });
    instance.publish_body(&last.to_string()).await;
    let shown = [Some("orders/42"), Some("users/7"), Some("news"), Some("orders/42"), None];
    for (stream, topic) in streams.iter_mut().zip(shown) {
        stream.frame_with("the last").await;
        let found = stream.until(|frames| {
            let frames = frames.iter().filter(|frame| frame.contains("the event"));
            Some(frames.map(ToString::to_string).collect::<Vec<_>>())
        });
        let found = found.await;
        assert_eq!(found.len(), usize::from(topic.is_some()), "once, or not at all: {found:?}");
        if let Some(frame) = found.first() {
            assert_eq!((field(frame, "topic"), field(frame, "id")), (topic, Some(id.as_str())));
        }
    }
}

#[tokio::test]
async fn a_principal_reads_the_topics_that_it_asks_for_and_default_if_it_asks_for_none() {
    let instance = Instance::start().await;
    let own = ("token", instance.principal.as_str());
    let mut of_default = open(&instance, &[own]).await;
    let mut of_some = open(&instance, &[own, ("topic", "orders/*"), ("topic", "news")]).await;
    let mut of_all = open(&instance, &[own, ("topic", "*")]).await;
    for topic in ["orders/42", "users/7", "default", "news", "default", "news"] {
        publish_to(&instance, topic, topic).await;
    }
    delivers(&mut of_default, &["default", "default"]).await;
    delivers(&mut of_some, &["orders/42", "news", "news"]).await;
    delivers(&mut of_all, &["orders/42", "users/7", "default", "news", "default", "news"]).await;
}

/// Publishes ten events in turn to `orders/1`, `users/7` and `default`; their data is their number.
async fn ten_events(instance: &Instance) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..10 {
        let topic = ["orders/1", "users/7", "default"][number % 3];
        ids.push(publish_to(instance, topic, &number.to_string()).await);
    }
    ids
}

#[tokio::test]
async fn a_stream_begins_as_far_back_as_it_asks_with_events_of_its_topics() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")]).await;
    let token = token_for(&instance, &["orders/*", "users/*"]).await;
    ten_events(&instance).await;
    let mut streams = Vec::new();
    for (from, topic, expected) in [
        ("start", "orders/*", &["0", "3", "6", "9"][..]),
        ("start", "users/7", &["1", "4", "7"]),
        ("-1", "orders/*", &["9"]),
        ("-2", "users/7", &["4", "7"]),
        ("-1000", "orders/1", &["0", "3", "6", "9"]),
        ("start", "orders/2", &[]),
        ("-3", "orders/2", &[]),
    ] {
        let parameters = [("token", token.as_str()), ("from", from), ("topic", topic)];
        let mut stream = open(&instance, &parameters).await;
        delivers(&mut stream, expected).await;
        streams.push(stream);
    }
    // They go on, with nothing in between.
    publish_to(&instance, "default", "of another topic").await;
    let last = json!({ "topics": ["orders/1", "orders/2", "users/7"], "data": "the last" });
    instance.publish_body(&last.to_string()).await;
    for stream in &mut streams {
        delivers(stream, &["the last"]).await;
    }
}

#[tokio::test]
async fn a_last_event_id_wins_over_another_beginning() {
    let instance = Instance::start().await;
    let ids = ten_events(&instance).await;
    let parameters = [("token", instance.principal.as_str()), ("topic", "*"), ("from", "start")];
    for in_header in [false, true] {
        let request = stream(&instance, &parameters);
        let request = if in_header {
            request.header("Last-Event-ID", &ids[6])
        } else {
            request.query(&[("last_event_id", &ids[6])])
        };
        let mut stream = EventStream::connected(request.send().await.unwrap()).await;
        delivers(&mut stream, &["7", "8", "9"]).await;
    }
    // An empty one is none.
    let mut stream = open(&instance, &[&parameters[..], &[("last_event_id", "")]].concat()).await;
    delivers(&mut stream, &["0", "1", "2"]).await;
}

#[tokio::test]
async fn a_beginning_or_topic_that_is_none_is_refused_and_named() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let refused = async |parameters: &[(&str, &str)], name: &str| {
        let parameters = [&[("token", token.as_str())], parameters].concat();
        let answer = stream(&instance, &parameters).send().await.unwrap();
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.starts_with(name) && !detail.contains("xylo"), "{parameters:?}: {detail}");
    };
    for from in ["", "xylophone", "Start", "0", "-0", "1", "-1001", "--1", "-1.5", "-xylophone"] {
        refused(&[("from", from)], "from").await;
    }
    refused(&[("from", "start"), ("from", "start")], "from").await;
    for topic in ["", "xylophone/", "xylo phone", "*/xylophone", "**"] {
        refused(&[("topic", topic)], "topic").await;
    }
    refused(&[("topic", "xylophone"), ("topic", "xylophone")], "topic").await;
    let names: Vec<_> = (0..17).map(|n| format!("xylophone{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| ("topic", name.as_str())).collect();
    refused(&many, "topic").await;
    assert_eq!(instance.metric("vx11_operator_sse_connections_ephemeral_total").await, 0);
}

/// Id of an SSE heartbeat: a comment and a position, without data.
fn heartbeat_id(frame: &str) -> Option<&str> {
    let is_heartbeat = frame.lines().any(|line| line == ": heartbeat");
    assert!(!is_heartbeat || field(frame, "data").is_none(), "{frame}");
    field(frame, "id").filter(|_| is_heartbeat)
}

#[tokio::test]
async fn an_idle_stream_learns_the_newest_position_and_resumes_from_it_without_reset() {
    let heartbeat = ("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "1");
    let instance = Instance::with(&[heartbeat, ("VX11_OPERATOR__EVENTS__RING_ENTRIES", "20")]).await;
    let token = token_for(&instance, &["quiet"]).await;
    let mut idle = TextStream::open(stream(&instance, &[("token", &token)])).await;
    let greeting = idle.frame_with("connected").await;
    let before = field(&greeting, "id").unwrap().to_owned();
    // More events of another topic than the log keeps.
    let mut newest = String::new();
    for _ in 0..50 {
        newest = publish_to(&instance, "busy", "of another topic").await;
    }
    let is_newest = |frame: &&str| heartbeat_id(frame) == Some(newest.as_str());
    idle.until(|frames| frames.iter().any(is_newest).then_some(())).await;
    let text = idle.until(|frames| Some(frames.join("\n\n"))).await;
    assert!(!text.contains("of another topic") && !text.contains("reset"), "{text}");
    drop(idle);
    let id = publish_to(&instance, "quiet", "at last").await;
    let mut resumed = open(&instance, &[("token", &token), ("last_event_id", &newest)]).await;
    let event = resumed.next().await.unwrap();
    assert_eq!((event.event.as_str(), event.id), ("message", id));
    // From the position before, events may be missing.
    let mut late = open(&instance, &[("token", &token), ("last_event_id", &before)]).await;
    assert_eq!(late.next().await.unwrap().event, "reset");
}

#[tokio::test]
async fn the_same_event_on_another_topic_is_another_event_under_its_key() {
    let instance = Instance::start().await;
    let publish = async |body: Value| {
        let request = instance.post_as_principal(PUBLISH).header("Idempotency-Key", "key-1");
        request.json(&body).send().await.unwrap()
    };
    let first = publish(json!({ "topic": "orders/1", "data": 1 })).await;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    let again = publish(json!({ "topics": ["orders/1"], "data": 1 })).await;
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first.json::<Value>().await.unwrap());
    for other in [
        json!({ "topic": "orders/2", "data": 1 }),
        json!({ "topics": ["orders/1", "orders/2"], "data": 1 }),
        json!({ "data": 1 }),
    ] {
        problem(publish(other).await, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
    }
}
