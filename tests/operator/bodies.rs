//! What a request's body may be, and how the rest is refused: by form, size, time.

use std::time::{Duration, Instant as Moment};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Instance, exchange, problem, raw_problem, raw_request};

const PUBLISH: &str = "/operator/api/events";
const REVOKE: &str = "/operator/api/tokens/revoke";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const MOST: usize = 64 * 1024;
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// Stands in every refused body, and in no answer.
const WORD: &str = "xylophone";

/// The head of a POST by the principal, up to the headers of its body.
fn head(instance: &Instance, path: &str, more: &str) -> String {
    let principal = &instance.principal;
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {principal}\r\nContent-Type: {JSON}\r\n{more}\r\n\r\n"
    )
}

async fn post(
    instance: &Instance,
    path: &str,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    let request = instance
        .post_as_principal(path)
        .header("Content-Type", content_type);
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

/// `data` that makes the whole body `size` bytes long.
fn body_of(size: usize) -> String {
    let frame = r#"{"data":""}"#;
    format!(r#"{{"data":"{}"}}"#, "x".repeat(size - frame.len()))
}

#[tokio::test]
async fn what_is_no_event_is_refused_and_reaches_no_subscriber() {
    let instance = Instance::start().await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    let endless = "[".repeat(MOST);
    let bad: [&[u8]; 21] = [
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
    assert_eq!(
        post(&instance, PUBLISH, JSON, nested(127)).await.status(),
        StatusCode::ACCEPTED
    );
    for depth in [128, 1000, 30_000] {
        let refused = post(&instance, PUBLISH, JSON, nested(depth)).await;
        problem(refused, StatusCode::BAD_REQUEST, "bad_request").await;
    }
    for path in [REVOKE, INTROSPECT] {
        let hidden = format!(r#"{{"other":{}"#, "[".repeat(60_000));
        problem(
            post(&instance, path, JSON, hidden).await,
            StatusCode::BAD_REQUEST,
            "bad_request",
        )
        .await;
    }
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
    for event in [
        json!("message"),
        json!("a.b_c:d/e-F9"),
        json!("x".repeat(64)),
        Value::Null,
    ] {
        let body = json!({ "event": event, "data": 1 }).to_string();
        assert_eq!(
            post(&instance, PUBLISH, JSON, body).await.status(),
            StatusCode::ACCEPTED
        );
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
    for unknown in [
        "token=",
        "token=xylophone",
        "token=%ff%00",
        "token_id=0123456789abcdef",
    ] {
        assert_eq!(
            post(&instance, REVOKE, FORM, unknown).await.status(),
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_with_415_and_what_is_taken() {
    let instance = Instance::start().await;
    let others = [
        "text/plain",
        FORM,
        "application/jsonp",
        "application/xml",
        "json",
        "*/*",
        "\"",
        ";",
    ];
    for other in others {
        let refused = post(&instance, PUBLISH, other, r#"{"data": 1}"#).await;
        let told = problem(
            refused,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
        )
        .await;
        assert!(told["detail"].as_str().unwrap().contains(JSON), "{told}");
    }
    for path in [PUBLISH, REVOKE, INTROSPECT] {
        let untyped = instance
            .post_as_principal(path)
            .body("token=x")
            .send()
            .await
            .unwrap();
        problem(
            untyped,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
        )
        .await;
        let multipart = post(&instance, path, "multipart/form-data; boundary=x", "token=x").await;
        problem(
            multipart,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
        )
        .await;
    }
}

#[tokio::test]
async fn the_name_of_a_type_has_no_case_and_may_have_parameters() {
    let instance = Instance::start().await;
    for json in [
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/CloudEvents+JSON",
    ] {
        let taken = post(&instance, PUBLISH, json, r#"{"data": 1}"#).await;
        assert_eq!(taken.status(), StatusCode::ACCEPTED, "{json}");
    }
    for form in [
        "Application/X-WWW-Form-Urlencoded",
        "application/x-www-form-urlencoded;charset=UTF-8",
    ] {
        let taken = post(&instance, INTROSPECT, form, "token=x").await;
        assert_eq!(taken.status(), StatusCode::OK, "{form}");
    }
}

#[tokio::test]
async fn a_body_of_64_kib_is_taken_and_one_byte_more_is_refused_however_it_is_sent() {
    let instance = Instance::start().await;
    assert_eq!(
        post(&instance, PUBLISH, JSON, body_of(MOST)).await.status(),
        StatusCode::ACCEPTED
    );
    join_all([PUBLISH, REVOKE, INTROSPECT].map(async |path| {
        for length in [MOST + 1, 1 << 40] {
            // Refused for what is announced, before any of it has come.
            let announced = head(&instance, path, &format!("Content-Length: {length}"));
            let refused = raw_request(&instance, announced.as_bytes()).await;
            raw_problem(&refused, 413, "body_too_large");
            assert!(
                refused.head.to_lowercase().contains("connection: close"),
                "{}",
                refused.head
            );
        }
        // Of unknown length: refused as soon as it is too long, without waiting for its end.
        let mut chunked = head(&instance, path, "Transfer-Encoding: chunked");
        for chunk in body_of(MOST + 1).as_bytes().chunks(5000) {
            let text = std::str::from_utf8(chunk).unwrap();
            chunked.push_str(&[format!("{:x}", chunk.len()), text.to_owned(), String::new()].join("\r\n"));
        }
        raw_problem(
            &raw_request(&instance, chunked.as_bytes()).await,
            413,
            "body_too_large",
        );
    }))
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_refused_with_408_even_if_it_trickles() {
    let instance = Instance::with(&[("VX11_OPERATOR__HTTP__BODY_TIMEOUT_SECONDS", "1")]).await;
    let announced = head(&instance, PUBLISH, "Content-Length: 100") + "{";
    let silent = raw_request(&instance, announced.as_bytes());
    let trickling = async {
        let started = Moment::now();
        let connection = TcpStream::connect(instance.address()).await.unwrap();
        let (mut reader, mut writer) = connection.into_split();
        writer.write_all(announced.as_bytes()).await.unwrap();
        let trickle = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = writer.write_all(b" ").await;
            }
        };
        let mut answer = [0; 12];
        tokio::select! {
            () = trickle => unreachable!("it never ends"),
            read = reader.read_exact(&mut answer) => drop(read.unwrap()),
        }
        assert_eq!(&answer, b"HTTP/1.1 408");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
    };
    let (silent, ()) = tokio::join!(silent, trickling);
    raw_problem(&silent, 408, "body_timeout");
    assert!(
        silent.head.to_lowercase().contains("connection: close"),
        "{}",
        silent.head
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_publishes_nothing_and_hurts_nobody() {
    let instance = Instance::start().await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    for begun in ["Content-Length: 20", "Transfer-Encoding: chunked"] {
        for _ in 0..20 {
            let mut connection = TcpStream::connect(instance.address()).await.unwrap();
            let request = head(&instance, PUBLISH, begun) + "b\r\n{\"data\": 1}";
            connection.write_all(request.as_bytes()).await.unwrap();
        }
    }
    instance.publish(json!("still here")).await;
    assert_eq!(stream.next().await.unwrap().json(), "still here");
    assert!(!instance.log_text().contains("panic"));
}

#[tokio::test]
async fn nobody_keeps_a_connection_with_a_body_that_does_not_end() {
    let instance = Instance::start().await;
    let begun = [
        "Content-Length: 20\r\n\r\n12345",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    ];
    let refused = [(PUBLISH, 401), ("/xylophone", 404), ("/metrics", 405)];
    let cases = refused.iter().flat_map(|case| begun.map(|begun| (case, begun)));
    join_all(cases.map(async |((path, status), begun)| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {WORD}\r\n{begun}");
        // Answered at once, and the server closes although more of the body could come.
        let answer = raw_request(&instance, request.as_bytes()).await;
        assert_eq!(answer.status, *status, "{path}");
        assert!(
            answer.head.to_lowercase().contains("connection: close"),
            "{}",
            answer.head
        );
    }))
    .await;
}

#[tokio::test]
async fn a_connection_outlives_bodies_that_were_read_to_their_end() {
    let instance = Instance::start().await;
    let chunked = head(&instance, PUBLISH, "Transfer-Encoding: chunked") + "b\r\n{\"data\": 1}\r\n0\r\n\r\n";
    let last = head(&instance, PUBLISH, "Connection: close\r\nContent-Length: 11") + r#"{"data": 2}"#;
    let answers = exchange(&instance, format!("{chunked}{chunked}{last}").as_bytes()).await;
    assert_eq!(
        String::from_utf8_lossy(&answers).matches("HTTP/1.1 202").count(),
        3
    );
}

#[tokio::test]
async fn a_body_is_never_taken_for_the_next_request() {
    let instance = Instance::start().await;
    // Refused before its body is read: what looks like a request in there must not be answered.
    let smuggled = format!(
        "POST {PUBLISH} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {}\r\nContent-Length: 0\r\n\r\n",
        instance.principal
    );
    let outer = format!(
        "POST {PUBLISH} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {WORD}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let answer = raw_request(&instance, outer.as_bytes()).await;
    raw_problem(&answer, 401, "credential_wrong");
    assert_eq!(
        String::from_utf8_lossy(&answer.body).matches("HTTP/1.1").count(),
        0
    );
    // Lengths that contradict each other are where smuggling begins (RFC 9112 §6.3).
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: +4",
        "Content-Length: 4, 4",
        "Transfer-Encoding: identity, gzip",
        "Transfer-Encoding: xchunked",
    ] {
        let request = head(&instance, PUBLISH, lengths) + "0\r\n\r\n";
        let answer = raw_request(&instance, request.as_bytes()).await;
        assert_eq!(answer.status, 400, "{lengths}: {}", answer.head);
    }
}
