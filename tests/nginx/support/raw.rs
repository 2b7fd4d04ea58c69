//! Requests as bytes, for what no HTTP client would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vx11_kit::PATIENCE;

/// Sends `bytes` to `http://127.0.0.1:port` and returns what comes back before the server closes or
/// resets the connection, be it nothing.
pub async fn exchange(base: &str, bytes: &[u8]) -> String {
    let connection = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    let (mut reader, mut writer) = connection.into_split();
    let send = async {
        // A server that has heard enough may stop reading before everything is sent.
        let _ = writer.write_all(bytes).await;
    };
    let receive = async {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let both = async { tokio::join!(send, receive).1 };
    tokio::time::timeout(PATIENCE, both).await.expect("the connection ends in time")
}

/// The status of an answer.
pub fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}
