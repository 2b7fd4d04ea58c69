//! Rights: each line of the table of URLs, called with each right, on topics of the principal and
//! on others. A new endpoint is in these tests as soon as it is in the table.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use strum::VariantArray;
use vx11_kit::remember_secret;
use vx11_operator::http::{Caller, endpoints};
use vx11_operator::principal::Right;

use crate::support::{Instance, Limited, ask_for_token, planted, problem, stream, with_principals};

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const PUBLISH: &str = "/operator/api/events";
const AUTHORISE: &str = "/operator/internal/authorise";
const REVOKE: &str = "/operator/api/tokens/revoke";
const TOKEN: &str = "/oauth/token";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const END: &str = "/operator/api/streams/end";
const BLOCK: &str = "/operator/api/subjects/block";
/// Orders about a subject that take no other field.
const SUBJECTS: [&str; 2] = ["/operator/api/subjects/revoke", "/operator/api/subjects/unblock"];
/// A topic of the principals, and another one.
const MINE: &str = "mine/1";
const OTHER: &str = "other/1";

/// A method of a path, and who may call it.
struct Call {
    path: &'static str,
    method: Method,
    caller: Caller,
}

/// Every line of the table, with each of its methods.
fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for endpoint in endpoints() {
        for (method, caller) in &endpoint.methods {
            let method = Method::from_bytes(method.as_str().as_bytes()).unwrap();
            calls.push(Call { path: endpoint.path, method, caller: *caller });
        }
    }
    calls
}

impl Call {
    /// The right that a principal needs.
    fn needs(&self) -> Option<Right> {
        match self.caller {
            Caller::Anyone | Caller::Token => None,
            Caller::Principal(right) | Caller::Client(right) | Caller::TokenOr(right) => Some(right),
        }
    }

    /// Whether its request names a topic.
    fn is_about_topics(&self) -> bool {
        let is_post = self.method == Method::POST;
        (self.path == ISSUE && is_post) || [PUBLISH, STREAM, TOKEN].contains(&self.path)
    }

    /// A request without a credential.
    fn request(&self, instance: &Instance, topic: &str) -> RequestBuilder {
        let path = self.path.replace("/panel/{file}", "/panel/panel.js");
        let path = path.replace("/client/{file}", "/client/vx11-events.js");
        let request = instance.client.request(self.method.clone(), format!("{}{path}", instance.base));
        match self.path {
            ISSUE if self.is_about_topics() => request.json(&json!({ "topics": [topic] })),
            TOKEN => {
                let scope = format!("read:{topic}");
                request.form(&[("grant_type", "client_credentials"), ("scope", &scope)])
            }
            PUBLISH => request.json(&json!({ "topic": topic, "data": 1 })),
            STREAM | AUTHORISE => request.query(&[("topic", topic)]),
            REVOKE => request.form(&[("token_id", "0123456789abcdef")]),
            END => request.json(&json!({ "stream_id": "0123456789abcdef" })),
            BLOCK => request.json(&json!({ "subject": "user-7", "seconds": 60 })),
            path if SUBJECTS.contains(&path) => request.json(&json!({ "subject": "user-7" })),
            INTROSPECT => request.form(&[("token", "x")]),
            _ => request,
        }
    }
}

/// Asserts that a request was not permitted because of `lack`. The answer to HEAD has no body.
async fn is_not_permitted(response: Response, method: &Method, lack: &str) {
    if method == Method::HEAD {
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        return;
    }
    let body = problem(response, StatusCode::FORBIDDEN, "not_permitted").await;
    assert_eq!(body["detail"], lack);
}

/// Asserts that the token endpoint refused because of `lack`, with an error of OAuth.
async fn is_no_grant(response: Response, lack: &str) {
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body: Value = response.json().await.unwrap();
    let error = if lack.contains("lacks the right") { "unauthorized_client" } else { "invalid_scope" };
    assert_eq!((&body["error"], &body["error_description"]), (&json!(error), &json!(lack)));
}

async fn not_permitted_by(instance: &Instance, right: Right) -> u64 {
    let name: &str = right.into();
    instance.metric(&format!("vx11_operator_not_permitted_total{{right=\"{name}\"}}")).await
}

