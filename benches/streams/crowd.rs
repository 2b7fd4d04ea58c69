//! Many streams on one thread: non-blocking sockets, one poll, one buffer, a few bytes of state for each.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Connections being opened at once; below the server's backlog.
const OPENING_AT_ONCE: usize = 256;
/// Begins the data of each frame that carries some: first the one that opens a stream, then the events in their
/// order. The frames of this benchmark have one such line each, and the server never splits a frame over chunks
/// of the transfer encoding, so counting it counts frames.
const MARKER: &[u8] = b"\ndata: ";

/// The clients of all streams.
pub(crate) struct Crowd {
    server: SocketAddr,
    poll: Poll,
    events: Events,
    streams: Vec<Stream>,
    buffer: Box<[u8]>,
}

struct Stream {
    socket: TcpStream,
    /// What is left to send; empty once the stream has been asked for.
    request: Vec<u8>,
    answered: bool,
    /// Bytes of the marker that the last read ended with.
    matched: usize,
    /// Frames with data so far.
    frames: u32,
}

impl Crowd {
    /// Nobody yet; room for `streams`.
    pub(crate) fn new(server: SocketAddr, streams: u32) -> Self {
        let streams = streams as usize;
        Self {
            server,
            poll: Poll::new().expect("the system polls"),
            events: Events::with_capacity(1024),
            streams: Vec::with_capacity(streams),
            buffer: vec![0; 64 * 1024].into(),
        }
    }

    /// Opens `count` more streams with `token`.
    pub(crate) fn open(&mut self, count: u32, token: &str, deadline: Instant) {
        let goal = self.streams.len() + count as usize;
        let mut opening = 0;
        while opening > 0 || self.streams.len() < goal {
            while opening < OPENING_AT_ONCE && self.streams.len() < goal {
                self.connect(token);
                opening += 1;
            }
            self.turn(deadline, |frames| opening -= usize::from(frames == 1));
            assert!(Instant::now() < deadline, "{opening} streams did not open in time");
        }
    }

    fn connect(&mut self, token: &str) {
        let mut socket = TcpStream::connect(self.server).expect("a connection can be begun");
        let interests = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut socket, Token(self.streams.len()), interests);
        registered.expect("a socket can be polled");
        let request = format!(
            "GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: localhost\r\n\
             Accept: text/event-stream\r\n\r\n"
        );
        self.streams.push(Stream {
            socket,
            request: request.into_bytes(),
            answered: false,
            matched: 0,
            frames: 0,
        });
    }

    /// Closes the last `count` streams without a word to the server.
    pub(crate) fn vanish(&mut self, count: u32) {
        self.streams.truncate(self.streams.len() - count as usize);
    }

    /// Reads whatever comes for a while.
    pub(crate) fn listen_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.turn(end, |_| {});
        }
    }

    /// Waits until every stream has the event with the number `event`, counted from one; says when each had it.
    pub(crate) fn receive(&mut self, event: u32, deadline: Instant) -> Vec<Instant> {
        let mut receipts = Vec::with_capacity(self.streams.len());
        while receipts.len() < self.streams.len() {
            self.turn(deadline, |frames| {
                assert_eq!(frames, event + 1, "a stream got another event");
                receipts.push(Instant::now());
            });
            assert!(Instant::now() < deadline, "an event did not arrive in time");
        }
        receipts
    }

    /// Waits until something happens, `deadline` at the latest, and calls `on_frame` with a stream's number of
    /// frames for each that came.
    fn turn(&mut self, deadline: Instant, mut on_frame: impl FnMut(u32)) {
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
                stream.read(&mut self.buffer, &mut on_frame);
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

    /// Reads until there is nothing left. A read that does not fill the buffer has emptied the socket
    /// (epoll(7)), which spares a second call.
    fn read(&mut self, buffer: &mut [u8], on_frame: &mut impl FnMut(u32)) {
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => panic!("the server ended a stream"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a stream broke: {error}"),
            };
            self.scan(&buffer[..read], on_frame);
            if read < buffer.len() {
                return;
            }
        }
    }

    /// Counts markers, also those that two reads share. The marker's first byte occurs in it once only, so a
    /// mismatch never hides the start of another.
    fn scan(&mut self, bytes: &[u8], on_frame: &mut impl FnMut(u32)) {
        if !self.answered {
            let said = String::from_utf8_lossy(bytes);
            assert!(said.starts_with("HTTP/1.1 200 "), "no stream but: {said}");
            self.answered = true;
        }
        for &byte in bytes {
            if byte != MARKER[self.matched] {
                self.matched = 0;
            }
            if byte == MARKER[self.matched] {
                self.matched += 1;
            }
            if self.matched == MARKER.len() {
                self.matched = 0;
                self.frames += 1;
                on_frame(self.frames);
            }
        }
    }
}
