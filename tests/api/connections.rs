//! Connections of clients that send half a request, or that are too many: each goes in time, and
//! nobody else is locked out.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use vx11_kit::PATIENCE;

use crate::support::Instance;

/// Files that an instance may open: room for fewer connections than a test makes.
const FILES: u32 = 300;
const CONNECTIONS: usize = 400;
/// The share of files for other purposes depends on it.
const WORKERS: (&str, &str) = ("VX11_OPERATOR__HTTP__WORKERS", "2");
const REQUEST: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
const CLOSED: &str = "vx11_operator_connections_closed_total";

async fn connect(instance: &Instance) -> TcpStream {
    TcpStream::connect(instance.address()).await.expect("the instance can be connected to")
}

/// Sends these bytes, a request in them, and reads the answer.
async fn ask_with(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).await.expect("the instance takes a request");
    let mut answer = [0; 1024];
    let read = timeout(PATIENCE, client.read(&mut answer)).await.expect("an answer in time");
    let read = read.expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&answer[..read]));
}

async fn ask(client: &mut TcpStream) {
    ask_with(client, REQUEST).await;
}

/// A connection with one answer and the first byte of another request.
async fn half_a_second_head(instance: &Instance) -> TcpStream {
    let mut client = connect(instance).await;
    ask(&mut client).await;
    client.write_all(b"G").await.expect("the instance takes a byte");
    client
}

/// The same, but for that the byte comes together with the request before it.
async fn half_a_second_head_at_once(instance: &Instance) -> TcpStream {
    let mut client = connect(instance).await;
    ask_with(&mut client, &[REQUEST, b"G"].concat()).await;
    client
}

async fn closed(instance: &Instance, reason: &str) -> u64 {
    instance.metric(&format!("{CLOSED}{{reason=\"{reason}\"")).await
}

#[tokio::test]
async fn the_head_of_every_request_has_a_deadline() {
    let instance = Instance::start().await;
    let mut one = half_a_second_head(&instance).await;
    // Seen from its second byte on. Without that it is as any idle connection.
    let mut other = half_a_second_head_at_once(&instance).await;
    other.write_all(b"E").await.expect("the instance takes a byte");
    for client in [&mut one, &mut other] {
        let end = timeout(PATIENCE, client.read(&mut [0; 64])).await.expect("the connection ends");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert_eq!(closed(&instance, "slow_head").await, 2);
}

/// Makes more connections of a kind than the instance has room for, and sees that others are
/// answered.
async fn lock_nobody_out(half_a_head: impl AsyncFn(&Instance) -> TcpStream) {
    let instance = Instance::with_open_files(FILES, &[WORKERS]).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(half_a_head(&instance).await);
    }
    for _ in 0..10 {
        ask(&mut connect(&instance).await).await;
    }
    instance.issue().await;
    instance.open_stream(&instance.issue().await.token).await;
    assert_eq!(closed(&instance, "no_room").await, 0);
    assert!(!instance.log_text().contains("Error accepting connection"));
}

#[tokio::test]
async fn half_heads_up_to_the_file_limit_lock_nobody_out() {
    lock_nobody_out(half_a_second_head).await;
}

#[tokio::test]
async fn half_heads_that_come_with_the_request_before_lock_nobody_out() {
    lock_nobody_out(half_a_second_head_at_once).await;
}

#[tokio::test]
async fn a_stream_outlives_the_heads_deadline() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "1")]).await;
    let token = instance.issue().await.token;
    let mut client = connect(&instance).await;
    // With the beginning of another request behind it.
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\nG");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    // A second each, and the deadline is five.
    while seen.matches(": heartbeat").count() < 7 {
        let mut chunk = [0; 1024];
        let read = timeout(PATIENCE, client.read(&mut chunk)).await.expect("a heartbeat in time").unwrap();
        assert_ne!(read, 0, "the stream stays open: {seen}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
}

#[tokio::test]
async fn pipelined_requests_are_all_answered() {
    let instance = Instance::start().await;
    let mut client = connect(&instance).await;
    let large = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.write_all(&[REQUEST, large, large, REQUEST, last].concat()).await.unwrap();
    let mut answers = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut answers)).await.expect("all answers in time").unwrap();
    assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 200 OK").count(), 5);
}

#[tokio::test]
async fn a_connection_closed_for_room_goes_although_its_client_reads_nothing() {
    // Together more than the sockets of both sides hold.
    const LARGE: usize = 12;
    let instance = Instance::with_open_files(FILES, &[WORKERS]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(instance.address().parse().unwrap()).await.unwrap();
    let requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(LARGE);
    stuck.write_all(&requests).await.unwrap();
    assert_ne!(timeout(PATIENCE, stuck.read(&mut [0; 16])).await.expect("an answer").unwrap(), 0);
    let mut held = Vec::new();
    while closed(&instance, "for_room").await == 0 {
        assert!(held.len() < CONNECTIONS, "there is no end of the room");
        held.push(connect(&instance).await);
        ask(held.last_mut().unwrap()).await;
    }
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stuck.read_to_end(&mut rest)).await.expect("the connection ends");
    let answers = String::from_utf8_lossy(&rest).matches("HTTP/1.1 200 OK").count();
    assert!(answers + 1 < LARGE, "all {LARGE} were answered");
}
