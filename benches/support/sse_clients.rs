//! Many streams on one thread: non-blocking sockets, one poll, one buffer, a parser for each.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use vx11_kit::{Frame, StreamReader};

/// Connections being opened at once; below the server's backlog.
const OPENING_AT_ONCE: usize = 256;
/// Begins the data of every event of a benchmark, before its number, and of no other frame.
const MARKER: &str = r#"{"number":"#;

/// The clients of all streams.
pub(crate) struct SseClients {
    poll: Poll,
    events: Events,
    streams: Vec<Stream>,
    buffer: Box<[u8]>,
}

struct Stream {
    socket: TcpStream,
    /// Bytes to be sent; empty after the request for the stream.
    request: Vec<u8>,
    answered: bool,
    reader: StreamReader,
}

/// An event that has reached a client.
pub(crate) struct Receipt {
    /// Number in the event's data.
    pub(crate) number: u32,
    pub(crate) at: Instant,
}

/// Content of a stream.
enum Received {
    /// It is open.
    Answer,
    Event(Receipt),
}

impl SseClients {
    /// Nobody yet; room for `streams`.
    pub(crate) fn new(streams: u32) -> Self {
        Self {
            poll: Poll::new().expect("the system polls"),
            events: Events::with_capacity(1024),
            streams: Vec::with_capacity(streams as usize),
            buffer: vec![0; 64 * 1024].into(),
        }
    }

    /// Opens `count` more streams by a GET of `target`.
    pub(crate) fn open(&mut self, server: SocketAddr, target: &str, count: u32, deadline: Instant) {
        self.open_each(server, std::iter::repeat_n(target.to_owned(), count as usize), deadline);
    }

    /// Opens a stream by a GET of each target, which is asked for just before.
    pub(crate) fn open_each(
        &mut self,
        server: SocketAddr,
        targets: impl Iterator<Item = String>,
        deadline: Instant,
    ) {
        let (mut targets, mut opening) = (targets.fuse(), 0);
        loop {
            while opening < OPENING_AT_ONCE
                && let Some(target) = targets.next()
            {
                self.connect(server, &target);
                opening += 1;
            }
            if opening == 0 {
                return;
            }
            self.turn(deadline, |received| opening -= usize::from(matches!(received, Received::Answer)));
            assert!(Instant::now() < deadline, "{opening} streams did not open in time");
        }
    }

    fn connect(&mut self, server: SocketAddr, target: &str) {
        let mut socket = TcpStream::connect(server).expect("a connection can be begun");
        let interests = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut socket, Token(self.streams.len()), interests);
        registered.expect("a socket can be polled");
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        self.streams.push(Stream {
            socket,
            request: request.into_bytes(),
            answered: false,
            reader: StreamReader::default(),
        });
    }

    /// Closes the last `count` streams without notice to the server.
    pub(crate) fn vanish(&mut self, count: u32) {
        self.streams.truncate(self.streams.len() - count as usize);
    }

    /// Reads whatever comes for a while, and returns the number of events.
    pub(crate) fn listen_for(&mut self, duration: Duration) -> u32 {
        let (end, mut events) = (Instant::now() + duration, 0);
        while Instant::now() < end {
            self.turn(end, |received| events += u32::from(matches!(received, Received::Event(_))));
        }
        events
    }

    /// Waits for the next `count` events, those of all streams counted together.
    pub(crate) fn receive(&mut self, count: usize, deadline: Instant) -> Vec<Receipt> {
        let mut receipts = Vec::with_capacity(count);
        while receipts.len() < count {
            self.turn(deadline, |received| {
                if let Received::Event(receipt) = received {
                    receipts.push(receipt);
                }
            });
            assert!(Instant::now() < deadline, "{} of {count} events arrived in time", receipts.len());
        }
        receipts
    }

    /// Waits until something happens, `deadline` at the latest, and calls `on_received` with each
    /// thing that did.
    fn turn(&mut self, deadline: Instant, mut on_received: impl FnMut(Received)) {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            polled => polled.expect("the system polls"),
        }
        for event in &self.events {
            let stream = &mut self.streams[event.token().0];
            if event.is_writable() && !stream.request.is_empty() {
                stream.ask();
            }
            if event.is_readable() {
                stream.read(&mut self.buffer, &mut on_received);
            }
        }
    }
}

impl Stream {
    /// Sends the request; a fresh connection takes it whole.
    fn ask(&mut self) {
        let sent = self.socket.write(&self.request).expect("the server accepts");
        assert_eq!(sent, self.request.len(), "a request went out in part");
        self.request = Vec::new();
    }

    /// Reads until there is nothing left. A read that does not fill the buffer has emptied the
    /// socket (epoll(7)), which spares a second call.
    fn read(&mut self, buffer: &mut [u8], on_received: &mut impl FnMut(Received)) {
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => panic!("the server ended a stream"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a stream broke: {error}"),
            };
            self.take(&buffer[..read], on_received);
            if read < buffer.len() {
                return;
            }
        }
    }

    /// Counts the events in what has come.
    fn take(&mut self, mut bytes: &[u8], on_received: &mut impl FnMut(Received)) {
        if !self.answered {
            let head = self.reader.head(bytes);
            let Some(head) = head.expect("the server speaks HTTP") else { return };
            assert_eq!(head.status, 200, "no stream");
            self.answered = true;
            on_received(Received::Answer);
            // The reader has the bytes behind the head.
            bytes = &[];
        }
        let taken = self.reader.body(bytes, |frame: &Frame<'_>| {
            if let Some(number) = number_in(&frame.data) {
                on_received(Received::Event(Receipt { number, at: Instant::now() }));
            }
        });
        taken.expect("the transfer coding is right");
    }
}

/// Number of an event of a benchmark; `None` for any other frame.
fn number_in(data: &str) -> Option<u32> {
    let rest = data.strip_prefix(MARKER)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}
