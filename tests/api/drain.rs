//! The time between SIGTERM and the end of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vx11_kit::until;

use crate::support::Instance;

const STREAMS: usize = 1000;
/// Longer than any wait of a test, so that nothing that a test has seen can be due to the end of
/// the window.
const LONG: (&str, &str) = ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "300");
/// One token may open as many streams as it likes.
const NO_LIMIT: (&str, &str) = ("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0");

/// Connections that wait for an answer at the same time. With a thousand, a busy client sends some
/// requests later than the service waits for them.
static OPENING: Semaphore = Semaphore::const_new(50);

/// Opens a stream and reads it to the end of the connection; gives back everything.
async fn read_to_the_end(address: String, token: String, opened: tokio::sync::mpsc::Sender<()>) -> Vec<u8> {
    let opening = OPENING.acquire().await.unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut all = vec![0; 1024];
    let first = connection.read(&mut all).await.unwrap();
    all.truncate(first);
    drop((opening, opened));
    connection.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn every_stream_gets_reconnect_and_none_is_cut_inside_a_frame() {
    let mut instance = Instance::with(&[("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "4"), NO_LIMIT]).await;
    let token = instance.issue().await.token;
    let (opened, mut all_opened) = tokio::sync::mpsc::channel(1);
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(read_to_the_end(instance.address().to_owned(), token.clone(), opened.clone()));
    }
    drop(opened);
    assert_eq!(all_opened.recv().await, None, "closes when every stream is open");
    let published = instance.publish(json!("before the end")).await;

    instance.terminate();
    for all in streams.join_all().await {
        let text = String::from_utf8(all).unwrap();
        assert!(text.contains(&published), "an acknowledged event is delivered before the end: {text}");
        let last = text.rfind("event: reconnect").expect("a reconnect frame");
        assert!(text[last..].contains(r#"{"reason":"drain","retry_ms":"#));
        assert!(text.ends_with("\n\n\r\n0\r\n\r\n"), "cut inside a frame: {:?}", &text[last..]);
    }
    assert_eq!(instance.ended().await.code(), Some(0));
}

/// That they end evenly is held where time can be stopped: `events::registry`.
#[tokio::test]
async fn streams_end_one_after_the_other_over_the_window() {
    let instance = Instance::with(&[LONG, NO_LIMIT]).await;
    let token = instance.issue().await.token;
    let (opened, mut all_opened) = tokio::sync::mpsc::channel(1);
    let ended = Arc::new(AtomicUsize::new(0));
    let mut streams = JoinSet::new();
    for _ in 0..100 {
        let reading = read_to_the_end(instance.address().to_owned(), token.clone(), opened.clone());
        let ended = Arc::clone(&ended);
        streams.spawn(async move {
            reading.await;
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    drop(opened);
    assert_eq!(all_opened.recv().await, None, "closes when every stream is open");
    instance.terminate();
    for _ in 0..2 {
        streams.join_next().await.expect("a stream ends").unwrap();
    }
    // Time for others that must not end yet. A slow machine makes this weaker and never red: half
    // of the window is longer than any wait.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ended = ended.load(Ordering::Relaxed);
    assert!(ended < 50, "{ended} of 100 have ended");
}

/// Number of connections to a port of 127.0.0.1 that the kernel has made and that nobody has
/// accepted yet (`rx_queue` in proc(5), `/proc/net/tcp`).
fn not_accepted(address: &str) -> u32 {
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let (local, listens) = (format!("0100007F:{port:04X}"), "0A");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut fields = sockets.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>());
    let listener =
        fields.find(|fields| fields[0] == local && fields[2] == listens).expect("somebody listens");
    u32::from_str_radix(listener[3].split(':').nth(1).unwrap(), 16).unwrap()
}

#[tokio::test]
async fn requests_on_connections_accepted_before_the_stop_are_answered() {
    const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut lost = Vec::new();
    // A machine that is so busy that nothing is read in the grace period loses requests. Without a
    // grace period each round loses some.
    while lost.len() < 5 && !lost.contains(&0) {
        let instance = Instance::start().await;
        let connecting = (0..100).map(|_| TcpStream::connect(instance.address()));
        let mut connections: Vec<_> = join_all(connecting).await.into_iter().map(Result::unwrap).collect();
        // The kernel resets connections that are not accepted when the instance stops listening.
        until("all to be accepted", async || not_accepted(instance.address()) == 0).await;
        // Suspended, so that all requests are sent and none is read when the signal arrives.
        instance.suspend().await;
        for connection in &mut connections {
            connection.write_all(REQUEST).await.unwrap();
        }
        instance.terminate();
        instance.resume();
        let mut unanswered = 0;
        for connection in &mut connections {
            let mut answer = String::new();
            let _ = connection.read_to_string(&mut answer).await;
            unanswered += usize::from(!answer.starts_with("HTTP/1.1 200 "));
        }
        lost.push(unanswered);
    }
    assert!(lost.contains(&0), "requests without an answer in each round: {lost:?}");
}

#[tokio::test]
async fn a_draining_instance_refuses_connections_while_its_streams_are_open() {
    let instance = Instance::with(&[LONG]).await;
    let token = instance.issue().await.token;
    let mut streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    instance.terminate();
    until("connections to be refused", async || TcpStream::connect(instance.address()).await.is_err()).await;
    // The first ends when the window begins, the second half a window later.
    let open = streams.iter_mut().filter_map(|stream| stream.next().now_or_never().is_none().then_some(()));
    assert!(open.count() > 0, "a stream is still open");
}

#[tokio::test]
async fn without_streams_a_stop_does_not_wait_for_the_window_and_is_clean() {
    let mut instance = Instance::with(&[LONG]).await;
    instance.issue().await;
    instance.terminate();
    assert_eq!(instance.ended().await.code(), Some(0));
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
    let mut instance = Instance::with(&[LONG]).await;
    let token = instance.issue().await.token;
    let _streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    instance.terminate();
    instance.logs("draining").await;
    instance.terminate();
    assert_eq!(instance.ended().await.code(), Some(1), "not a clean stop");
}
