//! Clients that leave without notice.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Instance;

const CLIENTS: usize = 1000;

/// No event and no heartbeat is sent, so that only the closing itself can be noticed.
#[tokio::test]
async fn a_thousand_clients_that_vanish_are_counted_out_without_anything_being_sent() {
    let instance = Instance::with(&[
        ("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "30"),
        ("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0"),
    ])
    .await;
    let token = instance.issue().await.token;
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(instance.address()).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    for client in &mut clients {
        assert_ne!(client.read(&mut [0; 1024]).await.unwrap(), 0);
    }
    instance.metric_becomes("vx11_operator_sse_streams_open", CLIENTS as u64).await;
    drop(clients);
    instance.metric_becomes("vx11_operator_sse_streams_open", 0).await;
    assert_eq!(
        instance.metric("vx11_operator_sse_streams_ended_total{reason=\"client\"}").await,
        CLIENTS as u64
    );
}
