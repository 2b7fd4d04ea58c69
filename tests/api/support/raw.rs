//! Requests as bytes, for what no HTTP client would send and for what lies beneath one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vx11_kit::PATIENCE;

use super::instance::Instance;

/// A response as bytes.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Sends `bytes` on a separate connection and reads until the server closes it.
pub async fn raw_request(instance: &Instance, bytes: &[u8]) -> RawResponse {
    let answer = exchange(instance, bytes).await;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head in ASCII");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    RawResponse { status, head, body: answer[end + 4..].to_vec() }
}

/// Sends `bytes` on a separate connection and returns everything that is received before the server
/// closes or resets it, possibly nothing. A server may stop reading before everything is sent.
pub async fn exchange(instance: &Instance, bytes: &[u8]) -> Vec<u8> {
    let connection = TcpStream::connect(instance.address()).await.expect("the instance can be connected to");
    let (mut reader, mut writer) = connection.into_split();
    let send = async {
        let _ = writer.write_all(bytes).await;
    };
    let receive = async {
        let mut answer = Vec::new();
        // On an error what came before it stays in `answer`.
        let _ = reader.read_to_end(&mut answer).await;
        answer
    };
    let both = async { tokio::join!(send, receive).1 };
    tokio::time::timeout(PATIENCE, both).await.expect("the connection ends in time")
}
