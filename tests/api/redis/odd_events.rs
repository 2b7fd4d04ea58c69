//! Events that are large, many, or full of characters that mean something to the wire, through
//! Redis and back. What comes out is read by a parser that is not ours.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::EventStream;

use super::Cluster;
use crate::support::problem;

#[tokio::test]
async fn the_largest_event_a_request_can_carry_reaches_every_instance() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let mut stream = two.open_stream(&two.issue().await.token).await;
    let before = one.publish(json!(0)).await;
    let around = r#"{"data":""}"#.len();
    let largest = "x".repeat(64 * 1024 - around);
    let body = |text: &str| format!(r#"{{"data":"{text}"}}"#);
    for _ in 0..20 {
        one.publish_body(&body(&largest)).await;
    }
    let request = one.post_as_principal("/operator/api/events").header("Content-Type", "application/json");
    let too_large = request.body(body(&format!("{largest}x"))).send().await.unwrap();
    problem(too_large, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
    assert_eq!(stream.next_published().await.id, before);
    for _ in 0..20 {
        assert_eq!(stream.next_published().await.json(), json!(largest));
    }
    // And again for who was away, on an instance that was not there.
    let three = cluster.instance("3").await;
    let mut stream = three.resume_stream(&three.issue().await.token, &before).await;
    for _ in 0..20 {
        assert_eq!(stream.next_published().await.json(), json!(largest));
    }
}

#[tokio::test]
async fn a_thousand_events_at_once_reach_every_stream_in_one_order() {
    let cluster = Cluster::start().await;
    let instances = [cluster.instance("1").await, cluster.instance("2").await];
    let mut streams = Vec::new();
    for instance in &instances {
        streams.push(instance.open_stream(&instance.issue().await.token).await);
    }
    let calls = (0..1000).map(|n| instances[n % 2].publish(json!(n)));
    let ids: std::collections::BTreeSet<_> =
        futures_util::future::join_all(calls).await.into_iter().collect();
    assert_eq!(ids.len(), 1000);
    let mut seen = Vec::new();
    for stream in &mut streams {
        let mut got = Vec::new();
        for _ in 0..1000 {
            got.push(stream.next_published().await.id);
        }
        assert_eq!(got.iter().cloned().collect::<std::collections::BTreeSet<_>>(), ids);
        seen.push(got);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn every_character_that_json_can_carry_arrives_as_it_was_sent_or_with_its_line_ends_unified() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let mut stream = two.open_stream(&two.issue().await.token).await;
    let strings = [
        "line\nfeed",
        "carriage\rreturn",
        "both\r\nof them",
        "nul\0",
        "emoji \u{1F600}\u{1F468}\u{200D}\u{1F469}",
        "\u{FEFF}mark",
        "\u{2028}separator",
        "data: x\n\nid: 7\nevent: reset",
        ": heartbeat",
        "\u{FFFD}",
        "\"\\",
    ];
    for text in strings {
        one.publish(json!(text)).await;
        assert_eq!(stream.next_published().await.json(), json!(text));
    }
    // Between tokens JSON allows line ends as they are; the wire knows one kind.
    for (sent, arrives) in [
        ("[1,\r\n2]", "[1,\n2]"),
        ("[1,\r2]", "[1,\n2]"),
        ("[1,\n\n2]", "[1,\n\n2]"),
        ("{\t\"a\" : 1}", "{\t\"a\" : 1}"),
    ] {
        one.publish_body(&format!(r#"{{"data":{sent}}}"#)).await;
        let frame = stream.next_published().await;
        assert_eq!(frame.data, arrives);
        assert_eq!(frame.json(), serde_json::from_str::<Value>(sent).unwrap());
    }
}

#[tokio::test]
async fn bytes_that_are_no_json_are_refused_and_nothing_of_them_arrives() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let mut stream = one.open_stream(&one.issue().await.token).await;
    let refused: [&[u8]; 5] = [
        b"{\"data\": \"\xff\xfe\"}",
        b"{\"data\": \"\xc3\"}",
        b"{\"data\": \"\xed\xa0\x80\"}",
        b"{\"data\": \"a\nb\"}",
        b"{\"data\": \"\0\"}",
    ];
    for body in refused {
        let request =
            one.post_as_principal("/operator/api/events").header("Content-Type", "application/json");
        let answer = request.body(body.to_vec()).send().await.unwrap();
        problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
    }
    let next = one.publish(json!("next")).await;
    assert_eq!(stream.next_published().await.id, next);
}

/// Events of a later version, or of a foreign program. Ignoring them would be a silent loss.
#[tokio::test]
async fn an_event_that_an_instance_cannot_read_is_announced_to_streams_and_stops_nothing() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let mut stream = one.open_stream(&one.issue().await.token).await;
    let before = one.publish(json!("before")).await;
    assert_eq!(stream.next_published().await.id, before);
    let is_reset = async |stream: &mut EventStream| {
        let frame = stream.next_published().await;
        assert_eq!((frame.event.as_str(), frame.json()), ("reset", json!({"reason": "expired"})));
    };
    let unreadable: [&[&str]; 5] = [
        &["foo", "bar"],
        &["type", "message"],
        &["data", "1"],
        &["type", "reset", "data", "1"],
        &["type", "of a later version", "data", "1"],
    ];
    for fields in unreadable {
        let command = [&["XADD", "{vx11}:events", "*"], fields].concat();
        cluster.redis.command(&command).await;
        is_reset(&mut stream).await;
    }
    let no_text = r"redis.call('XADD', KEYS[1], '*', '\255', '1')";
    cluster.redis.command(&["EVAL", no_text, "1", "{vx11}:events"]).await;
    is_reset(&mut stream).await;
    let next = one.publish(json!("next")).await;
    assert_eq!(stream.next_published().await.id, next);
    one.metric_becomes("vx11_operator_events_unreadable_total", 6).await;
    one.logs("events that this version cannot read").await;
    let two = cluster.instance("2").await;
    assert_eq!(two.open_stream(&two.issue().await.token).await.greeting.id, next);
    for instance in [&one, &two] {
        // Neither goes on as if nothing were missing.
        let mut late = instance.resume_stream(&instance.issue().await.token, &before).await;
        is_reset(&mut late).await;
    }
}
