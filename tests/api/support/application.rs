//! A small web application in front of an instance, as users of the service build one: a page, a
//! page to log in at, and a backend that holds the principal and issues tokens to pages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::instance::Instance;

/// Keeps what the page prints in `lines`: `console.log` and `console.warn`, each line with its
/// kind.
const RECORDER: &str = "
    globalThis.lines = [];
    for (const kind of ['log', 'warn']) {
        const print = console[kind];
        console[kind] = (...words) => {
            lines.push(`${kind}: ${words.join(' ')}`);
            print(...words);
        };
    }";

/// Answer of the backend to a page that asks for a token.
#[derive(Clone, Copy)]
pub enum Backend {
    /// The answer of the service, to the principal that the backend holds.
    Issues,
    /// A status, such as `401 Unauthorized`, and a JSON document.
    Answers(&'static str, &'static str),
}

/// The application on a free port; gone when dropped.
pub struct Application {
    /// `http://127.0.0.1:port`.
    pub base: String,
    parts: Arc<Parts>,
    task: JoinHandle<()>,
}

struct Parts {
    instance: String,
    principal: String,
    page: String,
    backend: Mutex<Backend>,
    asked: AtomicUsize,
}

impl Application {
    /// An application whose only script is `script`, an ES module.
    pub async fn start(instance: &Instance, script: &str) -> Self {
        Self::start_for(instance.address(), &instance.principal, script).await
    }

    /// The same for a service at `address`, which need not run yet.
    pub async fn start_for(address: &str, principal: &str, script: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let page = format!(
            "<!doctype html><title>Application</title>
             <script>{RECORDER}</script><script type=\"module\">{script}</script>"
        );
        let parts = Arc::new(Parts {
            instance: address.to_owned(),
            principal: principal.to_owned(),
            page,
            backend: Mutex::new(Backend::Issues),
            asked: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&parts);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let parts = Arc::clone(&shared);
                // Either side may close its connection at any time.
                tokio::spawn(async move { parts.serve(client).await });
            }
        });
        Self { base, parts, task }
    }

    /// Changes what the backend answers from now on.
    pub fn set_backend(&self, backend: Backend) {
        *self.parts.backend.lock().expect("no other has failed") = backend;
    }

    /// Number of tokens that pages have asked the backend for.
    pub fn asked(&self) -> usize {
        self.parts.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Parts {
    /// Serves one request for each connection.
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            if client.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path.starts_with("/operator/") || path.starts_with("/client/") {
            return self.pass(&request, client).await;
        }
        let answer = match path {
            "/" => answer("200 OK", "text/html", &self.page),
            "/login" => answer("200 OK", "text/html", "<!doctype html><title>Log in</title>"),
            _ if path.ends_with("/sse-token") => {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let backend = *self.backend.lock().expect("no other has failed");
                match backend {
                    Backend::Issues => return self.issue(client).await,
                    Backend::Answers(status, body) => answer(status, "application/json", body),
                }
            }
            _ => answer("404 Not Found", "text/plain", ""),
        };
        client.write_all(answer.as_bytes()).await?;
        client.shutdown().await
    }

    /// Passes a request to the instance. The connection serves no other: the next request may be
    /// for the application.
    async fn pass(&self, request: &str, mut client: TcpStream) -> std::io::Result<()> {
        let mut instance = TcpStream::connect(&self.instance).await?;
        let kept = request.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let request = kept.collect::<Vec<_>>().join("\r\n").replacen("\r\n", "\r\nConnection: close\r\n", 1);
        instance.write_all(request.as_bytes()).await?;
        copy_bidirectional(&mut client, &mut instance).await.map(|_| ())
    }

    /// Answers with a token that the instance issues to the backend's principal.
    async fn issue(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut instance = TcpStream::connect(&self.instance).await?;
        let request = format!(
            "POST /operator/api/events/sse-token HTTP/1.1\r\nHost: {}\r\nX-VX11-Token: {}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            self.instance, self.principal
        );
        instance.write_all(request.as_bytes()).await?;
        copy(&mut instance, &mut client).await?;
        client.shutdown().await
    }
}

fn answer(status: &str, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
