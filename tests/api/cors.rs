//! CORS: which answers pages of configured origins may read. The browser enforces it; these tests
//! read the headers that it goes by.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use vx11_operator::http::endpoints;

use crate::support::{Instance, problem};

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const PUBLISH: &str = "/operator/api/events";
/// Paths whose answers pages of configured origins may read.
const SHARED: [&str; 7] = [
    "/client/{file}",
    PUBLISH,
    "/operator/api/events/cookie",
    ISSUE,
    STREAM,
    "/operator/api/tokens/introspect",
    "/operator/api/tokens/revoke",
];
const LISTED: &str = "https://app.example";
const ALSO_LISTED: &str = "http://localhost:3000";
const FOREIGN: &str = "https://foreign.example";

async fn listing() -> Instance {
    with_origins(&format!("{LISTED}, {ALSO_LISTED}")).await
}

async fn with_origins(origins: &str) -> Instance {
    Instance::with(&[("VX11_OPERATOR__HTTP__CORS_ORIGINS", origins)]).await
}

/// The value of a header that occurs at most once.
fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let mut values = response.headers().get_all(name).iter().map(|value| value.to_str().unwrap());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} occurs twice");
    value
}

/// The members of a header that is a list, in lower case.
fn list(response: &Response, name: &str) -> BTreeSet<String> {
    let members = header(response, name).unwrap_or_default().split(',');
    members.map(|member| member.trim().to_ascii_lowercase()).filter(|member| !member.is_empty()).collect()
}

fn assert_readable(response: &Response, origin: &str) {
    assert_eq!(header(response, "access-control-allow-origin"), Some(origin));
    assert_eq!(header(response, "access-control-allow-credentials"), Some("true"));
    let exposed = list(response, "access-control-expose-headers");
    assert_eq!(exposed, BTreeSet::from(["retry-after".to_owned(), "x-request-id".to_owned()]));
    assert_eq!(header(response, "vary"), Some("Origin"));
}

