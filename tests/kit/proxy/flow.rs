//! One connection of a client, and the one to Redis that belongs to it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::condition::{Condition, Mode};
use super::queue::{Departure, queue};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Of what a narrow link has yet to carry, so many are taken from their sender before the others.
const WINDOW: usize = 4 * CHUNK;

/// A connection, from when its client was let in.
pub(super) struct Flow {
    client: TcpStream,
    upstream: String,
    condition: watch::Receiver<Condition>,
    /// Number of black holes at its start; with another one it is lost.
    black_holes: u64,
}

impl Flow {
    pub(super) fn new(client: TcpStream, upstream: String, condition: watch::Receiver<Condition>) -> Self {
        let black_holes = condition.borrow().black_holes;
        Self { client, upstream, condition, black_holes }
    }

    /// Lets client and server talk until one of them, or the condition of the network, ends it.
    pub(super) async fn run(mut self) {
        let mut server = None;
        let mut condition = self.condition.clone();
        let lost = |now: &Condition| now.mode == Mode::BlackHole || now.black_holes != self.black_holes;
        let doomed = async {
            let _ = condition.wait_for(|now| lost(now) || now.mode == Mode::Refuse).await;
        };
        tokio::select! {
            // First, so that nothing passes after the condition has changed.
            biased;
            () = doomed => {}
            () = converse(&mut self.client, &mut server, &self.upstream, &self.condition) => return,
        }
        let mut condition = self.condition;
        let refused = async { condition.wait_for(|now| now.mode == Mode::Refuse).await.is_ok() };
        let is_refused = tokio::select! {
            biased;
            refused = refused => refused,
            // The server keeps its connection and does not notice that its client has left.
            () = swallow(&mut self.client) => false,
        };
        if is_refused {
            // Without lingering a socket is closed with a reset.
            let _ = self.client.set_zero_linger();
        }
    }
}

/// Reads and forgets until the client leaves.
async fn swallow(client: &mut TcpStream) {
    let mut chunk = vec![0; CHUNK];
    while client.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
}

/// Passes on what both say. The server's connection outlives this, if the network fails.
async fn converse(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    upstream: &str,
    condition: &watch::Receiver<Condition>,
) {
    // Without a server there is no connection: the client's is closed.
    let Ok(connected) = TcpStream::connect(upstream).await else { return };
    let server = server.insert(connected);
    // Whether packets wait for more to be sent is for the two ends to decide.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    let (to_server, at_server) = queue();
    let (to_client, at_client) = queue();
    // A side that has nothing more to say is read to its end, then both connections are closed.
    tokio::select! {
        () = async { tokio::join!(pass_on(client_reads, to_server, condition, Condition::way_there), at_server.deliver(server_writes)); } => {}
        () = async { tokio::join!(pass_on(server_reads, to_client, condition, Condition::way_back), at_client.deliver(client_writes)); } => {}
    }
}

/// Passes on what one side says, `later` than it came.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    to: Departure,
    condition: &watch::Receiver<Condition>,
    later: impl Fn(&Condition) -> Duration,
) {
    let mut chunk = vec![0; CHUNK];
    let mut link = Link::idle();
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let condition = condition.borrow().clone();
        let carried = link.carries(&condition, read);
        to.send(chunk[..read].to_vec(), carried + later(&condition));
        link.has_room(&condition).await;
    }
    to.end();
}

/// One direction of a connection.
struct Link {
    free_at: Instant,
}

impl Link {
    fn idle() -> Self {
        Self { free_at: Instant::now() }
    }

    /// Time until these bytes are carried.
    fn carries(&mut self, condition: &Condition, bytes: usize) -> Duration {
        let now = Instant::now();
        self.free_at = self.free_at.max(now) + condition.busy_with(bytes);
        self.free_at - now
    }

    /// Waits until more may be taken from the sender.
    async fn has_room(&self, condition: &Condition) {
        if let Some(room_at) = self.free_at.checked_sub(condition.busy_with(WINDOW)) {
            sleep_until(room_at).await;
        }
    }
}
