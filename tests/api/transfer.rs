//! Transfer of a request's body: size, speed, and framing that is never mistaken.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Instance, exchange, raw_problem, raw_request};

const PUBLISH: &str = "/operator/api/events";
const REVOKE: &str = "/operator/api/tokens/revoke";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const MOST: usize = 64 * 1024;
const JSON: &str = "application/json";
/// A text in refused requests that must be in no answer.
const WORD: &str = "xylophone";

/// The head of a POST by the principal, up to the headers of its body.
fn head(instance: &Instance, path: &str, more: &str) -> String {
    let principal = &instance.principal;
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {principal}\r\nContent-Type: {JSON}\r\n{more}\r\n\r\n"
    )
}

/// `data` that makes the whole body `size` bytes long.
fn body_of(size: usize) -> String {
    let frame = r#"{"data":""}"#;
    format!(r#"{{"data":"{}"}}"#, "x".repeat(size - frame.len()))
}

#[tokio::test]
async fn a_body_of_64_kib_is_taken_and_one_byte_more_is_refused_however_it_is_sent() {
    let instance = Instance::start().await;
    let most = instance.post_as_principal(PUBLISH).header("Content-Type", JSON).body(body_of(MOST));
    assert_eq!(most.send().await.unwrap().status(), StatusCode::ACCEPTED);
    join_all([PUBLISH, REVOKE, INTROSPECT].map(async |path| {
        for length in [MOST + 1, 1 << 40] {
            // Refused for what is announced, before any of it has come.
            let announced = head(&instance, path, &format!("Content-Length: {length}"));
            let refused = raw_request(&instance, announced.as_bytes()).await;
            raw_problem(&refused, 413, "body_too_large");
            assert!(refused.head.to_lowercase().contains("connection: close"), "{}", refused.head);
        }
        // Of unknown length: refused as soon as it is too long, without waiting for its end.
        let mut chunked = head(&instance, path, "Transfer-Encoding: chunked");
        for chunk in body_of(MOST + 1).as_bytes().chunks(5000) {
            let text = std::str::from_utf8(chunk).unwrap();
            let _ = write!(chunked, "{:x}\r\n{text}\r\n", chunk.len());
        }
        raw_problem(&raw_request(&instance, chunked.as_bytes()).await, 413, "body_too_large");
    }))
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_refused_with_408_even_if_it_trickles() {
    let instance = Instance::with(&[("VX11_OPERATOR__HTTP__BODY_TIMEOUT_SECONDS", "1")]).await;
    // More than trickles in while a test waits.
    let announced = head(&instance, PUBLISH, "Content-Length: 60000") + "{";
    let silent = raw_request(&instance, announced.as_bytes());
    let trickling = async {
        let connection = TcpStream::connect(instance.address()).await.unwrap();
        let (mut reader, mut writer) = connection.into_split();
        writer.write_all(announced.as_bytes()).await.unwrap();
        let trickle = async {
            // Shorter pauses than a timeout between two reads would allow.
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            loop {
                ticks.tick().await;
                let _ = writer.write_all(b" ").await;
            }
        };
        let mut answer = [0; 12];
        tokio::select! {
            () = trickle => unreachable!("it never ends"),
            read = reader.read_exact(&mut answer) => drop(read.unwrap()),
        }
        assert_eq!(&answer, b"HTTP/1.1 408");
    };
    let (silent, ()) = tokio::join!(silent, trickling);
    raw_problem(&silent, 408, "body_timeout");
    assert!(silent.head.to_lowercase().contains("connection: close"), "{}", silent.head);
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
    let begun = ["Content-Length: 20\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"];
    let refused = [(PUBLISH, 401), ("/xylophone", 404), ("/metrics", 405)];
    let cases = refused.iter().flat_map(|case| begun.map(|begun| (case, begun)));
    join_all(cases.map(async |((path, status), begun)| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {WORD}\r\n{begun}");
        // Answered at once, and the server closes although more of the body could come.
        let answer = raw_request(&instance, request.as_bytes()).await;
        assert_eq!(answer.status, *status, "{path}");
        assert!(answer.head.to_lowercase().contains("connection: close"), "{}", answer.head);
    }))
    .await;
}

#[tokio::test]
async fn a_connection_outlives_bodies_that_were_read_to_their_end() {
    let instance = Instance::start().await;
    let chunked = head(&instance, PUBLISH, "Transfer-Encoding: chunked") + "b\r\n{\"data\": 1}\r\n0\r\n\r\n";
    let last = head(&instance, PUBLISH, "Connection: close\r\nContent-Length: 11") + r#"{"data": 2}"#;
    let answers = exchange(&instance, format!("{chunked}{chunked}{last}").as_bytes()).await;
    assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 202").count(), 3);
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
    assert_eq!(String::from_utf8_lossy(&answer.body).matches("HTTP/1.1").count(), 0);
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