fn assert_without_cors(response: &Response) {
    let name = response.headers().keys().find(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(name, None);
}

fn call(instance: &Instance, method: &Method, path: &str) -> RequestBuilder {
    let path = path.replace("/client/{file}", "/client/vx11-events.js").replace("{file}", "panel.js");
    instance.client.request(method.clone(), format!("{}{path}", instance.base))
}

fn preflight(instance: &Instance, path: &str, origin: &str, method: &str) -> RequestBuilder {
    let request = call(instance, &Method::OPTIONS, path).header("Origin", origin);
    request.header("Access-Control-Request-Method", method)
}

/// All paths with their methods.
fn calls() -> Vec<(&'static str, Method)> {
    let methods = endpoints().into_iter().flat_map(|endpoint| {
        let methods = endpoint.methods.into_iter();
        methods.map(move |(method, _)| (endpoint.path, method.as_str().parse().unwrap()))
    });
    methods.collect()
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_the_answers_of_these_paths_and_of_no_other() {
    let instance = listing().await;
    for (path, method) in calls() {
        for origin in [LISTED, ALSO_LISTED] {
            let answer = call(&instance, &method, path).header("Origin", origin).send().await.unwrap();
            if SHARED.contains(&path) {
                assert_readable(&answer, origin);
            } else {
                assert_without_cors(&answer);
                assert_eq!(header(&answer, "vary"), None, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn any_other_origin_gets_the_answer_of_a_client_without_one() {
    let (instance, without) = (listing().await, Instance::start().await);
    for (path, method) in calls() {
        let expected = call(&without, &method, path).send().await.unwrap();
        assert_eq!(header(&expected, "vary"), None, "{path}");
        // Neither a prefix, nor another spelling, nor an opaque origin is enough.
        for origin in [FOREIGN, "https://app.example.foreign.example", "https://APP.example", "null", ""] {
            let answer = call(&instance, &method, path).header("Origin", origin).send().await.unwrap();
            assert_eq!(answer.status(), expected.status(), "{method} {path} {origin}");
            assert_without_cors(&answer);
            assert_eq!(header(&answer, "vary"), SHARED.contains(&path).then_some("Origin"), "{path}");
        }
        let refused = preflight(&instance, path, FOREIGN, method.as_str()).send().await.unwrap();
        assert_without_cors(&refused);
        let as_before = preflight(&without, path, FOREIGN, method.as_str()).send().await.unwrap();
        assert_eq!(header(&refused, "allow"), header(&as_before, "allow"), "{path}");
        problem(as_before, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
        problem(refused, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
    }
    let answer = instance.post_as_principal(ISSUE).header("Origin", FOREIGN).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "CORS is no access control");
    let token = answer.json::<serde_json::Value>().await.unwrap()["sse_token"].as_str().unwrap().to_owned();
    vx11_kit::remember_secret(&token);
}

#[tokio::test]
async fn a_preflight_permits_the_methods_of_the_path_and_the_headers_of_clients_for_a_day() {
    let instance = listing().await;
    for endpoint in endpoints() {
        let path = endpoint.path;
        let methods: BTreeSet<_> =
            endpoint.methods.iter().map(|(method, _)| method.as_str().to_lowercase()).collect();
        let asked = methods.first().unwrap().to_uppercase();
        let request = preflight(&instance, path, LISTED, &asked);
        let headers = "authorization,content-type,idempotency-key,last-event-id,x-vx11-token";
        let answer = request.header("Access-Control-Request-Headers", headers).send().await.unwrap();
        if !SHARED.contains(&path) {
            assert_without_cors(&answer);
            problem(answer, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
            continue;
        }
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(LISTED));
        assert_eq!(header(&answer, "access-control-allow-credentials"), Some("true"));
        assert_eq!(header(&answer, "access-control-max-age"), Some("86400"));
        assert_eq!(list(&answer, "access-control-allow-methods"), methods, "{path}");
        let allowed: BTreeSet<_> = headers.split(',').map(str::to_owned).collect();
        assert_eq!(list(&answer, "access-control-allow-headers"), allowed, "{path}");
        assert_eq!(header(&answer, "vary"), Some("Origin"));
        assert_eq!(answer.text().await.unwrap(), "");
    }
}

#[tokio::test]
async fn a_preflight_for_anything_else_is_refused_with_what_is_permitted_and_is_no_defect() {
    let instance = listing().await;
    for (method, headers, text) in [
        ("DELETE", "authorization", "methods of this path"),
        ("POST", "x-other", "Idempotency-Key"),
        ("POST", "authorization, x-other", "Idempotency-Key"),
        ("POST", "a b", "Idempotency-Key"),
    ] {
        let request = preflight(&instance, PUBLISH, LISTED, method);
        let answer = request.header("Access-Control-Request-Headers", headers).send().await.unwrap();
        assert_without_cors(&answer);
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
        assert!(refusal["detail"].as_str().unwrap().contains(text), "{refusal}");
    }
    // Without the method that it asks for, it is no preflight.
    let options = call(&instance, &Method::OPTIONS, PUBLISH).header("Origin", LISTED).send().await.unwrap();
    assert_readable(&options, LISTED);
    problem(options, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
    assert!(!instance.log_text().contains("defect"), "see {}", instance.log.display());
}

#[tokio::test]
async fn a_page_can_read_why_it_is_refused() {
    let instance = Instance::with(&[
        ("VX11_OPERATOR__HTTP__CORS_ORIGINS", LISTED),
        ("VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE", "2"),
        ("VX11_OPERATOR__STREAMS__MAX", "1"),
    ])
    .await;
    let refused = async |request: RequestBuilder, status, code| {
        let answer = request.header("Origin", LISTED).send().await.unwrap();
        assert_readable(&answer, LISTED);
        problem(answer, status, code).await;
    };
    let too_large = "x".repeat(64 * 1024 + 1);
    let publish = || instance.post_as_principal(PUBLISH).header("Content-Type", "application/json");
    refused(instance.get(STREAM), StatusCode::UNAUTHORIZED, "credential_missing").await;
    refused(publish().body("1"), StatusCode::BAD_REQUEST, "bad_request").await;
    refused(publish().body(too_large), StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
    refused(
        instance.post_as_principal(PUBLISH),
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
    )
    .await;
    refused(instance.get("/client/none.js"), StatusCode::NOT_FOUND, "not_found").await;
    let _only_stream = instance.open_stream(&instance.issue().await.token).await;
    let second = instance.get(STREAM).query(&[("token", &instance.issue().await.token)]);
    refused(second, StatusCode::SERVICE_UNAVAILABLE, "streams_full").await;
    let wrong = || instance.get(STREAM).query(&[("token", "x")]);
    refused(wrong(), StatusCode::FORBIDDEN, "token_refused").await;
    refused(wrong(), StatusCode::FORBIDDEN, "token_refused").await;
    refused(wrong(), StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
}

#[tokio::test]
async fn every_origin_may_read_answers_to_requests_without_credentials() {
    let instance = with_origins("*").await;
    for origin in [LISTED, FOREIGN, "null"] {
        for request in [
            call(&instance, &Method::GET, STREAM).header("Origin", origin),
            preflight(&instance, STREAM, origin, "GET"),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
            assert_eq!(header(&answer, "access-control-allow-credentials"), None);
            assert_eq!(header(&answer, "vary"), Some("Origin"));
        }
    }
    let answer = instance.get("/operator/api/health").header("Origin", LISTED).send().await.unwrap();
    assert_without_cors(&answer);
    let without = instance.get(STREAM).send().await.unwrap();
    assert_without_cors(&without);
    assert_eq!(header(&without, "vary"), Some("Origin"));
}

#[tokio::test]
async fn without_the_key_no_answer_has_a_header_of_cors() {
    let instance = Instance::start().await;
    for (path, method) in calls() {
        for request in [
            call(&instance, &method, path).header("Origin", LISTED),
            preflight(&instance, path, LISTED, method.as_str()),
        ] {
            let answer = request.send().await.unwrap();
            assert_without_cors(&answer);
            assert_eq!(header(&answer, "vary"), None, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn preflights_are_counted_like_other_requests() {
    let instance = listing().await;
    for origin in [LISTED, LISTED, FOREIGN] {
        preflight(&instance, ISSUE, origin, "POST").send().await.unwrap();
    }
    for (status, count) in [("200", 2), ("405", 1)] {
        let series = format!(
            "vx11_operator_http_request_duration_seconds_count{{method=\"OPTIONS\",route=\"{ISSUE}\",\
             status=\"{status}\"}}"
        );
        instance.metric_becomes(&series, count).await;
    }
}

#[tokio::test]
async fn a_stream_of_a_listed_origin_carries_events_like_any_other() {
    let instance = listing().await;
    let token = instance.issue().await.token;
    let request = instance.get(STREAM).bearer_auth(&token).header("Origin", LISTED);
    let answer = request.send().await.unwrap();
    assert_readable(&answer, LISTED);
    let mut stream = vx11_kit::EventStream::connected(answer).await;
    let id = instance.publish(serde_json::json!("one")).await;
    assert_eq!(stream.next().await.unwrap().id, id);
}
