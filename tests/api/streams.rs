//! Content, life and bounds of open streams.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Instance, problem};

#[tokio::test]
async fn a_stream_greets_at_once_and_carries_events_in_order() {
    let instance = Instance::with(&[("INSTANCE_ID", "3")]).await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    assert_eq!(stream.greeting.event, "message");
    assert_eq!(stream.greeting.json(), json!({"type": "connected", "instance_id": "3"}));
    let retry = stream.greeting.retry.unwrap().as_millis();
    assert!((1000..=2000).contains(&retry), "{retry}");
    for n in 0..100 {
        let id = instance.publish(json!({ "n": n })).await;
        let frame = stream.next().await.unwrap();
        assert_eq!((frame.json(), frame.id), (json!({ "n": n }), id));
    }
}

#[tokio::test]
async fn the_response_is_one_that_nobody_stores_buffers_or_keeps_alive() {
    let instance = Instance::start().await;
    let response = instance.ask_for_stream(&instance.issue().await.token).await;
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["connection"], "close");
}

#[tokio::test]
async fn a_silent_stream_carries_comments_with_its_position() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "1")]).await;
    let token = instance.issue().await.token;
    let mut connection = TcpStream::connect(instance.address()).await.unwrap();
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while seen.matches(": heartbeat\n").count() < 3 {
        let mut chunk = [0; 1024];
        let read = connection.read(&mut chunk).await.unwrap();
        assert_ne!(read, 0, "the stream stays open");
        seen.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    let position = seen.lines().find(|line| line.starts_with("id: ")).unwrap();
    let is_heartbeat = |frame: &&str| {
        [": heartbeat", position].iter().all(|expected| frame.lines().any(|line| line == *expected))
    };
    assert!(seen.split("\n\n").filter(is_heartbeat).count() >= 2, "{seen}");
}

#[tokio::test]
async fn a_stream_at_its_maximum_age_gets_reconnect() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "1")]).await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    let last = stream.rest().await.pop().unwrap();
    assert_eq!(last.event, "reconnect");
    assert_eq!(last.json()["reason"], json!("max_age"));
    let retry = last.json()["retry_ms"].as_u64().unwrap();
    assert!((1000..=2000).contains(&retry), "{retry}");
    instance.stream_ends_are("max_age", 1).await;
}

/// For each event that its reader takes another one is published, so that there is always something
/// to send.
#[tokio::test]
async fn a_stream_that_lags_reaches_its_age_too() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "2")]).await;
    let token = instance.issue().await.token;
    let start = instance.open_stream(&token).await.greeting.id;
    // More than the buffers of both sockets may grow to take (10 MB), and less than the ring.
    let large = json!("x".repeat(60_000));
    for _ in 0..240 {
        instance.publish(large.clone()).await;
    }
    let mut stream = instance.resume_stream(&token, &start).await;
    let last = loop {
        let frame = stream.next().await.unwrap();
        if frame.event != "message" {
            break frame;
        }
        instance.publish(large.clone()).await;
    };
    assert_eq!((last.event.as_str(), &last.json()["reason"]), ("reconnect", &json!("max_age")));
    instance.stream_ends_are("max_age", 1).await;
}

#[tokio::test]
async fn a_stream_over_http_1_0_is_refused_with_advice() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.0\r\nHost: x\r\n\r\n");
    let refused = crate::support::raw_request(&instance, request.as_bytes()).await;
    let problem = crate::support::raw_problem(&refused, 505, "http_version");
    assert!(problem["detail"].as_str().unwrap().contains("proxy_http_version 1.1"));
}

#[tokio::test]
async fn beyond_the_cap_streams_are_sent_elsewhere_and_everything_else_has_room() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX", "2")]).await;
    assert_eq!(instance.metric("vx11_operator_sse_streams_limit").await, 2);
    let token = instance.issue().await.token;
    let _first = instance.open_stream(&token).await;
    let second = instance.open_stream(&token).await;
    let refused = instance.ask_for_stream(&token).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], json!("streams_full"));
    instance.issue().await;
    assert_eq!(instance.get("/health/ready").send().await.unwrap().status(), StatusCode::OK);
    drop(second);
    instance.stream_ends_are("client", 1).await;
    instance.open_stream(&token).await;
}

#[tokio::test]
async fn one_token_takes_eight_places_however_many_it_asks_for_at_once_and_others_find_theirs() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let mut answers = join_all((0..40).map(|_| instance.ask_for_stream(&token))).await;
    let refused: Vec<_> = answers.extract_if(.., |answer| answer.status() != StatusCode::OK).collect();
    assert_eq!((answers.len(), refused.len()), (8, 32));
    for answer in refused {
        assert_eq!(answer.headers()["retry-after"], "1");
        problem(answer, StatusCode::TOO_MANY_REQUESTS, "too_many_streams").await;
    }
    let reason = "vx11_operator_sse_streams_refused_total{reason=\"token_limit\"";
    assert_eq!(instance.metric(reason).await, 32);
    let _other = instance.open_stream(&instance.issue().await.token).await;
    let _principal = instance.open_stream(&instance.principal).await;
    drop(answers.pop());
    instance.stream_ends_are("client", 1).await;
    answers.push(instance.ask_for_stream(&token).await);
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
}

#[tokio::test]
async fn a_principal_has_as_many_streams_as_it_may_its_tokens_and_its_own_credential_together() {
    let limits =
        [("VX11_OPERATOR__STREAMS__MAX_PER_PRINCIPAL", "3"), ("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")];
    let instance = Instance::with(&limits).await;
    let tokens = [instance.issue().await.token, instance.issue().await.token];
    let _streams = [
        instance.open_stream(&tokens[0]).await,
        instance.open_stream(&tokens[1]).await,
        instance.open_stream(&instance.principal).await,
    ];
    for credential in [&tokens[0], &instance.issue().await.token, &instance.principal] {
        let refused = instance.ask_for_stream(credential).await;
        problem(refused, StatusCode::TOO_MANY_REQUESTS, "too_many_streams").await;
    }
    let reason = "vx11_operator_sse_streams_refused_total{reason=\"principal_limit\"";
    assert_eq!(instance.metric(reason).await, 3);
}

#[tokio::test]
async fn without_a_limit_one_token_opens_as_many_streams_as_there_is_room_for() {
    let limits = [("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0"), ("VX11_OPERATOR__STREAMS__MAX", "20")];
    let instance = Instance::with(&limits).await;
    let token = instance.issue().await.token;
    let answers = join_all((0..21).map(|_| instance.ask_for_stream(&token))).await;
    let opened = answers.iter().filter(|answer| answer.status() == StatusCode::OK).count();
    assert_eq!(opened, 20);
    assert_eq!(instance.metric("vx11_operator_sse_streams_refused_total{reason=\"full\"").await, 1);
}

#[tokio::test]
async fn one_token_may_open_several_streams_and_each_is_counted() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let _streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    let _by_principal = instance.open_stream(&instance.principal).await;
    assert_eq!(instance.metric("vx11_operator_sse_connections_ephemeral_total").await, 2);
    assert_eq!(instance.metric("vx11_operator_sse_connections_principal_total").await, 1);
    assert_eq!(instance.metric("vx11_operator_sse_streams_open").await, 3);
}

#[tokio::test]
async fn an_event_reaches_every_open_stream() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")]).await;
    let token = instance.issue().await.token;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(instance.open_stream(&token).await);
    }
    instance.publish(json!("hello")).await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().json(), json!("hello"));
    }
    assert_eq!(instance.metric("vx11_operator_events_delivered_total").await, 50);
}
