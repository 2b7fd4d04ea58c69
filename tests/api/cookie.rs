//! The cookie with a token: who sets it, who reads it, and what wins over it.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use vx11_kit::{EventStream, remember_secret};
use vx11_operator::clock::{Clock, SystemClock};
use vx11_operator::http::{Caller, endpoints};

use crate::support::{Instance, ask_for_token, issue_with, problem};

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const SET: &str = "/operator/api/events/cookie";
const NAME: &str = "__Host-vx11-stream";
const MALFORMED: &str = "vx11_operator_ephemeral_tokens_invalid_total{reason=\"malformed\"}";
const FOR_OTHER_SITES: (&str, &str) = ("VX11_OPERATOR__HTTP__COOKIE_SAME_SITE", "none");

/// The cookie that an answer sets, which no cache may keep.
fn set_by(answer: &Response) -> Option<String> {
    let mut values = answer.headers().get_all("set-cookie").iter();
    let value = values.next().map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(values.next(), None, "one cookie");
    assert!(value.is_none() || answer.headers()["cache-control"] == "no-store");
    value
}

/// The lifetime of a cookie in seconds; the rest of it is `expected`.
fn life(cookie: &str, expected: &str) -> u64 {
    let (rest, seconds) = cookie.rsplit_once("; Max-Age=").unwrap();
    assert_eq!(rest, expected);
    seconds.parse().unwrap()
}

fn cookie_of(token: &str) -> String {
    format!("{NAME}={token}; Secure; HttpOnly; SameSite=Strict; Path=/")
}

fn stream_with(instance: &Instance, cookies: &str) -> RequestBuilder {
    instance.get(STREAM).header("Cookie", cookies)
}

async fn status_with(instance: &Instance, cookies: &str) -> StatusCode {
    stream_with(instance, cookies).send().await.unwrap().status()
}

async fn token_of(answer: Response) -> String {
    assert_eq!(answer.status(), StatusCode::OK);
    let issued: Value = answer.json().await.unwrap();
    let token = issued["sse_token"].as_str().unwrap().to_owned();
    remember_secret(&token);
    token
}

#[tokio::test]
async fn issuing_sets_the_cookie_only_if_it_is_asked_to() {
    let instance = Instance::start().await;
    let without = instance.post_as_principal(ISSUE).send().await.unwrap();
    assert_eq!(set_by(&without), None);
    token_of(without).await;

    let answer = instance.post_as_principal(&format!("{ISSUE}?cookie=1")).send().await.unwrap();
    let cookie = set_by(&answer).unwrap();
    assert_eq!(life(&cookie, &cookie_of(&token_of(answer).await)), 60);

    let fields = json!({ "topics": ["news"], "expires_in": 7 });
    let request = instance.post_as_principal(&format!("{ISSUE}?cookie=1")).json(&fields);
    let answer = request.send().await.unwrap();
    let cookie = set_by(&answer).unwrap();
    assert_eq!(life(&cookie, &cookie_of(&token_of(answer).await)), 7);
}

#[tokio::test]
async fn another_value_of_the_parameter_is_refused_and_nothing_is_issued() {
    let instance = Instance::start().await;
    for query in ["cookie=0", "cookie=", "cookie", "cookie=true", "cookie=1&cookie=1"] {
        let answer = instance.post_as_principal(&format!("{ISSUE}?{query}")).send().await.unwrap();
        problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
    }
    let by_get = instance.get_as_principal(&format!("{ISSUE}?cookie=1")).send().await.unwrap();
    problem(by_get, StatusCode::BAD_REQUEST, "unknown_parameter").await;
    assert_eq!(instance.metric("vx11_operator_ephemeral_tokens_issued_total").await, 0);
}

