//! Whatever a client says it saw last, it gets a stream: resumed where possible, else with `reset`.
//! An error would end a browser's `EventSource` for good.

use reqwest::header::HeaderValue;
use serde_json::json;
use vx11_kit::EventStream;

use crate::support::Instance;

const STREAM: &str = "/operator/api/events/stream";

/// Opens a stream with a `Last-Event-ID` header, a `last_event_id` parameter as in the URL, or
/// both.
async fn open(instance: &Instance, header: Option<&[u8]>, query: Option<&str>) -> EventStream {
    let query = query.map_or_else(String::new, |id| format!("?last_event_id={id}"));
    let mut request = instance.get_as_principal(&format!("{STREAM}{query}"));
    if let Some(id) = header {
        request = request.header("Last-Event-ID", HeaderValue::from_bytes(id).expect("a header value"));
    }
    EventStream::connected(request.send().await.expect("an answer")).await
}

/// Asserts that `reset` comes right after the greeting, and that the stream continues.
async fn announces(instance: &Instance, mut stream: EventStream, reason: &str) {
    let reset = stream.next().await.expect("a frame");
    assert_eq!((reset.event.as_str(), reset.json()), ("reset", json!({ "reason": reason })));
    // Resuming after the announcement misses nothing: it carries the position the stream goes on
    // from.
    assert_eq!(stream.greeting.id, "", "the position comes with the reset, not before it");
    assert!(!reset.id.is_empty());
    let id = instance.publish(json!("onward")).await;
    let next = stream.next().await.expect("a frame");
    assert_eq!((&next.id, next.json()), (&id, json!("onward")));
}

#[tokio::test]
async fn a_known_id_resumes_after_it_without_a_reset_by_header_and_by_query() {
    let instance = Instance::start().await;
    let first = instance.publish(json!(1)).await;
    instance.publish(json!(2)).await;
    for (header, query) in [(Some(first.as_bytes()), None), (None, Some(first.as_str()))] {
        let mut stream = open(&instance, header, query).await;
        assert_eq!(stream.next().await.unwrap().json(), 2);
    }
}

#[tokio::test]
async fn an_id_of_another_epoch_gets_reset() {
    let instance = Instance::start().await;
    let stranger = Instance::start().await.publish(json!(1)).await;
    instance.publish(json!(1)).await;
    let stream = open(&instance, Some(stranger.as_bytes()), None).await;
    announces(&instance, stream, "epoch").await;
}

#[tokio::test]
async fn an_id_from_the_future_gets_reset() {
    let instance = Instance::start().await;
    let id = instance.publish(json!(1)).await;
    let epoch = &id[..8];
    let newest = u64::MAX;
    for future in [format!("{epoch}-99999999999999-0"), format!("{epoch}-{newest}-{newest}")] {
        let stream = open(&instance, Some(future.as_bytes()), None).await;
        announces(&instance, stream, "future").await;
    }
}

#[tokio::test]
async fn an_id_whose_successors_are_no_longer_kept_gets_reset() {
    let instance = Instance::with(&[("VX11_OPERATOR__EVENTS__RING_ENTRIES", "2")]).await;
    let first = instance.publish(json!(1)).await;
    for n in 2..=5 {
        instance.publish(json!(n)).await;
    }
    let stream = open(&instance, Some(first.as_bytes()), None).await;
    announces(&instance, stream, "expired").await;
}

#[tokio::test]
async fn a_text_that_is_no_id_gets_reset_however_long_or_strange() {
    let instance = Instance::start().await;
    let id = instance.publish(json!(1)).await;
    let long = "7".repeat(8000);
    let wrapped = format!("{}-18446744073709551616-0", &id[..8]);
    let upper = id[..8].replace(|c: char| c.is_ascii_digit(), "A") + &id[8..];
    let headers: [&[u8]; 13] = [
        b"1",
        b"garbage",
        b"-",
        b"--",
        b"0-0",
        b"null",
        b"{}",
        b"a, b",
        "\u{1F511}".as_bytes(),
        b"\xff\xfe\x80",
        wrapped.as_bytes(),
        upper.as_bytes(),
        long.as_bytes(),
    ];
    for header in headers {
        let stream = open(&instance, Some(header), None).await;
        announces(&instance, stream, "unknown").await;
    }
    for query in
        ["garbage", "%00", "%ff%fe", "%", "%zz", "a+b", "%F0%9F%94%91", &long, &format!("{id}%0d%0a")]
    {
        let stream = open(&instance, None, Some(query)).await;
        announces(&instance, stream, "unknown").await;
    }
}

#[tokio::test]
async fn an_empty_id_is_none_and_the_header_wins_over_the_query() {
    let instance = Instance::start().await;
    let first = instance.publish(json!(1)).await;
    let second = instance.publish(json!(2)).await;
    for (header, query) in [(None, None), (Some(b"".as_slice()), None), (None, Some("")), (Some(b" "), None)]
    {
        let mut stream = open(&instance, header, query).await;
        let id = instance.publish(json!(3)).await;
        assert_eq!(stream.next().await.unwrap().id, id, "neither a reset nor the past");
    }
    let mut stream = open(&instance, Some(first.as_bytes()), Some("garbage")).await;
    assert_eq!(stream.next().await.unwrap().id, second);
    let stream = open(&instance, Some(b"garbage"), Some(&first)).await;
    announces(&instance, stream, "unknown").await;
}

#[tokio::test]
async fn an_id_given_twice_still_gets_a_stream() {
    let instance = Instance::start().await;
    let first = instance.publish(json!(1)).await;
    instance.publish(json!(2)).await;
    let twice = instance.get_as_principal(&format!("{STREAM}?last_event_id={first}&last_event_id=garbage"));
    let mut stream = EventStream::connected(twice.send().await.unwrap()).await;
    assert_eq!(stream.next().await.unwrap().json(), 2);
    let twice =
        instance.get_as_principal(STREAM).header("Last-Event-ID", &first).header("Last-Event-ID", "garbage");
    let mut stream = EventStream::connected(twice.send().await.unwrap()).await;
    assert_eq!(stream.next().await.unwrap().json(), 2);
}
