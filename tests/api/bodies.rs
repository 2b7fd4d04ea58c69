//! Accepted bodies of requests, and refusals of others.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Instance, problem};

const PUBLISH: &str = "/operator/api/events";
const REVOKE: &str = "/operator/api/tokens/revoke";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const MOST: usize = 64 * 1024;
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// A text in every refused body that must be in no answer.
const WORD: &str = "xylophone";

async fn post(
    instance: &Instance,
    path: &str,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    let request = instance.post_as_principal(path).header("Content-Type", content_type);
    request.body(body).send().await.expect("an answer")
}

/// Asserts that each of these bodies is refused as a bad request that repeats nothing of it.
async fn all_bad(instance: &Instance, path: &str, content_type: &str, bodies: &[&[u8]]) {
    for body in bodies {
        let response = post(instance, path, content_type, body.to_vec()).await;
        let body = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}: {body}");
        let told = problem(response, StatusCode::BAD_REQUEST, "bad_request").await;
        assert!(!told.to_string().contains(WORD), "{path}: {body}: {told}");
    }
}

#[tokio::test]
async fn what_is_no_event_is_refused_and_reaches_no_subscriber() {
    let instance = Instance::start().await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    let endless = "[".repeat(MOST);
    let bad: [&[u8]; 26] = [
        b"",
        b" ",
        b"xylophone",
        b"{",
        br#"{"data": xylophone}"#,
        br#"{"data": 1} xylophone"#,
        br#"{"data": 1}{"data": 2}"#,
        br#"{"event": "xylophone"}"#,
        br#"{"data": 1, "xylophone": 2}"#,
        br#"{"data": 1, "data": 2}"#,
        br#"{"data": 1, "topic": null}"#,
        br#"{"data": 1, "topic": "xylophone/*"}"#,
        br#"{"data": 1, "topics": []}"#,
        br#"{"data": 1, "topics": ["xylophone", "xylophone"]}"#,
        br#"{"data": 1, "topic": "a", "topics": ["b"]}"#,
        br#"{"data": 1e999}"#,
        br#"{"data": "\ud800"}"#,
        br#"{"data": "\x00"}"#,
        br#"["xylophone", 1]"#,
        br#"[null, {"data": 1}]"#,
        b"\"xylophone\"",
        b"null",
        b"{\"data\": \"xylophone\xff\"}",
        b"\xef\xbb\xbf{\"data\": 1}",
        b"\xff\xfe{\x00}\x00",
        endless.as_bytes(),
    ];
    all_bad(&instance, PUBLISH, JSON, &bad).await;
    instance.publish(json!("the first")).await;
    assert_eq!(stream.next().await.unwrap().json(), "the first");
}