#[tokio::test]
async fn the_holder_of_a_token_gets_it_as_a_cookie_for_the_rest_of_its_life() {
    let instance = Instance::start().await;
    let end = SystemClock.now().plus(Duration::from_secs(100)).rfc3339();
    let grant = json!({ "topics": ["news"], "expires_in": 900, "stream_until": end });
    let issued = issue_with(&instance, &grant).await;
    let token = issued["sse_token"].as_str().unwrap();
    for request in [instance.post(SET).header("X-VX11-Token", token), instance.post(SET).bearer_auth(token)] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let seconds = life(&set_by(&answer).unwrap(), &cookie_of(token));
        assert!((80..=100).contains(&seconds), "until the grant ends, and not for 900 s: {seconds}");
    }
    let answer = instance.post_as_principal(&format!("{ISSUE}?cookie=1")).json(&grant).send().await.unwrap();
    let cookie = set_by(&answer).unwrap();
    assert!(life(&cookie, &cookie_of(&token_of(answer).await)) <= 100, "issuing does the same");
}

#[tokio::test]
async fn pages_of_other_sites_get_a_cookie_that_they_send() {
    let instance = Instance::with(&[FOR_OTHER_SITES]).await;
    let expected = |token: &str| cookie_of(token).replace("=Strict;", "=None; Partitioned;");
    let answer = instance.post_as_principal(&format!("{ISSUE}?cookie=1")).send().await.unwrap();
    let cookie = set_by(&answer).unwrap();
    let token = token_of(answer).await;
    assert_eq!(life(&cookie, &expected(&token)), 60);
    let answer = instance.post(SET).bearer_auth(&token).send().await.unwrap();
    life(&set_by(&answer).unwrap(), &expected(&token));
}

#[tokio::test]
async fn only_a_valid_token_in_a_header_becomes_a_cookie() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let refused = async |request: RequestBuilder, status, code| {
        let answer = request.send().await.unwrap();
        assert_eq!(set_by(&answer), None);
        problem(answer, status, code).await;
    };
    let in_cookie = instance.post(SET).header("Cookie", format!("{NAME}={token}"));
    refused(in_cookie, StatusCode::UNAUTHORIZED, "credential_missing").await;
    let in_query = instance.post(SET).query(&[("token", &token)]);
    refused(in_query, StatusCode::UNAUTHORIZED, "credential_missing").await;
    let with_query = instance.post(SET).bearer_auth(&token).query(&[("cookie", "1")]);
    refused(with_query, StatusCode::BAD_REQUEST, "unknown_parameter").await;
    let with_field = instance.post(SET).bearer_auth(&token).json(&json!({ "expires_in": 5 }));
    refused(with_field, StatusCode::BAD_REQUEST, "unknown_parameter").await;
    let two = instance.post(SET).bearer_auth(&token).header("X-VX11-Token", &instance.principal);
    refused(two, StatusCode::BAD_REQUEST, "credentials_conflict").await;
    // A credential that lives for years does not belong into a cookie.
    refused(instance.post_as_principal(SET), StatusCode::FORBIDDEN, "token_refused").await;
    refused(instance.post(SET).bearer_auth("nonsense"), StatusCode::FORBIDDEN, "token_refused").await;
    let revocation = instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &token)]);
    assert_eq!(revocation.send().await.unwrap().status(), StatusCode::OK);
    refused(instance.post(SET).bearer_auth(&token), StatusCode::FORBIDDEN, "token_refused").await;
}

#[tokio::test]
async fn the_cookie_opens_the_stream_and_resumes_it() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let cookies = format!("theme=dark; {NAME}={token}; lang=de");
    let mut stream = EventStream::connected(stream_with(&instance, &cookies).send().await.unwrap()).await;
    let first = instance.publish(json!("first")).await;
    assert_eq!(stream.next().await.unwrap().id, first);
    drop(stream);
    let second = instance.publish(json!("second")).await;
    let resuming = stream_with(&instance, &cookies).header("Last-Event-ID", &first).send().await.unwrap();
    assert_eq!(EventStream::connected(resuming).await.next().await.unwrap().id, second);
    instance.logs("credential=\"cookie\"").await;
    assert!(!instance.log_text().contains(&token), "see {}", instance.log.display());
}

