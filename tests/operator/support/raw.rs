//! Requests as bytes, for what no HTTP client would send and for what lies beneath one.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::instance::Instance;

/// A response as bytes.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Sends `bytes` on a connection of their own and reads until the server closes it.
pub async fn raw_request(instance: &Instance, bytes: &[u8]) -> RawResponse {
    let mut connection = TcpStream::connect(instance.address())
        .await
        .expect("the instance can be connected to");
    connection
        .write_all(bytes)
        .await
        .expect("the request can be sent");
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), connection.read_to_end(&mut answer))
        .await
        .expect("an answer in time")
        .expect("an answer");
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head in ASCII");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    RawResponse {
        status,
        head,
        body: answer.split_off(end + 4),
    }
}