#[tokio::test]
async fn each_call_needs_its_right_and_its_topics_and_nothing_else_is_carried_out() {
    let names: Vec<&str> = Right::VARIANTS.iter().map(|right| (*right).into()).collect();
    let topics = ["mine/*", "default"];
    let principals: Vec<_> =
        names.iter().map(|name| (*name, std::slice::from_ref(name), topics.as_slice())).collect();
    let (instance, credentials) = with_principals(&principals, "").await;
    let mut refused = BTreeMap::<&str, u64>::new();
    let mut done = BTreeMap::<&str, u64>::new();
    for call in calls() {
        for (right, credential) in Right::VARIANTS.iter().zip(&credentials) {
            for topic in [MINE, OTHER] {
                let lack = match call.needs() {
                    Some(needed) if needed != *right => {
                        Some(format!("this principal lacks the right {}", <&str>::from(needed)))
                    }
                    Some(_) if call.is_about_topics() && topic == OTHER => {
                        Some(format!("the topics of this principal do not include {OTHER}"))
                    }
                    _ => None,
                };
                let request = call.request(&instance, topic).header("X-VX11-Token", credential);
                let response = request.send().await.unwrap();
                if let (Some(lack), Some(needed)) = (lack, call.needs()) {
                    if call.path == TOKEN {
                        is_no_grant(response, &lack).await;
                    } else {
                        is_not_permitted(response, &call.method, &lack).await;
                    }
                    *refused.entry(needed.into()).or_default() += 1;
                    continue;
                }
                if call.caller == Caller::Token {
                    problem(response, StatusCode::FORBIDDEN, "token_refused").await;
                    continue;
                }
                let status = response.status();
                if call.path == AUTHORISE {
                    // A proxy gets the topics of the principal, whatever the request names.
                    assert_eq!(response.headers()["x-vx11-topics"], "mine/* default");
                }
                let what = format!("{} {} by {right:?}: {status}", call.method, call.path);
                assert!(![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status), "{what}");
                if call.needs().is_some() {
                    assert!(status.is_success(), "{what}");
                }
                *done.entry(call.path).or_default() += 1;
                if [ISSUE, TOKEN].contains(&call.path) {
                    let issued: Value = response.json().await.unwrap();
                    let token = &issued[if call.path == ISSUE { "sse_token" } else { "access_token" }];
                    remember_secret(token.as_str().unwrap());
                }
            }
        }
    }
    for right in Right::VARIANTS {
        let expected = refused.get(<&str>::from(*right)).copied().unwrap_or(0);
        assert_eq!(not_permitted_by(&instance, *right).await, expected, "{right:?}");
    }
    for (number, metric) in [
        (done[ISSUE] + done[TOKEN], "vx11_operator_ephemeral_tokens_issued_total"),
        (done[PUBLISH], "vx11_operator_events_published_total"),
        (done[STREAM], "vx11_operator_sse_connections_principal_total"),
    ] {
        assert_eq!(instance.metric(metric).await, number, "{metric}");
    }
}

#[tokio::test]
async fn a_call_needs_a_credential_unless_anyone_may_make_it() {
    let instance = Instance::start().await;
    for call in calls() {
        let answer = call.request(&instance, MINE).send().await.unwrap();
        let is_refused = answer.status() == StatusCode::UNAUTHORIZED;
        assert_eq!(is_refused, call.caller != Caller::Anyone, "{} {}", call.method, call.path);
    }
}

#[tokio::test]
async fn a_token_needs_no_right_where_a_token_is_accepted() {
    let instance = Instance::with(&[("VX11_OPERATOR__HTTP__PUBLIC_URL", "https://events.example")]).await;
    let token = instance.issue().await.token;
    for call in calls() {
        let response = call.request(&instance, "default").header("X-VX11-Token", &token).send().await;
        let status = response.unwrap().status();
        match call.caller {
            Caller::Principal(_) | Caller::Client(_) => {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{}", call.path);
            }
            Caller::TokenOr(_) | Caller::Token | Caller::Anyone => {
                assert!(status.is_success(), "{}: {status}", call.path);
            }
        }
    }
}