#[tokio::test]
async fn a_token_with_a_grant_of_the_longest_text_opens_its_topics_by_the_cookie() {
    let instance = Instance::start().await;
    let segment = "n".repeat(36);
    let topics: Vec<_> = (0..16).map(|number| format!("{segment}/{number:02}")).collect();
    let issued = issue_with(&instance, &json!({ "topics": topics, "subject": "s".repeat(40) })).await;
    let token = issued["sse_token"].as_str().unwrap();
    assert!(token.len() > 900, "{}", token.len());
    let answer = stream_with(&instance, &format!("{NAME}={token}")).send().await.unwrap();
    let mut stream = EventStream::connected(answer).await;
    instance.publish_body(&json!({ "topic": "other", "data": 1 }).to_string()).await;
    let id = instance.publish_body(&json!({ "topic": topics[15], "data": 2 }).to_string()).await;
    assert_eq!(stream.next().await.unwrap().id, id);
    let beyond = stream_with(&instance, &format!("{NAME}={token}")).query(&[("topic", "other")]);
    problem(beyond.send().await.unwrap(), StatusCode::FORBIDDEN, "not_permitted").await;
}

#[tokio::test]
async fn a_credential_in_a_header_or_the_query_wins_over_the_cookie() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let good = format!("{NAME}={token}");
    let bad = format!("{NAME}=nonsense");
    for request in [
        stream_with(&instance, &bad).query(&[("token", &token)]),
        stream_with(&instance, &bad).bearer_auth(&token),
        stream_with(&instance, &bad).header("X-VX11-Token", &token),
        stream_with(&instance, &bad).header("X-VX11-Token", &instance.principal),
        stream_with(&instance, &good).header("X-VX11-Token", ""),
        stream_with(&instance, &good).query(&[("token", "")]),
    ] {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let by_query = stream_with(&instance, &good).query(&[("token", "nonsense")]).send().await.unwrap();
    problem(by_query, StatusCode::FORBIDDEN, "token_refused").await;
    let by_header = stream_with(&instance, &good).bearer_auth("nonsense").send().await.unwrap();
    problem(by_header, StatusCode::UNAUTHORIZED, "credential_wrong").await;
    let two = stream_with(&instance, &good).bearer_auth(&token).query(&[("token", "nonsense")]);
    problem(two.send().await.unwrap(), StatusCode::BAD_REQUEST, "credentials_conflict").await;
}

#[tokio::test]
async fn a_cookie_that_is_no_token_is_refused_like_a_malformed_token_in_the_query() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let too_long = format!("{token}.{}", "A".repeat(6000));
    for value in ["nonsense", &token[1..], &token.to_uppercase(), &too_long, &instance.principal, "\"", "%20"]
    {
        let answer = stream_with(&instance, &format!("{NAME}={value}")).send().await.unwrap();
        problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
    }
    let no_text = [NAME.as_bytes(), b"=\xff\xfe"].concat();
    let answer = instance.get(STREAM).header("Cookie", no_text).send().await.unwrap();
    problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
    assert_eq!(instance.metric(MALFORMED).await, 8);
    for nothing in ["", "theme=dark", &format!("{NAME}="), &format!("{}={token}", NAME.to_lowercase())] {
        let answer = stream_with(&instance, nothing).send().await.unwrap();
        problem(answer, StatusCode::UNAUTHORIZED, "credential_missing").await;
    }
}

