//! Rate limits of an instance: 429 with a time to return; a valid credential is always served.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::json;
use vx11_kit::remember_secret;

use crate::support::{Instance, issue_with, problem, random_hex};

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const AUTHORISE: &str = "/operator/internal/authorise";
const FAILURES: &str = "VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE";

async fn limited(response: Response) -> Duration {
    let wait = response.headers()["retry-after"].to_str().expect("ASCII").parse().expect("whole seconds");
    problem(response, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    Duration::from_secs(wait)
}

/// Sends, ten at once, until something else than `status` comes back; returns how often it was
/// `status`, and the first other answer. At once, so that a budget is used up sooner than it fills,
/// however long a request takes.
async fn until_other(status: StatusCode, request: impl Fn() -> RequestBuilder) -> (usize, Response) {
    let (mut count, mut other) = (0, None);
    for _ in 0..20 {
        for response in join_all((0..10).map(|_| request().send())).await {
            let response = response.expect("an answer");
            if response.status() != status {
                other.get_or_insert(response);
                continue;
            }
            count += 1;
            if let Ok(body) = response.json::<serde_json::Value>().await
                && let Some(token) = body["sse_token"].as_str()
            {
                remember_secret(token);
            }
        }
        if let Some(other) = other {
            return (count, other);
        }
    }
    panic!("never anything else than {status}");
}

#[tokio::test]
async fn nothing_is_limited_by_default() {
    let instance = Instance::start().await;
    for _ in 0..300 {
        let wrong = instance.get(ISSUE).header("X-VX11-Token", "wrong").send().await.unwrap();
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
        instance.issue().await;
    }
}

#[tokio::test]
async fn issuing_more_than_allowed_waits_and_nothing_else_does() {
    let instance = Instance::with(&[("VX11_OPERATOR__LIMITS__ISSUE_PER_SECOND", "1")]).await;
    let token = instance.issue().await.token;
    let (_, refused) = until_other(StatusCode::OK, || instance.post_as_principal(ISSUE)).await;
    let wait = limited(refused).await;
    assert_eq!(wait, Duration::from_secs(1));
    let (_, by_get) = until_other(StatusCode::OK, || instance.get_as_principal(ISSUE)).await;
    limited(by_get).await;
    // Streams, publishing and figures have no such limit.
    for _ in 0..5 {
        assert_eq!(instance.ask_for_stream(&token).await.status(), StatusCode::OK);
        instance.publish(1.into()).await;
    }
    // A client that waits as requested is served. The budget of a process refills in real time; a
    // longer sleep is harmless.
    tokio::time::sleep(wait).await;
    instance.issue().await;
}

#[tokio::test]
async fn an_address_that_failed_too_often_waits_while_valid_credentials_from_it_are_served() {
    let instance = Instance::with(&[(FAILURES, "3")]).await;
    let token = instance.issue().await.token;
    let wrong = random_hex();
    remember_secret(&wrong);
    let (failed, refused) =
        until_other(StatusCode::UNAUTHORIZED, || instance.get(ISSUE).bearer_auth(&wrong)).await;
    assert_eq!(failed, 3);
    let wait = limited(refused).await;
    assert!((1..=20).contains(&wait.as_secs()), "{wait:?}");
    // A refused token is the same kind of failure, in any place.
    limited(instance.ask_for_stream("nonsense").await).await;
    limited(instance.get(STREAM).bearer_auth(&wrong).send().await.unwrap()).await;
    // No credential at all is no attempt.
    let none = instance.get(ISSUE).send().await.unwrap();
    problem(none, StatusCode::UNAUTHORIZED, "credential_missing").await;

    instance.issue().await;
    assert_eq!(instance.ask_for_stream(&token).await.status(), StatusCode::OK);
    instance.publish(1.into()).await;
}

#[tokio::test]
async fn refused_tokens_count_as_failures() {
    let instance = Instance::with(&[(FAILURES, "2")]).await;
    let stream = || instance.get(STREAM).query(&[("token", "nonsense")]);
    let (failed, refused) = until_other(StatusCode::FORBIDDEN, stream).await;
    assert_eq!(failed, 2);
    limited(refused).await;
}

/// A page that repeats its request must not lock out everybody behind the same address.
#[tokio::test]
async fn genuine_tokens_that_were_used_or_are_blocked_count_as_no_failures() {
    let instance = Instance::with(&[(FAILURES, "1")]).await;
    let text = |issued: serde_json::Value| issued["sse_token"].as_str().unwrap().to_owned();
    let ticket = text(issue_with(&instance, &json!({ "single_use": true })).await);
    let blocked = text(issue_with(&instance, &json!({ "subject": "user-7" })).await);
    let _open = instance.open_stream(&ticket).await;
    let order = json!({ "subject": "user-7", "seconds": 60 });
    let block = instance.post_as_principal("/operator/api/subjects/block").json(&order);
    assert_eq!(block.send().await.unwrap().status(), StatusCode::OK);
    for token in [&ticket, &blocked] {
        for _ in 0..3 {
            let stream = instance.ask_for_stream(token).await;
            problem(stream, StatusCode::FORBIDDEN, "token_refused").await;
            let proxied = instance.get(AUTHORISE).bearer_auth(token).send().await.unwrap();
            problem(proxied, StatusCode::FORBIDDEN, "token_refused").await;
        }
    }
    let used = r#"vx11_operator_ephemeral_tokens_invalid_total{reason="used"}"#;
    assert_eq!(instance.metric(used).await, 6);
    let forged = instance.ask_for_stream("nonsense").await;
    problem(forged, StatusCode::FORBIDDEN, "token_refused").await;
    limited(instance.ask_for_stream("nonsense").await).await;
}

#[tokio::test]
async fn credentials_that_differ_count_as_a_failure() {
    let instance = Instance::with(&[(FAILURES, "2")]).await;
    let both = || instance.get_as_principal(ISSUE).header("X-VX11-Token", "another");
    let (failed, refused) = until_other(StatusCode::BAD_REQUEST, both).await;
    assert_eq!(failed, 2);
    limited(refused).await;
    instance.issue().await;
}

#[tokio::test]
async fn each_client_of_a_trusted_proxy_has_a_separate_budget() {
    let environment = [(FAILURES, "2"), ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.1")];
    let instance = Instance::with(&environment).await;
    for client in ["198.51.100.1", "2001:db8::1", "203.0.113.9, 198.51.100.2"] {
        let from_client = || instance.get(ISSUE).bearer_auth("wrong").header("X-Forwarded-For", client);
        let (failed, refused) = until_other(StatusCode::UNAUTHORIZED, from_client).await;
        assert_eq!(failed, 2, "{client}");
        limited(refused).await;
    }
}

#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_cannot_borrow_addresses() {
    let instance = Instance::with(&[(FAILURES, "2")]).await;
    let last = std::cell::Cell::new(0);
    let from_elsewhere = || {
        last.set(last.get() + 1);
        let address = format!("198.51.100.{}", last.get());
        instance.get(ISSUE).bearer_auth("wrong").header("X-Forwarded-For", address)
    };
    let (failed, refused) = until_other(StatusCode::UNAUTHORIZED, from_elsewhere).await;
    assert_eq!(failed, 2);
    limited(refused).await;
}
