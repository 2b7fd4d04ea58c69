//! A problem, read strictly: nginx's own have the members and headers of the service's.

use reqwest::{Response, StatusCode};
use serde_json::Value;

/// Asserts status, code, headers and members; returns the document.
pub async fn problem(response: Response, status: u16, code: &str) -> Value {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (kind, cache, sniff) =
        (header("content-type"), header("cache-control"), header("x-content-type-options"));
    let (referrer, wait, answered) = (header("referrer-policy"), header("retry-after"), response.status());
    let body = response.text().await.unwrap();
    assert_eq!(answered.as_u16(), status, "{body}");
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{body}");
    assert_eq!(cache.as_deref(), Some("no-store"), "{body}");
    assert_eq!(sniff.as_deref(), Some("nosniff"), "{body}");
    assert_eq!(referrer.as_deref(), Some("no-referrer"), "{body}");
    let seconds = wait.map(|seconds| seconds.parse::<u64>().expect("whole seconds"));
    assert_eq!(seconds.is_some_and(|seconds| seconds > 0), [429, 502, 503, 504].contains(&status), "{body}");
    problem_in(&body, status, code)
}

/// The same for a body alone.
pub fn problem_in(body: &str, status: u16, code: &str) -> Value {
    let document: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("no problem: {body}"));
    let mut members: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["code", "detail", "request_id", "status", "title", "type"]);
    assert_eq!(document["type"], "about:blank");
    assert_eq!((&document["status"], &document["code"]), (&status.into(), &code.into()), "{body}");
    assert_eq!(document["title"].as_str(), StatusCode::from_u16(status).unwrap().canonical_reason());
    assert!(document["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{body}");
    assert_eq!(document["request_id"].as_str().map(str::len), Some(32), "{body}");
    document
}