#[tokio::test]
async fn data_nests_as_deep_as_json_parsers_agree_on_and_no_deeper() {
    let instance = Instance::start().await;
    let nested = |depth: usize| format!(r#"{{"data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(post(&instance, PUBLISH, JSON, nested(127)).await.status(), StatusCode::ACCEPTED);
    for depth in [128, 1000, 30_000] {
        let refused = post(&instance, PUBLISH, JSON, nested(depth)).await;
        problem(refused, StatusCode::BAD_REQUEST, "bad_request").await;
    }
    for path in [REVOKE, INTROSPECT] {
        let hidden = format!(r#"{{"other":{}"#, "[".repeat(60_000));
        problem(post(&instance, path, JSON, hidden).await, StatusCode::BAD_REQUEST, "bad_request").await;
    }
}

#[tokio::test]
async fn data_with_so_many_line_ends_that_it_grows_beyond_twice_a_body_is_refused() {
    let instance = Instance::start().await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    let of = |line: &str| {
        let lines = (MOST - 100) / line.len();
        format!(r#"{{"data": [{}1]}}"#, line.repeat(lines))
    };
    for line in ["\n", "\r", "1,\n"] {
        let refused = post(&instance, PUBLISH, JSON, of(line)).await;
        let told = problem(refused, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
        assert!(told["detail"].as_str().unwrap().contains("131072"), "{told}");
    }
    let taken = of("  1,\n  22,\r\n");
    assert_eq!(post(&instance, PUBLISH, JSON, taken.clone()).await.status(), StatusCode::ACCEPTED);
    let sent = taken.trim_start_matches(r#"{"data": "#).trim_end_matches('}').replace("\r\n", "\n");
    assert_eq!(stream.next().await.unwrap().data, sent);
}

#[tokio::test]
async fn reserved_and_malformed_event_types_are_refused() {
    let instance = Instance::start().await;
    let long = "x".repeat(65);
    for event in [
        json!("reset"),
        json!("reconnect"),
        json!("open"),
        json!("error"),
        json!(""),
        json!("xylophone\n"),
        json!("xylophone\r\ndata: 1"),
        json!("xylophone data"),
        json!("xylophon\u{e9}"),
        json!("xylophone\u{0}"),
        json!(long),
        json!(1),
        json!(["xylophone"]),
    ] {
        let body = json!({ "event": event, "data": 1 }).to_string();
        all_bad(&instance, PUBLISH, JSON, &[body.as_bytes()]).await;
    }
    for event in [json!("message"), json!("a.b_c:d/e-F9"), json!("x".repeat(64)), Value::Null] {
        let body = json!({ "event": event, "data": 1 }).to_string();
        assert_eq!(post(&instance, PUBLISH, JSON, body).await.status(), StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn revoking_and_introspecting_need_exactly_one_well_formed_parameter() {
    let instance = Instance::start().await;
    let forms: [&[u8]; 8] = [
        b"",
        b"xylophone",
        b"Token=xylophone",
        b"token=xylophone&token=xylophone",
        b"token=xylophone&token_id=0123456789abcdef&token_id=0123456789abcdef",
        b"\xff\xfe",
        b"&&&",
        b"%74%6f%6bn=xylophone",
    ];
    let json: [&[u8]; 9] = [
        b"",
        b"{}",
        b"null",
        br#"{"token": 5}"#,
        br#"{"token": null}"#,
        br#"{"token": ["xylophone"]}"#,
        br#"{"token": "xylophone", "token": "xylophone"}"#,
        br#"["xylophone", null]"#,
        b"{\"token\": \"xylophone\xff\"}",
    ];
    for path in [REVOKE, INTROSPECT] {
        all_bad(&instance, path, FORM, &forms).await;
        all_bad(&instance, path, JSON, &json).await;
    }
    let of_revoking: [&[u8]; 6] = [
        b"token=xylophone&token_id=0123456789abcdef",
        b"token_id=",
        b"token_id=xylophone",
        b"token_id=0123456789ABCDEF",
        b"token_id=0123456789abcde",
        b"token_id=0123456789abcdef0",
    ];
    all_bad(&instance, REVOKE, FORM, &of_revoking).await;
    all_bad(&instance, INTROSPECT, FORM, &[b"token_id=0123456789abcdef"]).await;
    // Whatever it is, it is not valid any more (RFC 7009 §2.2).
    for unknown in ["token=", "token=xylophone", "token=%ff%00", "token_id=0123456789abcdef"] {
        assert_eq!(post(&instance, REVOKE, FORM, unknown).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_with_415_and_what_is_taken() {
    let instance = Instance::start().await;
    let others = ["text/plain", FORM, "application/jsonp", "application/xml", "json", "*/*", "\"", ";"];
    for other in others {
        let refused = post(&instance, PUBLISH, other, r#"{"data": 1}"#).await;
        let told = problem(refused, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
        assert!(told["detail"].as_str().unwrap().contains(JSON), "{told}");
    }
    for path in [PUBLISH, REVOKE, INTROSPECT] {
        let untyped = instance.post_as_principal(path).body("token=x").send().await.unwrap();
        problem(untyped, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
        let multipart = post(&instance, path, "multipart/form-data; boundary=x", "token=x").await;
        problem(multipart, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
    }
}

#[tokio::test]
async fn the_name_of_a_type_has_no_case_and_may_have_parameters() {
    let instance = Instance::start().await;
    for json in ["Application/JSON", "application/json; charset=utf-8", "application/CloudEvents+JSON"] {
        let taken = post(&instance, PUBLISH, json, r#"{"data": 1}"#).await;
        assert_eq!(taken.status(), StatusCode::ACCEPTED, "{json}");
    }
    for form in ["Application/X-WWW-Form-Urlencoded", "application/x-www-form-urlencoded;charset=UTF-8"] {
        let taken = post(&instance, INTROSPECT, form, "token=x").await;
        assert_eq!(taken.status(), StatusCode::OK, "{form}");
    }
}
