//! Memory of streams, and clients that do not read: they cost nothing, delay nobody, and get
//! `reset` for what they missed.

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use vx11_kit::EventStream;

use crate::support::Instance;

/// More than the sockets and the server's buffer for one connection hold together.
const EVENTS: usize = 40;
const EVENT_BYTES: usize = 60_000;

async fn opened_by_one_who_does_not_read(instance: &Instance) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(instance.address().parse().unwrap()).await.unwrap();
    let token = instance.issue().await.token;
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    assert_ne!(client.read(&mut [0; 64]).await.unwrap(), 0);
    client
}

#[tokio::test]
async fn a_client_that_stops_reading_delays_no_other_and_gets_reconnect() {
    let instance = Instance::with(&[("VX11_OPERATOR__EVENTS__RING_ENTRIES", "5")]).await;
    let mut slow = opened_by_one_who_does_not_read(&instance).await;
    let mut other = instance.open_stream(&instance.issue().await.token).await;
    for n in 0..EVENTS {
        instance.publish(json!([n, "x".repeat(EVENT_BYTES)])).await;
        assert_eq!(other.next().await.unwrap().json()[0], json!(n));
    }
    let mut got = Vec::new();
    slow.read_to_end(&mut got).await.unwrap();
    let end = String::from_utf8_lossy(&got[got.len() - 120..]).into_owned();
    assert!(end.contains("event: reconnect\ndata: {\"reason\":\"slow\""), "{end}");
    assert!(got.ends_with(b"\n\n\r\n0\r\n\r\n"), "the stream ends with a whole frame: {end}");
    instance.stream_ends_are("slow", 1).await;
}

#[tokio::test]
async fn a_client_that_never_reads_again_is_cut_off() {
    let instance = Instance::with(&[("VX11_OPERATOR__EVENTS__RING_ENTRIES", "5")]).await;
    let _stuck = opened_by_one_who_does_not_read(&instance).await;
    for _ in 0..EVENTS {
        instance.publish(json!("x".repeat(EVENT_BYTES))).await;
    }
    instance.metric_becomes("vx11_operator_sse_streams_open", 0).await;
    instance.stream_ends_are("slow", 1).await;
}

#[tokio::test]
async fn a_large_event_leaves_nothing_behind_with_its_streams() {
    const STREAMS: usize = 200;
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")]).await;
    let token = instance.issue().await.token;
    let mut streams = join_all((0..STREAMS).map(|_| instance.open_stream(&token))).await;
    let before = instance.metric("process_resident_memory_bytes").await;
    instance.publish(json!("x".repeat(EVENT_BYTES))).await;
    for frame in join_all(streams.iter_mut().map(EventStream::next)).await {
        assert_eq!(frame.unwrap().data.len(), EVENT_BYTES + 2);
    }
    let grown = instance.metric("process_resident_memory_bytes").await.saturating_sub(before);
    assert!(grown < (STREAMS * EVENT_BYTES / 2) as u64, "{} bytes of each stream", grown / STREAMS as u64);
}
