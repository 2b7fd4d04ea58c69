//! A backend that does on purpose what real ones do by accident.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Reaction to a request.
pub enum Act {
    /// Answers with these bytes, and closes.
    Answer(String),
    /// Answers with these bytes, then sends back whatever comes.
    Echo(String),
    /// Stops listening for good, then answers with this body.
    Farewell(String),
    /// Closes without an answer.
    Close,
    /// Keeps the connection and says nothing.
    Hang,
}

impl Act {
    /// A whole answer.
    pub fn answer(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }
}

/// A listening backend; gone when dropped.
pub struct Backend {
    /// `127.0.0.1:port`.
    pub address: String,
    /// Heads and bodies of the requests it was sent, in order.
    pub requests: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Backend {
    /// A backend that decides by the text of a request.
    pub async fn start(decide: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, decide) = (Arc::clone(&requests), Arc::new(decide));
        let serving = tokio::spawn(async move {
            // Leaving is agreed on: the door is shut before the last answer goes out.
            let (leave, mut leaving) = mpsc::channel::<oneshot::Sender<()>>(1);
            loop {
                let connection = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    Some(left) = leaving.recv() => {
                        drop(listener);
                        let _ = left.send(());
                        return;
                    }
                };
                let (seen, decide, leave) = (Arc::clone(&seen), Arc::clone(&decide), leave.clone());
                tokio::spawn(async move {
                    let request = read(connection).await;
                    if let Some((text, connection)) = request {
                        seen.lock().unwrap().push(text.clone());
                        act(decide(&text), connection, &leave).await;
                    }
                });
            }
        });
        Self { address, requests, serving }
    }

    /// Number of requests with this beginning.
    pub fn count(&self, beginning: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.starts_with(beginning)).count()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A request with its body, or none if the connection ends before.
async fn read(mut connection: TcpStream) -> Option<(String, TcpStream)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((text, connection));
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn act(act: Act, mut connection: TcpStream, leave: &mpsc::Sender<oneshot::Sender<()>>) {
    // The client may have left.
    match act {
        Act::Answer(answer) => {
            let _ = connection.write_all(answer.as_bytes()).await;
        }
        Act::Echo(answer) => {
            let _ = connection.write_all(answer.as_bytes()).await;
            let (mut reader, mut writer) = connection.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        }
        Act::Farewell(body) => {
            let (left, has_left) = oneshot::channel();
            leave.send(left).await.unwrap();
            has_left.await.unwrap();
            if let Act::Answer(answer) = Act::answer("200 OK", "", &body) {
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        }
        Act::Close => {}
        Act::Hang => std::future::pending().await,
    }
}
