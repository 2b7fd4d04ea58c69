//! Fronts between a client and an instance. These are the only fakes: no instance loses its answer,
//! or gives a wrong one, on demand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A front on a free port; dropping it ends it.
pub struct Front {
    /// `http://127.0.0.1:port`.
    pub base: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Front {
    /// Passes everything on to an instance, and cuts the connection in place of its first answers,
    /// as many as `lost`.
    pub async fn losing(upstream: &str, lost: usize) -> Self {
        let (upstream, lost) = (upstream.to_owned(), Arc::new(AtomicUsize::new(lost)));
        Self::with(move |client, requests| pass(client, upstream.clone(), Arc::clone(&lost), requests)).await
    }

    /// Answers each request with the next of `answers`, the last of which it repeats.
    pub async fn answering(answers: &[&str]) -> Self {
        let answers: Arc<[String]> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let next = Arc::new(AtomicUsize::new(0));
        Self::with(move |client, requests| answer(client, Arc::clone(&answers), Arc::clone(&next), requests))
            .await
    }

    /// The requests so far, in the order in which their connections were made.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no other has failed").clone()
    }

    async fn with<F>(serve: impl Fn(TcpStream, Requests) -> F + Send + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = {
                    let mut all = all.lock().expect("no other has failed");
                    all.push(String::new());
                    all.len() - 1
                };
                // Either side may go away at any time.
                tokio::spawn(serve(client, Requests { all: Arc::clone(&all), number }));
            }
        });
        Self { base, requests, task }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Store for the requests of one connection.
struct Requests {
    all: Arc<Mutex<Vec<String>>>,
    number: usize,
}

impl Requests {
    fn push(&self, bytes: &[u8]) {
        self.all.lock().expect("no other has failed")[self.number].push_str(&String::from_utf8_lossy(bytes));
    }
}

async fn pass(
    mut client: TcpStream,
    upstream: String,
    lost: Arc<AtomicUsize>,
    requests: Requests,
) -> std::io::Result<()> {
    let mut instance = TcpStream::connect(upstream).await?;
    let (mut request, mut answer) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let bytes = &request[..read?];
                requests.push(bytes);
                if bytes.is_empty() {
                    return Ok(());
                }
                instance.write_all(bytes).await?;
            }
            read = instance.read(&mut answer) => {
                let bytes = &answer[..read?];
                let one_less = |lost: usize| lost.checked_sub(1);
                let is_lost = lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
                if is_lost || bytes.is_empty() {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// Reads a request up to the end of its head. A server that answers at once does not wait for the
/// body, which is read afterwards.
async fn answer(
    mut client: TcpStream,
    answers: Arc<[String]>,
    next: Arc<AtomicUsize>,
    requests: Requests,
) -> std::io::Result<()> {
    let (mut request, mut all) = ([0; 16 * 1024], Vec::new());
    while !all.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = client.read(&mut request).await?;
        if read == 0 {
            return Ok(());
        }
        requests.push(&request[..read]);
        all.extend_from_slice(&request[..read]);
    }
    let number = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
    client.write_all(answers[number].as_bytes()).await?;
    // To the end: a reset could overtake the answer.
    client.shutdown().await?;
    loop {
        let read = client.read(&mut request).await?;
        if read == 0 {
            return Ok(());
        }
        requests.push(&request[..read]);
    }
}
