//! The connection of one stream: a request, the head of its answer, and then whatever comes. With
//! little work for each frame, as there are many of them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use vx11_kit::{Api, Block, COME_BACK, EventId, Head, StreamReader};

/// Bytes read at once.
const BUFFER: usize = 16 * 1024;
/// Receive buffer of a client that stops reading: so small that the other end notices soon.
const SMALL_BUFFER: u32 = 4 * 1024;

/// An open stream.
pub(super) struct Connection {
    socket: TcpStream,
    /// Bytes that were received and not read yet.
    bytes: Vec<u8>,
    reader: StreamReader,
}

/// Parameters of a stream.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) token: &'a str,
    pub(super) after: Option<EventId>,
    /// Patterns that it names.
    pub(super) topics: &'a [String],
    /// Whether the kernel keeps little of what the client does not read.
    pub(super) small_buffer: bool,
}

impl Connection {
    /// Opens a stream, or none if the token was refused. The error is what came instead, without
    /// the token.
    pub(super) async fn open(api: &Api, request: Request<'_>) -> Result<Option<Self>, String> {
        let words = |error: std::io::Error| error.to_string();
        let authority = api.authority();
        let address = lookup_host(authority).await.map_err(words)?.next().ok_or("no such host")?;
        let mut socket = connect(address, request.small_buffer).await.map_err(words)?;
        socket.write_all(head(authority, request).as_bytes()).await.map_err(words)?;
        let (mut bytes, mut reader) = (Vec::with_capacity(BUFFER), StreamReader::default());
        loop {
            if socket.read_buf(&mut bytes).await.map_err(words)? == 0 {
                return Err("no answer".to_owned());
            }
            let head = reader.head(&bytes)?;
            bytes.clear();
            let Some(Head { status, is_chunked }) = head else { continue };
            return match status {
                200 if is_chunked => Ok(Some(Self { socket, bytes, reader })),
                // An answer with a length asks to come back later.
                200 => Err(COME_BACK.to_owned()),
                401 | 403 => Ok(None),
                other => Err(other.to_string()),
            };
        }
    }

    /// Hands over the blocks that have come. The error says how the stream ended.
    pub(super) fn take(&mut self, dispatch: impl FnMut(&Block<'_>)) -> Result<(), &'static str> {
        let taken = self.reader.blocks(&self.bytes, dispatch);
        self.bytes.clear();
        taken.map_err(|_| "it is malformed")
    }

    /// Waits until more has come. The error says how the stream ended.
    pub(super) async fn more(&mut self) -> Result<(), &'static str> {
        if self.reader.ended() {
            return Err("it ended");
        }
        match self.socket.read_buf(&mut self.bytes).await {
            Ok(0) | Err(_) => Err("it was cut"),
            Ok(_) => Ok(()),
        }
    }
}

async fn connect(address: SocketAddr, small_buffer: bool) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if small_buffer {
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
    }
    socket.connect(address).await
}

/// The request of a browser's `EventSource`.
fn head(authority: &str, Request { token, after, topics, .. }: Request<'_>) -> String {
    let mut query = format!("token={token}");
    if let Some(id) = after {
        let _ = write!(query, "&last_event_id={id}");
    }
    for topic in topics {
        query.push_str("&topic=");
        escape(topic, &mut query);
    }
    format!(
        "GET /operator/api/events/stream?{query} HTTP/1.1\r\n\
         Host: {authority}\r\nAccept: text/event-stream\r\n\r\n"
    )
}

/// Adds a value to a query (RFC 3986 §2.1).
fn escape(value: &str, query: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            query.push(char::from(byte));
        } else {
            let _ = write!(query, "%{byte:02X}");
        }
    }
}
