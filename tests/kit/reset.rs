//! Something between nginx and an instance that resets a connection when a request asks for it.
//!
//! This is a fake: no request is known that makes an instance reset its connection, and none should
//! be. What nginx does when an instance has such a bug has to be known all the same.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The header that asks for it.
pub const RESET: &str = "x-reset-this-connection";
/// More than the head of any request of a load.
const HEAD: usize = 16 * 1024;

/// Passes everything on but requests with that header. Its connections end when it is dropped.
pub struct ResetProxy {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl ResetProxy {
    /// In front of `upstream`, such as `127.0.0.1:8011`.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let upstream = upstream.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    let upstream = upstream.clone();
                    connections.spawn(async move { pass(client, &upstream).await });
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }

    /// Address of the proxy.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for ResetProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Either side may break; then the other is closed, as it would be without anything between them.
async fn pass(mut client: TcpStream, upstream: &str) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        reset(&client);
        return;
    };
    let (mut up, mut down) = (vec![0; HEAD], vec![0; HEAD]);
    loop {
        let passed = tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(read) if asks_for_a_reset(&up[..read]) => break,
                Ok(read) if read > 0 => server.write_all(&up[..read]).await,
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(read) if read > 0 => client.write_all(&down[..read]).await,
                _ => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
    reset(&client);
}

fn asks_for_a_reset(head: &[u8]) -> bool {
    head.windows(RESET.len()).any(|part| part.eq_ignore_ascii_case(RESET.as_bytes()))
}

/// Closes with RST instead of FIN.
fn reset(connection: &TcpStream) {
    // If the option cannot be set, the other side has reset the connection already.
    let _ = socket2::SockRef::from(connection).set_linger(Some(Duration::ZERO));
}