#[tokio::test]
async fn a_principal_that_may_not_grant_default_issues_no_plain_token() {
    let (instance, credentials) = with_principals(&[("shop", &["issue"], &["orders/*"])], "").await;
    let lack = "the topics of this principal do not include default";
    for request in [instance.get(ISSUE), instance.post(ISSUE), instance.post(ISSUE).json(&json!({}))] {
        let answer = request.header("X-VX11-Token", &credentials[0]).send().await.unwrap();
        is_not_permitted(answer, &Method::POST, lack).await;
    }
    // A field does not change that: the topic is still `default`.
    let answer = ask_for_token(&instance, &credentials[0], &json!({ "subject": "user-7" })).await;
    is_not_permitted(answer, &Method::POST, lack).await;
    assert_eq!(instance.metric("vx11_operator_ephemeral_tokens_issued_total").await, 0);
}

#[tokio::test]
async fn topics_of_the_service_are_read_and_granted_with_the_right_to_observe_and_not_without() {
    let principals: [Limited<'_>; 2] = [
        ("watcher", &["issue", "subscribe", "observe"], &["news"]),
        ("backend", &["issue", "subscribe"], &["*"]),
    ];
    let (instance, credentials) = with_principals(&principals, "").await;
    let [watcher, backend] = credentials.as_slice() else { panic!("two principals") };
    let open = async |credential: &str, topic: &str| {
        let request = stream(&instance, &[("topic", topic)]).header("X-VX11-Token", credential);
        request.send().await.unwrap()
    };
    for topic in ["$streams/opened", "$streams/*"] {
        let fields = json!({ "topics": [topic] });
        let lack = "this principal lacks the right observe";
        is_not_permitted(ask_for_token(&instance, backend, &fields).await, &Method::POST, lack).await;
        is_not_permitted(open(backend, topic).await, &Method::GET, lack).await;
        let issued = ask_for_token(&instance, watcher, &fields).await;
        assert_eq!(issued.status(), StatusCode::OK);
        let issued: Value = issued.json().await.unwrap();
        let token = issued["sse_token"].as_str().unwrap();
        remember_secret(token);
        assert_eq!(open(watcher, topic).await.status(), StatusCode::OK);
        let authorised = instance.get(AUTHORISE).bearer_auth(token).send().await.unwrap();
        assert_eq!(authorised.status(), StatusCode::NO_CONTENT);
        assert_eq!(authorised.headers()["x-vx11-topics"], topic);
    }
    assert_eq!(not_permitted_by(&instance, Right::Observe).await, 4);
    // The right is for these topics only.
    let lack = "the topics of this principal do not include users/7";
    let fields = json!({ "topics": ["$streams/opened", "users/7"] });
    is_not_permitted(ask_for_token(&instance, watcher, &fields).await, &Method::POST, lack).await;
    is_not_permitted(open(watcher, "users/7").await, &Method::GET, lack).await;
}

#[tokio::test]
async fn nobody_publishes_to_topics_of_the_service() {
    let instance = Instance::start().await;
    for body in [
        json!({ "topic": "$streams/opened", "data": 1 }),
        json!({ "topics": ["news", "$streams/opened"], "data": 1 }),
    ] {
        let answer = instance.post_as_principal(PUBLISH).json(&body).send().await.unwrap();
        let refusal = problem(answer, StatusCode::FORBIDDEN, "not_permitted").await;
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.starts_with("$streams/opened belongs to the service"), "{detail}");
    }
    assert_eq!(instance.metric("vx11_operator_events_published_total").await, 0);
    assert_eq!(not_permitted_by(&instance, Right::Publish).await, 2);
}

#[tokio::test]
async fn a_request_that_is_not_permitted_is_no_failed_authentication() {
    let limited = "[limits]\nfailed_auth_per_minute = 1\n";
    let (instance, credentials) = with_principals(&[("reader", &["subscribe"], &["news"])], limited).await;
    for _ in 0..5 {
        let issue = instance.post(ISSUE).header("X-VX11-Token", &credentials[0]).send().await.unwrap();
        is_not_permitted(issue, &Method::POST, "this principal lacks the right issue").await;
        let open = stream(&instance, &[("topic", "orders/1"), ("token", &credentials[0])]).send().await;
        let lack = "the topics of this principal do not include orders/1";
        is_not_permitted(open.unwrap(), &Method::GET, lack).await;
    }
    let wrong = planted();
    for (status, code) in
        [(StatusCode::UNAUTHORIZED, "credential_wrong"), (StatusCode::TOO_MANY_REQUESTS, "rate_limited")]
    {
        let failed = instance.post(ISSUE).header("X-VX11-Token", &wrong).send().await.unwrap();
        problem(failed, status, code).await;
    }
}
