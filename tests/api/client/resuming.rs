//! `tail` goes on where it was, whatever happens to its connection, and says what happened.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::Poll;

use futures_util::poll;
use serde_json::json;
use vx11_kit::{Port, remember_secret};

use crate::support::{Front, Instance, Terminal, planted, random_hex};

#[tokio::test]
async fn it_resumes_on_an_instance_that_was_killed_and_restarted_and_reports_reset() {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let principal = random_hex();
    let before = Instance::in_place_of(&address, &principal).await;
    let url = before.base.clone();
    let mut tail = Terminal::of(&before).start(&["tail"]);
    tail.says("connected to instance 1").await;
    let last = before.publish(json!(1)).await;
    assert_eq!(tail.line().await, format!("{last} message 1"));
    before.kill().await;
    tail.says("lost the stream: it was cut off; reconnecting in ").await;
    tail.says(&format!("no token from {url}: cannot connect: Connection refused")).await;
    let after = Instance::in_place_of(&address, &principal).await;
    let connected = tail.says("connected to instance 1").await;
    assert!(connected.ends_with("instance 1"), "{connected}: it does not claim to go on where it was");
    // On the memory store the log ends with its instance.
    tail.says(&format!("reset (epoch): events after {last} are missing, for the log was lost")).await;
    let id = after.publish(json!(2)).await;
    assert_eq!(tail.line().await, format!("{id} message 2"));
    tail.interrupt();
    let ended = tail.ended().await;
    assert_eq!((ended.code, ended.output.as_str()), (0, ""));
    assert!(ended.errors.ends_with("vx11-operator: 2 events, 1 reconnect, 1 reset\n"), "{}", ended.errors);
}

#[tokio::test]
async fn after_reconnect_it_waits_as_long_as_the_instance_asks_and_misses_nothing() {
    let age = [
        ("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "1"),
        ("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "200"),
    ];
    let instance = Instance::with(&age).await;
    let mut tail = Terminal::of(&instance).start(&["tail", "--json"]);
    tail.says("connected").await;
    let mut published = 0;
    for _ in 0..3 {
        let mut shown = pin!(tail.says("the service ended the stream (max_age); reconnecting in "));
        let shown = loop {
            if let Poll::Ready(shown) = poll!(&mut shown) {
                break shown;
            }
            instance.publish(json!(published)).await;
            published += 1;
        };
        let wait = shown.rsplit(' ').nth(1).and_then(|wait| wait.parse::<f32>().ok()).expect(&shown);
        assert!((0.1..=0.2).contains(&wait), "{shown}");
    }
    for expected in 0..published {
        assert_eq!(tail.json().await["data"], json!(expected), "in order, once");
    }
}

#[tokio::test]
async fn it_reports_a_drain_and_connects_again() {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let principal = random_hex();
    let mut before = Instance::in_place_of(&address, &principal).await;
    let mut tail = Terminal::of(&before).start(&["tail"]);
    tail.says("connected").await;
    before.terminate();
    tail.says("the service ended the stream (drain); reconnecting in ").await;
    assert!(before.ended().await.success());
    let _after = Instance::in_place_of(&address, &principal).await;
    tail.says("connected to instance 1").await;
}

#[tokio::test]
async fn it_reports_a_refusal_in_the_text_of_the_service_and_retries_after_retry_after() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX", "1")]).await;
    let first = instance.open_stream(&instance.issue().await.token).await;
    let mut tail = Terminal::of(&instance).start(&["tail"]);
    let shown = tail.says(&format!("no stream from {}: 503 streams_full: ", instance.base)).await;
    let wait = shown.rsplit(' ').nth(1).and_then(|wait| wait.parse::<f32>().ok()).expect(&shown);
    assert!((1.0..=1.5).contains(&wait), "Retry-After is a second: {shown}");
    drop(first);
    tail.says("connected to instance 1").await;
}

#[tokio::test]
async fn each_attempt_has_a_token_of_its_own_and_no_credential_is_ever_in_a_url() {
    let instance = Instance::with(&[
        ("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "1"),
        ("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "1"),
    ])
    .await;
    let front = Front::losing(instance.address(), 0).await;
    let mut tail = Terminal::of(&instance).with("VX11_OPERATOR_URL", &front.base).start(&["tail"]);
    for _ in 0..3 {
        tail.says("connected").await;
    }
    let requests = front.requests().concat();
    let (mut paths, mut credentials) = (Vec::new(), Vec::new());
    for head in requests.split("\r\n\r\n") {
        let path = head.lines().find(|line| line.ends_with(" HTTP/1.1"));
        let credential = head.lines().find_map(|line| line.strip_prefix("x-vx11-token: "));
        if let (Some(path), Some(credential)) = (path, credential) {
            remember_secret(credential);
            paths.push(path);
            credentials.push(credential);
        }
    }
    // A fourth attempt may have begun.
    let attempt =
        ["POST /operator/api/events/sse-token HTTP/1.1", "GET /operator/api/events/stream HTTP/1.1"];
    assert_eq!(paths[..6], attempt.repeat(3));
    let credentials: BTreeSet<_> = credentials[..6].iter().collect();
    assert_eq!(credentials.len(), 1 + 3, "the principal, and a token for each stream");
}

/// A terminal before a service that gives a token, and then a stream that ends for each reason, in
/// turn.
async fn before_streams_that_end(reasons: &[&str]) -> (Front, Terminal) {
    let body = r#"{"sse_token":"t"}"#;
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type:";
    let token = format!("{head} application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let stream = |reason: &&str| {
        let greeting = "id: e-1\ndata: {\"type\":\"connected\",\"instance_id\":\"1\"}\n\n";
        let end = format!("event: reconnect\ndata: {{\"reason\":\"{reason}\",\"retry_ms\":100}}\n\n");
        format!("{head} text/event-stream\r\n\r\n{greeting}{end}")
    };
    let answers: Vec<_> = reasons.iter().flat_map(|reason| [token.clone(), stream(reason)]).collect();
    let answers: Vec<_> = answers.iter().map(String::as_str).collect();
    let front = Front::answering(&answers).await;
    let terminal =
        Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted()).with("VX11_OPERATOR_URL", &front.base);
    (front, terminal)
}

#[tokio::test]
async fn it_comes_back_with_a_new_token_after_the_end_of_a_grant() {
    let reasons = ["grant_ended", "revoked", "blocked", "ended"];
    let (front, terminal) = before_streams_that_end(&reasons).await;
    let mut tail = terminal.start(&["tail"]);
    for reason in reasons {
        let shown = tail.says(&format!("the service ended the stream ({reason}); reconnecting in ")).await;
        let wait = shown.rsplit(' ').nth(1).and_then(|wait| wait.parse::<f32>().ok()).expect(&shown);
        assert!(wait >= 0.1, "{shown}");
    }
    let tokens = front.requests().concat().matches("/sse-token").count();
    assert_eq!(tokens, reasons.len());
}

#[tokio::test]
async fn it_ends_with_1_when_another_stream_took_the_place_of_its_own() {
    let (front, terminal) = before_streams_that_end(&["replaced"]).await;
    let ended = terminal.run(&["tail"]).await;
    assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{}", ended.errors);
    assert!(ended.errors.ends_with("another stream took the place of this one\n"), "{}", ended.errors);
    assert_eq!(front.requests().len(), 2);
}
