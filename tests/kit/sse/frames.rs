//! Reading `text/event-stream` (WHATWG HTML §9.2.6), as it comes: what thousands of subscribers
//! read has to be read with little work and no allocation for each frame.

use std::borrow::Cow;
use std::time::Duration;

use memchr::memchr2;

/// An event that is dispatched to a client. A block without data is none.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Id from which the client resumes, if the frame has one.
    pub id: Option<Cow<'a, str>>,
    /// `message` where the frame names none.
    pub event: Cow<'a, str>,
    /// Topic by which the event is for this stream, if the frame names one.
    pub topic: Option<Cow<'a, str>>,
    /// Its lines, with line feeds between them.
    pub data: Cow<'a, str>,
    /// Wait before the next connection, if the frame changes it.
    pub retry: Option<Duration>,
}

/// A complete block of lines.
#[derive(Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// An event.
    Event(Frame<'a>),
    /// An id without data: a client resumes from there, and nothing is dispatched.
    Position(Cow<'a, str>),
}

/// A reader in the middle of a stream.
#[derive(Debug, Default)]
pub struct Frames {
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The line before ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// Something has come: what looks like a byte order mark is none any more.
    begun: bool,
    /// Last id since the last event: a block without data has one for the event after it, too.
    id: Option<Vec<u8>>,
    /// This block has an id.
    moves: bool,
    event: Vec<u8>,
    topic: Vec<u8>,
    data: Vec<u8>,
    retry: Option<Duration>,
}

/// Byte order mark, allowed at the very beginning.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Frames {
    /// Reads on, and hands over each frame that is complete.
    pub fn read(&mut self, bytes: &[u8], mut dispatch: impl FnMut(&Frame<'_>)) {
        self.blocks(bytes, |block| {
            if let Block::Event(frame) = block {
                dispatch(frame);
            }
        });
    }

    /// Reads on, and hands over each block that is complete and has data or an id.
    pub fn blocks(&mut self, mut bytes: &[u8], mut dispatch: impl FnMut(&Block<'_>)) {
        loop {
            if self.after_return && !bytes.is_empty() {
                self.after_return = false;
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else { break };
            self.after_return = bytes[end] == b'\r';
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.line.is_empty() {
                self.take(line, &mut dispatch);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take(&whole, &mut dispatch);
            }
            bytes = rest;
        }
        self.line.extend_from_slice(bytes);
    }

    fn take(&mut self, line: &[u8], dispatch: &mut impl FnMut(&Block<'_>)) {
        let first = !std::mem::replace(&mut self.begun, true);
        let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| first).unwrap_or(line);
        if line.is_empty() {
            return self.dispatch(dispatch);
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => value.clone_into(&mut self.event),
            b"topic" => value.clone_into(&mut self.topic),
            b"id" if !value.contains(&0) => {
                value.clone_into(self.id.get_or_insert_default());
                self.moves = true;
            }
            b"retry" => self.retry = milliseconds(value).or(self.retry),
            // Comments, and what is unknown.
            _ => {}
        }
    }

    fn dispatch(&mut self, dispatch: &mut impl FnMut(&Block<'_>)) {
        let id = self.id.as_deref().map(String::from_utf8_lossy);
        if let Some((_, data)) = self.data.split_last() {
            let event =
                if self.event.is_empty() { "message".into() } else { String::from_utf8_lossy(&self.event) };
            let topic = (!self.topic.is_empty()).then(|| String::from_utf8_lossy(&self.topic));
            let data = String::from_utf8_lossy(data);
            dispatch(&Block::Event(Frame { id, event, topic, data, retry: self.retry }));
            self.id = None;
        } else if let Some(id) = id.filter(|_| self.moves) {
            dispatch(&Block::Position(id));
        }
        self.moves = false;
        self.event.clear();
        self.topic.clear();
        self.data.clear();
        self.retry = None;
    }
}

/// The time that a `retry` names: only digits count.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits?.parse().ok().map(Duration::from_millis)
}