#[tokio::test]
async fn of_several_cookies_of_the_name_the_first_counts() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let (good, bad) = (format!("{NAME}={token}"), format!("{NAME}=nonsense"));
    assert_eq!(status_with(&instance, &format!("{good}; {bad}")).await, StatusCode::OK);
    assert_eq!(status_with(&instance, &format!("{bad}; {good}")).await, StatusCode::FORBIDDEN);
    let in_two_headers = stream_with(&instance, &good).header("Cookie", &bad);
    assert_eq!(in_two_headers.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_single_use_token_in_a_cookie_opens_one_stream() {
    let instance = Instance::start().await;
    let issued = issue_with(&instance, &json!({ "single_use": true, "topics": ["news"] })).await;
    let token = issued["sse_token"].as_str().unwrap();
    for _ in 0..2 {
        let set = instance.post(SET).bearer_auth(token).send().await.unwrap();
        assert_eq!(set.status(), StatusCode::NO_CONTENT, "setting the cookie does not use it");
    }
    let cookie = format!("{NAME}={token}");
    let first = EventStream::connected(stream_with(&instance, &cookie).send().await.unwrap()).await;
    problem(stream_with(&instance, &cookie).send().await.unwrap(), StatusCode::FORBIDDEN, "token_refused")
        .await;
    drop(first);
}

#[tokio::test]
async fn a_revoked_token_in_a_cookie_is_refused_and_its_stream_ends() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let cookie = format!("{NAME}={token}");
    let _stream = EventStream::connected(stream_with(&instance, &cookie).send().await.unwrap()).await;
    let revocation = instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &token)]);
    assert_eq!(revocation.send().await.unwrap().status(), StatusCode::OK);
    instance.stream_ends_are("revoked", 1).await;
    assert_eq!(status_with(&instance, &cookie).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn no_other_call_reads_a_cookie() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    for endpoint in endpoints() {
        for (method, caller) in endpoint.methods {
            if caller == Caller::Anyone || endpoint.path == STREAM {
                continue;
            }
            for secret in [&token, &instance.principal] {
                let method: Method = method.as_str().parse().unwrap();
                let request = instance.client.request(method, format!("{}{}", instance.base, endpoint.path));
                let cookies = format!("{NAME}={secret}; token={secret}; X-VX11-Token={secret}");
                let answer = request.header("Cookie", cookies).send().await.unwrap();
                // The form is read before its client is.
                let is_form = endpoint.path == "/oauth/token";
                let expected = if is_form { StatusCode::BAD_REQUEST } else { StatusCode::UNAUTHORIZED };
                assert_eq!(answer.status(), expected, "{}", endpoint.path);
            }
        }
    }
}

#[tokio::test]
async fn neither_log_nor_audit_trail_nor_metrics_show_a_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("audit.jsonl");
    let instance = Instance::with(&[("VX11_OPERATOR__AUDIT__FILE", trail.to_str().unwrap())]).await;
    let answer = instance.post_as_principal(&format!("{ISSUE}?cookie=1")).send().await.unwrap();
    let token = token_of(answer).await;
    let refused = "6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908";
    instance.post(SET).bearer_auth(&token).send().await.unwrap();
    for value in [&*token, refused, "a-cookie-of-another-form"] {
        status_with(&instance, &format!("{NAME}={value}")).await;
        instance.post(SET).header("Cookie", format!("{NAME}={value}")).send().await.unwrap();
    }
    let metrics = instance.get("/metrics").send().await.unwrap().text().await.unwrap();
    instance.logs("credential=\"cookie\"").await;
    let shown = [instance.log_text(), metrics, std::fs::read_to_string(&trail).unwrap()];
    for text in &shown {
        for value in [&*token, refused, "a-cookie-of-another-form"] {
            assert!(!text.contains(value), "{value}");
        }
    }
}

/// A browser sends the cookie with every request to the host, of any page of the same site.
#[tokio::test]
async fn a_client_that_keeps_cookies_needs_no_token_in_the_address() {
    let instance = Instance::start().await;
    let answer = ask_for_token(&instance, &instance.principal, &json!({ "topics": ["news"] })).await;
    let token = token_of(answer).await;
    let set = instance.post(SET).bearer_auth(&token).send().await.unwrap();
    let cookie = set_by(&set).unwrap();
    let kept = cookie.split(';').next().unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("{}{STREAM}", instance.base)).header("Cookie", kept);
    let answer = request.header("Accept", "text/event-stream").send().await.unwrap();
    let stream = EventStream::connected(answer).await;
    assert_eq!(stream.greeting.json()["type"], "connected");
}
