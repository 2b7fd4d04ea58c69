//! What happens between SIGTERM and the end of the process.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::Instance;

const STREAMS: usize = 1000;
const WINDOW: Duration = Duration::from_secs(4);

/// Opens a stream and reads it to the end of the connection; gives back everything and when the end came.
async fn read_to_the_end(
    address: String,
    token: String,
    opened: tokio::sync::mpsc::Sender<()>,
) -> (Vec<u8>, Instant) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut all = vec![0; 1024];
    let first = connection.read(&mut all).await.unwrap();
    all.truncate(first);
    drop(opened);
    connection.read_to_end(&mut all).await.unwrap();
    (all, Instant::now())
}

#[tokio::test]
async fn every_stream_is_told_to_reconnect_spread_over_the_window_and_none_is_cut_inside_a_frame() {
    let window = WINDOW.as_secs().to_string();
    let mut instance = Instance::with(&[("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", &window)]).await;
    let token = instance.issue().await.token;
    let (opened, mut all_opened) = tokio::sync::mpsc::channel(1);
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(read_to_the_end(instance.address().to_owned(), token.clone(), opened.clone()));
    }
    drop(opened);
    assert_eq!(all_opened.recv().await, None, "closes when every stream is open");
    let published = instance.publish(json!("before the end")).await;

    let start = Instant::now();
    instance.terminate();
    let mut ends = Vec::with_capacity(STREAMS);
    for (all, end) in streams.join_all().await {
        let text = String::from_utf8(all).unwrap();
        assert!(text.contains(&published), "an acknowledged event is delivered before the end: {text}");
        let last = text.rfind("event: reconnect").expect("told to reconnect");
        assert!(text[last..].contains(r#"{"reason":"drain","retry_ms":"#));
        assert!(text.ends_with("\n\n\r\n0\r\n\r\n"), "cut inside a frame: {:?}", &text[last..]);
        ends.push(end.duration_since(start));
    }
    assert_eq!(instance.ended().await.code(), Some(0));
    // Evenly: each quarter of the window sees about a quarter of the ends, with room for a busy machine.
    for quarter in 1..=4_u32 {
        let due =
            ends.iter().filter(|end| **end <= WINDOW / 4 * quarter + Duration::from_millis(500)).count();
        let least = STREAMS / 4 * quarter as usize * 8 / 10;
        assert!(due >= least, "{due} streams had ended in quarter {quarter}, expected at least {least}");
    }
    let at_once = ends.iter().filter(|end| **end < WINDOW / 4).count();
    assert!(at_once < STREAMS / 2, "{at_once} streams ended in the first quarter");
}

/// Sends a request on a connection of its own; `None` if the connection was refused.
async fn ask(address: String) -> Option<String> {
    let mut connection = TcpStream::connect(address).await.ok()?;
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    let _ = connection.write_all(request).await;
    let _ = connection.read_to_string(&mut answer).await;
    Some(answer)
}

#[tokio::test]
async fn whoever_was_let_in_before_the_stop_is_answered() {
    let instance = Instance::start().await;
    let mut requests = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    for number in 0..400 {
        tick.tick().await;
        if number == 200 {
            instance.terminate();
        }
        requests.spawn(ask(instance.address().to_owned()));
    }
    let answers = requests.join_all().await;
    assert!(answers.iter().any(Option::is_none), "none came after the stop");
    let lost = answers.iter().flatten().filter(|answer| !answer.starts_with("HTTP/1.1 200 ")).count();
    assert_eq!(lost, 0, "requests whose connection was accepted, and then closed without a word");
}

#[tokio::test]
async fn a_draining_instance_refuses_connections_at_once() {
    let instance = Instance::with(&[("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "30")]).await;
    let token = instance.issue().await.token;
    let _streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    instance.terminate();
    let start = Instant::now();
    while TcpStream::connect(instance.address()).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "still accepts connections");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_streams_a_stop_is_prompt_and_clean() {
    let mut instance = Instance::start().await;
    instance.issue().await;
    let start = Instant::now();
    instance.terminate();
    assert_eq!(instance.ended().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "did not wait for the window of 10 s");
}

#[tokio::test]
async fn a_clean_stop_logs_no_warning_and_no_error() {
    for format in ["text", "json"] {
        let mut instance = Instance::with(&[
            ("VX11_OPERATOR_LOG_FORMAT", format),
            ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "0"),
        ])
        .await;
        let token = instance.issue().await.token;
        let _stream = instance.open_stream(&token).await;
        instance.terminate();
        assert_eq!(instance.ended().await.code(), Some(0));
        let log = instance.log_text();
        let (_, stop) = log.split_once("draining; a second signal").expect("the stop is logged");
        assert!(stop.contains("stopped"), "{stop}");
        let grave = |line: &&str| line.contains("ERROR") || line.contains("WARN");
        assert_eq!(stop.lines().filter(grave).collect::<Vec<_>>(), Vec::<&str>::new(), "{format}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut instance = Instance::with(&[("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "300")]).await;
    let token = instance.issue().await.token;
    let _streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    instance.terminate();
    instance.logs("draining").await;
    instance.terminate();
    assert_eq!(instance.ended().await.code(), Some(1), "not a clean stop");
}
