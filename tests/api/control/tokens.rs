//! Tokens whose streams are limited: by an end, by their number, and by the number of streams of
//! their subject.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_operator::clock::{Clock, SystemClock};

use super::{ends, issue, refused, token_of};
use crate::support::{Instance, ask_for_token, issue_with, problem};

/// The moment `seconds` from now on, in RFC 3339.
fn in_seconds(seconds: u64) -> String {
    SystemClock.now().plus(Duration::from_secs(seconds)).rfc3339()
}

#[tokio::test]
async fn a_stream_ends_with_the_grant_and_its_token_opens_no_other() {
    let instance = Instance::start().await;
    let fields = json!({ "subject": "user-7", "stream_until": in_seconds(2) });
    let issued = issue_with(&instance, &fields).await;
    assert_eq!(issued["expires_in"], 60);
    let names: Vec<_> = issued.as_object().unwrap().keys().map(String::as_str).collect();
    let plain = ["backend", "expires_at", "expires_in", "instance_id", "sse_token", "token_id"];
    let more = ["stream_url", "subject", "topics"];
    let mut expected = [plain.as_slice(), &more].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let token = issued["sse_token"].as_str().unwrap();
    let introspected = instance.introspect(token).await;
    assert!(introspected["exp"].as_u64() < introspected["iat"].as_u64().map(|at| at + 10), "{introspected}");
    let mut stream = instance.open_stream(token).await;
    ends(&mut stream, "grant_ended").await;
    problem(instance.ask_for_stream(token).await, StatusCode::FORBIDDEN, "token_refused").await;
    assert_eq!(instance.introspect(token).await, json!({ "active": false }));
    assert_eq!(refused(&instance, "expired").await, 1);
    instance.stream_ends_are("grant_ended", 1).await;
}

#[tokio::test]
async fn an_end_that_is_not_in_the_future_is_refused() {
    let instance = Instance::start().await;
    for moment in [in_seconds(0), "1969-12-31T23:59:59Z".to_owned(), "tomorrow".to_owned()] {
        let fields = json!({ "stream_until": moment });
        let answer = ask_for_token(&instance, &instance.principal, &fields).await;
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
        assert!(refusal["detail"].as_str().unwrap().starts_with("stream_until "), "{refusal}");
    }
}

#[tokio::test]
async fn a_ticket_opens_one_stream_at_a_time() {
    let instance = Instance::start().await;
    let ticket = issue(&instance, &json!({ "single_use": true })).await;
    let stream = instance.open_stream(&ticket.text).await;
    problem(instance.ask_for_stream(&ticket.text).await, StatusCode::FORBIDDEN, "token_refused").await;
    assert_eq!(refused(&instance, "used").await, 1);
    // Its first answer may have been lost.
    drop(stream);
    instance.metric_becomes("vx11_operator_sse_streams_open", 0).await;
    drop(instance.open_stream(&ticket.text).await);
    // A token that is no ticket opens any number.
    let token = issue(&instance, &json!({ "single_use": false })).await;
    let _streams = [instance.open_stream(&token.text).await, instance.open_stream(&token.text).await];
}

#[tokio::test]
async fn a_stream_beyond_the_limit_of_its_subject_is_refused_until_another_one_ends() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__PER_SUBJECT", "2")]).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(instance.open_stream(&token_of(&instance, "user-7").await.text).await);
    }
    let third = token_of(&instance, "user-7").await;
    let refusal = instance.ask_for_stream(&third.text).await;
    assert!(refusal.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let body: Value = problem(refusal, StatusCode::TOO_MANY_REQUESTS, "subject_streams_full").await;
    assert!(!body.to_string().contains("user-7"), "{body}");
    assert_eq!(instance.metric("vx11_operator_subject_caps_reached_total").await, 1);
    let name = "vx11_operator_sse_streams_refused_total{reason=\"subject_limit\"}";
    assert_eq!(instance.metric(name).await, 1);
    // Others are not limited: another subject, tokens without one, and the principal.
    let _others = [
        instance.open_stream(&token_of(&instance, "user-70").await.text).await,
        instance.open_stream(&instance.issue().await.token).await,
        instance.open_stream(&instance.principal).await,
    ];
    streams.pop();
    instance.metric_becomes("vx11_operator_sse_streams_open", 4).await;
    drop(instance.open_stream(&third.text).await);
}

#[tokio::test]
async fn a_stream_beyond_the_limit_of_its_subject_replaces_the_oldest_where_that_is_configured() {
    let settings = [
        ("VX11_OPERATOR__STREAMS__PER_SUBJECT", "2"),
        ("VX11_OPERATOR__STREAMS__PER_SUBJECT_POLICY", "replace_oldest"),
    ];
    let instance = Instance::with(&settings).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(instance.open_stream(&token_of(&instance, "user-7").await.text).await);
    }
    for stream in &mut streams[..2] {
        ends(stream, "replaced").await;
    }
    super::are_open(&instance, &mut streams[2..]).await;
    instance.stream_ends_are("replaced", 2).await;
    assert_eq!(instance.metric("vx11_operator_subject_caps_reached_total").await, 2);
}
