//! A field or parameter that the service does not know is refused where access is granted or an
//! event is published: whoever sends `sub`, `ttl` or `channel` and is answered with 200 takes it
//! for granted.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use vx11_kit::remember_secret;

use crate::support::{Instance, problem};

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const PUBLISH: &str = "/operator/api/events";
const AUTHORISE: &str = "/operator/internal/authorise";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const ISSUED: &str = "vx11_operator_ephemeral_tokens_issued_total";
/// A value in requests that must be in no answer.
const VALUE: &str = "xylophone";

fn issue(instance: &Instance, method: Method, content_type: &str, body: &str) -> RequestBuilder {
    let request = instance.client.request(method, format!("{}{ISSUE}", instance.base));
    let request = request.header("X-VX11-Token", &instance.principal).body(body.to_owned());
    if content_type.is_empty() { request } else { request.header("Content-Type", content_type) }
}

/// Asserts that the request is refused because of something unknown; returns the explanation.
async fn unknown(request: RequestBuilder) -> String {
    let answer = request.send().await.expect("an answer");
    let body = problem(answer, StatusCode::BAD_REQUEST, "unknown_parameter").await;
    assert!(!body.to_string().contains(VALUE), "{body}");
    body["detail"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn issuing_refuses_an_unknown_field_by_its_name_and_issues_nothing() {
    let instance = Instance::start().await;
    for (content_type, body, name) in [
        (JSON, r#"{"sub": "xylophone"}"#, "sub"),
        (JSON, r#"{"ttl": 5, "sub": "xylophone", "channels": ["xylophone"]}"#, "channels"),
        ("application/vnd.shop+json; charset=utf-8", r#"{"topic": null}"#, "topic"),
        (JSON, r#"{"subject": "xylophone", "Topics": ["xylophone"]}"#, "Topics"),
        (FORM, "sub=xylophone", "sub"),
        // The fields that a JSON object may have are unknown in a form.
        (FORM, "subject=xylophone", "subject"),
        (FORM, "grant_type=client_credentials", "grant_type"),
        (FORM, "%73ub=xylophone&ttl=5", "sub"),
        // `fetch` and curl, where their user named no type.
        ("text/plain;charset=UTF-8", r#"{"ttl": 5}"#, "ttl"),
        (FORM, r#"{"ttl": 5}"#, "ttl"),
        ("", r#" {"ttl": 5}"#, "ttl"),
    ] {
        let detail = unknown(issue(&instance, Method::POST, content_type, body)).await;
        assert!(detail.contains(&format!("`{name}`")), "{body}: {detail}");
        let by_get = unknown(issue(&instance, Method::GET, content_type, body)).await;
        assert!(by_get.contains("is unknown"), "{body}: {by_get}");
    }
    assert_eq!(instance.metric(ISSUED).await, 0);
}

/// Clients of the predecessor use GET, and none of them knows a field.
#[tokio::test]
async fn issuing_by_get_takes_no_field() {
    let instance = Instance::start().await;
    for (body, name) in [
        (r#"{"subject": "xylophone"}"#, "subject"),
        (r#"{"topics": ["xylophone"], "expires_in": 60}"#, "expires_in"),
        (r#"{"single_use": true}"#, "single_use"),
    ] {
        let detail = unknown(issue(&instance, Method::GET, JSON, body)).await;
        assert!(detail.contains(&format!("`{name}`")) && detail.contains("POST"), "{body}: {detail}");
    }
    assert_eq!(instance.metric(ISSUED).await, 0);
}

#[tokio::test]
async fn the_fields_of_a_token_are_read_whatever_the_type_of_the_json_object() {
    let instance = Instance::start().await;
    for content_type in
        [JSON, "application/vnd.shop+json; charset=utf-8", "text/plain;charset=UTF-8", FORM, ""]
    {
        let answer = issue(&instance, Method::POST, content_type, r#" {"subject": "user-7"}"#).send().await;
        let issued: Value = answer.unwrap().json().await.unwrap();
        remember_secret(issued["sse_token"].as_str().unwrap());
        assert_eq!(issued["subject"], "user-7", "{content_type}");
    }
}

#[tokio::test]
async fn issuing_takes_a_body_without_a_field_whatever_its_type() {
    let instance = Instance::start().await;
    for content_type in ["", JSON, FORM, "text/plain", "application/octet-stream"] {
        for body in ["", " \n", "{}", " { }\r\n", "null"] {
            for method in [Method::POST, Method::GET] {
                let answer = issue(&instance, method, content_type, body).send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "{content_type} {body:?}");
                let issued: Value = answer.json().await.unwrap();
                remember_secret(issued["sse_token"].as_str().unwrap());
            }
        }
    }
}

#[tokio::test]
async fn issuing_refuses_a_body_whose_fields_it_cannot_read() {
    let instance = Instance::start().await;
    for body in ["xylophone", r#"["xylophone"]"#, r#"{"xylophone""#, "5", "{} xylophone"] {
        let answer = issue(&instance, Method::POST, JSON, body).send().await.unwrap();
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
        assert!(!refusal.to_string().contains(VALUE), "{refusal}");
    }
    for other in ["multipart/form-data; boundary=x", "application/xml", "text/plain"] {
        let answer = issue(&instance, Method::POST, other, "xylophone").send().await.unwrap();
        problem(answer, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
    }
    let large = format!(r#"{{"sub": "{}"}}"#, "x".repeat(64 * 1024));
    let answer = issue(&instance, Method::POST, JSON, &large).send().await.unwrap();
    problem(answer, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
    assert_eq!(instance.metric(ISSUED).await, 0);
}

#[tokio::test]
async fn issuing_refuses_every_query_parameter_by_its_name() {
    let instance = Instance::start().await;
    for (query, name) in [("ttl=5", "ttl"), ("_=1735689600000", "_"), ("token=xylophone", "token")] {
        for request in [
            instance.get_as_principal(&format!("{ISSUE}?{query}")),
            instance.post_as_principal(&format!("{ISSUE}?{query}")),
        ] {
            let detail = unknown(request).await;
            assert!(detail.contains(&format!("`{name}`")), "{query}: {detail}");
        }
    }
    assert_eq!(instance.metric(ISSUED).await, 0);
    // Who asks comes first.
    let stranger = instance.post(&format!("{ISSUE}?ttl=5")).json(&json!({"ttl": 5})).send().await.unwrap();
    problem(stranger, StatusCode::UNAUTHORIZED, "credential_missing").await;
}

#[tokio::test]
async fn a_stream_refuses_unknown_parameters_and_names_those_it_takes() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    for (query, name) in [
        (format!("token={token}&channel=xylophone"), "channel"),
        (format!("topics=xylophone&token={token}&last_event_id=xylophone"), "topics"),
        // The parameter's name in RFC 6750. No credential is found, and the reason is its name.
        (format!("access_token={token}"), "access_token"),
        (format!("token={token}&lastEventId=xylophone"), "lastEventId"),
        (format!("token={token}&_=1735689600000"), "_"),
        ("Token=xylophone".to_owned(), "Token"),
    ] {
        let detail = unknown(instance.get(&format!("{STREAM}?{query}"))).await;
        assert!(detail.contains(&format!("`{name}`")), "{query}: {detail}");
        assert!(detail.contains("token, last_event_id, topic, from"), "{detail}");
    }
    assert_eq!(instance.metric("vx11_operator_sse_connections_ephemeral_total").await, 0);
    for query in
        [format!("%74oken={token}"), format!("token={token}&&last_event_id="), format!("token={token}&")]
    {
        let stream = instance.get(&format!("{STREAM}?{query}")).send().await.unwrap();
        assert_eq!(stream.status(), StatusCode::OK, "{query}");
    }
}

#[tokio::test]
async fn an_event_with_a_query_parameter_is_refused_and_reaches_no_subscriber() {
    let instance = Instance::start().await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    let request = instance.post_as_principal(&format!("{PUBLISH}?channel=xylophone"));
    let detail = unknown(request.json(&json!({"data": "for one user"}))).await;
    assert!(detail.contains("`channel`"), "{detail}");
    instance.publish(json!("the first")).await;
    assert_eq!(stream.next().await.unwrap().json(), "the first");
}

/// The query there is that of the request that a proxy holds back, and belongs to another backend.
#[tokio::test]
async fn where_a_proxy_asks_the_parameters_of_its_own_backend_are_left_alone() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let asked =
        instance.get(AUTHORISE).query(&[("token", token.as_str()), ("page", "2")]).send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_name_that_may_be_a_secret_or_harm_a_reader_is_not_repeated() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let long = "x".repeat(25);
    for name in [
        token.as_str(),
        &token.replace('-', ""),
        &instance.principal,
        &long,
        "",
        "<script>",
        "a\"b",
        "x y",
        "a\r\nb",
        "\u{202e}cipot",
        "\u{0}",
        "t\u{f6}pic",
    ] {
        let mut queries = vec![instance.get(STREAM), instance.get_as_principal(ISSUE)];
        queries = queries.into_iter().map(|request| request.query(&[(name, VALUE)])).collect();
        queries.push(instance.post_as_principal(ISSUE).form(&[(name, VALUE)]));
        queries.push(instance.post_as_principal(ISSUE).json(&json!({ name: VALUE })));
        for request in queries {
            let detail = unknown(request).await;
            assert!(name.is_empty() || !detail.contains(name), "{name:?}: {detail}");
            assert!(!detail.contains('`') && detail.is_ascii() && detail.len() < 200, "{detail}");
        }
    }
    let longest = "x".repeat(24);
    let detail = unknown(instance.get(STREAM).query(&[(&longest, VALUE)])).await;
    assert!(detail.contains(&longest), "{detail}");
}
