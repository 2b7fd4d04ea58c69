//! Control over what users have open, on an instance without Redis: listing and ending streams,
//! revoking and blocking subjects, and tokens whose streams are limited.

mod audit;
mod input;
mod streams;
mod subjects;
mod tokens;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use vx11_kit::EventStream;

use crate::support::{Instance, issue_with};

const STREAMS: &str = "/operator/api/streams";
const END: &str = "/operator/api/streams/end";
const REVOKE: &str = "/operator/api/subjects/revoke";
const BLOCK: &str = "/operator/api/subjects/block";
const UNBLOCK: &str = "/operator/api/subjects/unblock";

/// Gives an order as `operator`.
async fn ask(instance: &Instance, path: &str, body: &Value) -> Response {
    instance.post_as_principal(path).json(body).send().await.expect("an answer")
}

/// Gives an order that is carried out; returns the answer.
async fn order(instance: &Instance, path: &str, body: &Value) -> Value {
    let response = ask(instance, path, body).await;
    assert_eq!(response.status(), StatusCode::OK, "{path} {body}");
    response.json().await.expect("in JSON")
}

/// The list of streams with these parameters.
async fn list(instance: &Instance, parameters: &[(&str, &str)]) -> Value {
    let response = instance.get_as_principal(STREAMS).query(parameters).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK, "{parameters:?}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.json().await.expect("in JSON")
}

/// A token that was issued: as text, and its id.
struct Token {
    text: String,
    id: String,
}

/// Issues a token with these fields.
async fn issue(instance: &Instance, fields: &Value) -> Token {
    let issued = issue_with(instance, fields).await;
    let text = |name: &str| issued[name].as_str().expect("a text").to_owned();
    Token { text: text("sse_token"), id: text("token_id") }
}

/// A token of a subject, for `default`.
async fn token_of(instance: &Instance, subject: &str) -> Token {
    issue(instance, &json!({ "subject": subject })).await
}

/// Asserts that a stream ends for a reason.
async fn ends(stream: &mut EventStream, reason: &str) {
    let last = stream.rest().await.pop().expect("a last frame");
    assert_eq!((last.event.as_str(), &last.json()["reason"]), ("reconnect", &json!(reason)));
}

/// Asserts that streams of `default` are open.
async fn are_open(instance: &Instance, streams: &mut [EventStream]) {
    instance.publish(json!("still here")).await;
    for stream in streams {
        assert_eq!(stream.next().await.expect("an event").json(), json!("still here"));
    }
}

/// The value of `invalid_total` for a reason.
async fn refused(instance: &Instance, reason: &str) -> u64 {
    let name = format!("vx11_operator_ephemeral_tokens_invalid_total{{reason=\"{reason}\"}}");
    instance.metric(&name).await
}
