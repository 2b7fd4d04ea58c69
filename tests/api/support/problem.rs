//! Common properties of every refusal (RFC 9457).

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::raw::RawResponse;

/// The members of a problem, each of them always present, and no others.
const MEMBERS: [&str; 6] = ["code", "detail", "request_id", "status", "title", "type"];

/// Asserts that a response is the problem `code` with `status`, in the form every problem has;
/// returns its body.
pub async fn problem(response: Response, status: StatusCode, code: &str) -> Value {
    let url = response.url().path().to_owned();
    let headers = response.headers().clone();
    let header = |name: &str| headers.get(name).map(|value| value.to_str().expect("ASCII"));
    let answered = response.status();
    // Before the body is read: that of a stream has no end.
    assert!(header("content-type") != Some("text/event-stream"), "{url}: a stream instead of {code}");
    let body = response.text().await.expect("a body in UTF-8");
    assert_eq!(answered, status, "{url}: {body}");
    assert_eq!(header("content-type"), Some("application/problem+json"), "{url}");
    assert_eq!(header("cache-control"), Some("no-store"), "{url}");
    assert_eq!(header("x-content-type-options"), Some("nosniff"), "{url}");
    assert_eq!(header("referrer-policy"), Some("no-referrer"), "{url}");
    assert_eq!(
        header("www-authenticate")
            .is_some_and(|demand| ["Bearer ", "Basic "].iter().any(|scheme| demand.starts_with(scheme))),
        status == StatusCode::UNAUTHORIZED,
        "{url}: only a 401 says how to authenticate"
    );
    let wait = header("retry-after").map(|seconds| seconds.parse::<u64>().expect("whole seconds"));
    let may_come_back = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    assert_eq!(wait.is_some_and(|seconds| seconds > 0), may_come_back.contains(&status), "{url}: {wait:?}");
    members(&body, status.as_u16(), code)
}

/// The same for a response read as bytes.
pub fn raw_problem(response: &RawResponse, status: u16, code: &str) -> Value {
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, status, "{body}");
    assert!(
        response.head.contains("content-type: application/problem+json")
            && response.head.contains("cache-control: no-store"),
        "{}",
        response.head
    );
    members(&body, status, code)
}

fn members(body: &str, status: u16, code: &str) -> Value {
    let value: Value = serde_json::from_str(body).expect("a problem is JSON");
    let mut names: Vec<_> = value.as_object().expect("an object").keys().collect();
    names.sort();
    assert_eq!(names, MEMBERS, "{body}");
    assert_eq!(value["type"], "about:blank");
    assert_eq!((&value["status"], &value["code"]), (&status.into(), &code.into()));
    let title = StatusCode::from_u16(status).expect("a status").canonical_reason();
    assert_eq!(value["title"].as_str(), title);
    assert!(value["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{body}");
    assert!(value["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
    value
}
