//! The socket of a connection, which fails when a deadline has passed or the connection makes room
//! for another. actix drops a connection whose socket fails.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Connection;
use crate::metrics::Closed;

/// A socket and the state of its connection, which leaves the table with it.
pub(in crate::http) struct Watched<S = TcpStream> {
    socket: S,
    connection: Arc<Connection>,
    head: Option<Head>,
    /// Timer that wakes the worker at a deadline or earlier. It is rarely set: a later deadline is
    /// noticed when it fires.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A part of the next request has arrived.
struct Head {
    /// The idle period in which it arrived. In a later period the head has become a request.
    since: u64,
    /// Its deadline, from when all responses before it are sent.
    until: Option<Instant>,
}

impl<S> Watched<S> {
    pub(in crate::http) const fn new(socket: S, connection: Arc<Connection>) -> Self {
        Self { socket, connection, head: None, timer: None }
    }

    pub(in crate::http) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn fail_if_closed(&self) -> io::Result<()> {
        if self.connection.is_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Fails if the connection is to be closed; otherwise wakes the task of `context` when it is.
    /// `all_sent`: nothing waits to be written.
    fn watch(&mut self, context: &mut Context<'_>, all_sent: bool) -> io::Result<()> {
        self.connection.waker.register(context.waker());
        self.fail_if_closed()?;
        let Some(since) = self.connection.idle_since() else {
            // A stream lives long and needs no timer.
            if self.timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
                self.timer = None;
            }
            return Ok(());
        };
        let mut deadline = self.connection.idle_until(since);
        if let Some(head) = self.head.as_mut().filter(|head| head.since == since) {
            if all_sent && head.until.is_none() {
                head.until = Some(Instant::now() + self.connection.connections.deadlines.head);
            }
            deadline = head.until.map_or(deadline, |until| until.min(deadline));
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                if self.head.as_ref().is_some_and(|head| head.until == Some(deadline)) {
                    self.connection.connections.metrics.connection_closed(Closed::SlowHead);
                }
                return Err(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(deadline);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fail_if_closed()?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        // Data that arrives during a request belongs to it, or waits for its response.
        if buffer.filled().len() > before
            && let Some(since) = self.connection.idle_since()
            && self.head.as_ref().is_none_or(|head| head.since != since)
        {
            self.head = Some(Head { since, until: None });
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.fail_if_closed()?;
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        if written.is_pending() {
            self.watch(context, false)?;
        }
        written
    }

    /// actix calls this last in each round for a connection, unless the socket is full.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(context, true)?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(context, true)?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.connection.connections.leave(self.connection.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::super::tests::{DEADLINES, connections};
    use super::super::{Answering, Connections};
    use super::*;

    /// Capacity of a socket in bytes.
    const ROOM: usize = 64;

    fn pair(connections: &Arc<Connections>) -> (Watched<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(ROOM);
        (Watched::new(server, connections.enter().unwrap()), client)
    }

    fn begin(socket: &Watched<DuplexStream>) -> Answering {
        Answering::begin(Some(socket.connection())).unwrap()
    }

    /// Drives a connection like actix: when it is woken it reads, writes and flushes. Returns the
    /// reason for the close.
    async fn serve(socket: &mut Watched<DuplexStream>, mut to_send: &[u8]) -> io::ErrorKind {
        let closed = poll_fn(|context| -> Poll<io::Result<()>> {
            let mut bytes = [0; ROOM];
            loop {
                let mut buffer = ReadBuf::new(&mut bytes);
                let read = Pin::new(&mut *socket).poll_read(context, &mut buffer)?;
                if read.is_pending() || buffer.filled().is_empty() {
                    break;
                }
            }
            while !to_send.is_empty() {
                let written = ready!(Pin::new(&mut *socket).poll_write(context, to_send))?;
                to_send = &to_send[written..];
            }
            ready!(Pin::new(&mut *socket).poll_flush(context))?;
            Poll::Pending
        });
        closed.await.unwrap_err().kind()
    }

    async fn is_kept_for(socket: &mut Watched<DuplexStream>, time: Duration) -> bool {
        timeout(time, serve(socket, b"")).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_is_given_its_deadline_and_no_more() {
        let connections = connections(9);
        let (mut socket, mut client) = pair(&connections);
        drop(begin(&socket));
        assert!(is_kept_for(&mut socket, Duration::from_mins(1)).await);
        let trickle = tokio::spawn(async move {
            while client.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        assert_eq!(serve(&mut socket, b"").await, io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), DEADLINES.head.as_secs());
        assert!(connections.metrics.render().is_ok_and(|page| {
            String::from_utf8_lossy(&page)
                .contains("connections_closed_total{reason=\"slow_head\",service=\"operator-backend\"} 1")
        }));
        drop(socket);
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed_only_after_the_time_between_requests() {
        let connections = connections(9);
        let (mut socket, _client) = pair(&connections);
        for _ in 0..3 {
            assert!(is_kept_for(&mut socket, DEADLINES.idle.saturating_sub(Duration::from_secs(1))).await);
            drop(begin(&socket));
        }
        let began = Instant::now();
        assert_eq!(serve(&mut socket, b"").await, io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), DEADLINES.idle.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_head_has_no_deadline_any_more() {
        let connections = connections(9);
        let (mut socket, mut client) = pair(&connections);
        client.write_all(b"GET").await.unwrap();
        assert!(is_kept_for(&mut socket, Duration::from_secs(3)).await);
        drop(begin(&socket));
        assert!(is_kept_for(&mut socket, Duration::from_mins(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_outlives_every_deadline_whatever_its_client_sends() {
        let connections = connections(9);
        let (mut socket, mut client) = pair(&connections);
        assert!(is_kept_for(&mut socket, Duration::from_secs(1)).await);
        let stream = begin(&socket);
        client.write_all(b"GET").await.unwrap();
        assert!(is_kept_for(&mut socket, Duration::from_mins(15)).await);
        assert!(socket.timer.is_none(), "it needs none");
        drop(stream);
        assert!(is_kept_for(&mut socket, Duration::from_mins(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipelined_request_behind_a_slow_response_is_kept() {
        let connections = connections(9);
        let (mut socket, mut client) = pair(&connections);
        // A response that is larger than the socket takes at once.
        drop(begin(&socket));
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let response = [b'x'; 2 * ROOM];
        assert!(timeout(Duration::from_mins(1), serve(&mut socket, &response)).await.is_err());
        // As actix does once all is sent.
        client.read_exact(&mut [0; ROOM]).await.unwrap();
        let answering = begin(&socket);
        assert!(is_kept_for(&mut socket, Duration::from_mins(15)).await);
        drop(answering);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_closed_for_room_goes_although_its_client_reads_nothing() {
        let connections = connections(1);
        let (mut socket, _client) = pair(&connections);
        let serving = tokio::spawn(async move {
            let response = [b'x'; 2 * ROOM];
            let closed = serve(&mut socket, &response).await;
            let also =
                [socket.write(b"x").await.err(), socket.flush().await.err(), socket.shutdown().await.err()];
            (closed, also.map(|error| error.map(|error| error.kind())))
        });
        tokio::task::yield_now().await;
        let _other = connections.enter().unwrap();
        let (closed, also) = serving.await.unwrap();
        assert_eq!(closed, io::ErrorKind::ConnectionAborted);
        assert_eq!(also, [Some(io::ErrorKind::ConnectionAborted); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_by_itself_gives_its_place_back() {
        let connections = connections(1);
        for _ in 0..3 {
            let (socket, _client) = pair(&connections);
            let _answering = begin(&socket);
        }
        assert!(connections.table.lock().open.is_empty());
    }
}
