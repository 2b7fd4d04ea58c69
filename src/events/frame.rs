//! The wire format of `text/event-stream` (WHATWG HTML §9.2): each frame is encoded once and shared
//! by all streams.

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;

use super::id::EventId;

/// Most bytes that the data of a new event may take in a frame: twice those of the largest body, so
/// that data is refused only where its lines are shorter than what begins each of them.
pub const LONGEST_DATA: usize = 128 * 1024;
/// The beginning of a line of data.
const DATA: &str = "data: ";
/// A comment that keeps proxies and clients from giving up on a silent stream.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");
/// Event types the service itself sends, and those by which a browser's `EventSource` tells of its
/// connection: a publisher may not imitate them.
const RESERVED: [&str; 6] = ["reset", "reconnect", "degraded", "recovered", "open", "error"];
/// The log cannot be reached: nothing new comes until it can, and nothing is lost.
pub(super) const DEGRADED: Bytes =
    Bytes::from_static(b"event: degraded\ndata: {\"reason\":\"log_unavailable\"}\n\n");
/// The log can be reached again.
pub(super) const RECOVERED: Bytes = Bytes::from_static(b"event: recovered\ndata: {}\n\n");

/// A checked event type: 1 to 64 characters of `A-Z a-z 0-9 . _ : / -`, not one the service
/// reserves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(String);

/// Why a text cannot be an event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// Wrong length or characters.
    #[error("an event type is 1 to 64 characters of A-Z a-z 0-9 . _ : / -")]
    Form,
    /// Sent by the service itself.
    #[error("the event types {} are reserved", RESERVED.join(", "))]
    Reserved,
}

impl EventType {
    /// Sent by the service itself; no event can have one of these types.
    pub const RESERVED: [&'static str; 6] = RESERVED;

    /// Checks the form of an event type.
    ///
    /// # Errors
    /// [`EventTypeError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'-'));
        if !fits {
            Err(EventTypeError::Form)
        } else if RESERVED.contains(&text) {
            Err(EventTypeError::Reserved)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EventType {
    /// What a browser assumes when a frame names no type.
    fn default() -> Self {
        Self("message".to_owned())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A published event.
pub(super) fn event(id: EventId, event_type: &EventType, data: &str) -> Bytes {
    let mut frame = String::with_capacity(data.len() + 96);
    let _ = writeln!(frame, "id: {id}");
    let _ = writeln!(frame, "event: {event_type}");
    push_data(&mut frame, data);
    frame.into()
}

/// What every stream begins with: how long to wait before reconnecting, and the position it starts
/// at. Without a position when a gap is announced next: a client cut between the two would resume
/// as if there were none.
pub(super) fn connected(id: Option<EventId>, retry: Duration, instance_id: &str) -> Bytes {
    let mut frame = String::with_capacity(160);
    let _ = writeln!(frame, "retry: {}", retry.as_millis());
    if let Some(id) = id {
        let _ = writeln!(frame, "id: {id}");
    }
    let _ = writeln!(frame, "event: message");
    push_data(&mut frame, &serde_json::json!({"type": "connected", "instance_id": instance_id}).to_string());
    frame.into()
}

/// Tells a client that events between its last id and `id` are lost to it.
pub(super) fn reset(id: EventId, reason: &str) -> Bytes {
    let mut frame = String::with_capacity(96);
    let _ = writeln!(frame, "id: {id}");
    let _ = writeln!(frame, "event: reset");
    push_data(&mut frame, &serde_json::json!({"reason": reason}).to_string());
    frame.into()
}

/// The last frame of a stream that the service ends: come back after `retry`, with a new token.
/// Carries no id, so that the client resumes after the last event it saw.
pub(super) fn reconnect(reason: &str, retry: Duration) -> Bytes {
    let mut frame = String::with_capacity(96);
    let _ = writeln!(frame, "retry: {}", retry.as_millis());
    let _ = writeln!(frame, "event: reconnect");
    push_data(
        &mut frame,
        &serde_json::json!({"reason": reason, "retry_ms": u64::try_from(retry.as_millis()).unwrap_or(u64::MAX)})
            .to_string(),
    );
    frame.into()
}

/// Bytes that `data` takes in a frame. As `push_data` writes it, whose line ends are of one byte
/// each.
#[must_use]
pub fn data_bytes(data: &str) -> usize {
    let ends = data.bytes().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
    let doubled = data.matches("\r\n").count();
    let lines = ends - doubled + 1;
    data.len() - doubled + lines * DATA.len() + 1
}

/// One `data:` line for each line of `data`, whichever of the three line ends separates them.
fn push_data(frame: &mut String, data: &str) {
    let mut rest = data;
    loop {
        let end = rest.find(['\r', '\n']);
        frame.push_str(DATA);
        frame.push_str(&rest[..end.unwrap_or(rest.len())]);
        frame.push('\n');
        match end {
            Some(at) if rest[at..].starts_with("\r\n") => rest = &rest[at + 2..],
            Some(at) => rest = &rest[at + 1..],
            None => break,
        }
    }
    frame.push('\n');
}

/// The type and the data that [`event`] made a frame of.
pub(super) fn parts(frame: &[u8]) -> Option<(EventType, String)> {
    let mut lines = std::str::from_utf8(frame).ok()?.split('\n').skip(1);
    let event_type = EventType(lines.next()?.strip_prefix("event: ")?.to_owned());
    let data: Vec<_> = lines.map_while(|line| line.strip_prefix(DATA)).collect();
    Some((event_type, data.join("\n")))
}

#[cfg(test)]
mod tests {
    use eventsource_stream::{Event, Eventsource};
    use futures_util::StreamExt;
    use proptest::prelude::*;

    use super::*;
    use crate::events::id::{Epoch, Position};

    const ID: EventId = EventId { epoch: Epoch(7), position: Position { millis: 12, seq: 3 } };

    /// What an independent parser reads from a frame.
    fn read(frame: Bytes) -> Vec<Event> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(frame)]);
        runtime.block_on(chunks.eventsource().map(Result::unwrap).collect())
    }

    proptest! {
        #[test]
        fn data_of_any_shape_arrives_as_one_event_with_its_line_ends_unified(data in "[a-z\\r\\n\\x00: {}\u{1F600}]{0,60}") {
            let read = read(event(ID, &EventType::default(), &data));
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].data, &data.replace("\r\n", "\n").replace('\r', "\n"));
            prop_assert_eq!(&read[0].id, "00000007-12-3");
        }

        #[test]
        fn a_frame_gives_back_what_it_was_made_of(data in "[a-z\\n\\x00: {}\u{1F600}]{0,60}") {
            let frame = event(ID, &EventType::default(), &data);
            prop_assert_eq!(parts(&frame), Some((EventType::default(), data)));
        }

        #[test]
        fn the_size_of_data_is_known_before_it_is_written(data in "[a-z\\r\\n\x00: {}\u{1F600}]{0,60}") {
            let mut written = String::new();
            push_data(&mut written, &data);
            // A frame ends with an empty line.
            prop_assert_eq!(data_bytes(&data), written.len() - 1);
        }

        #[test]
        fn an_event_type_cannot_break_a_frame(text in any::<String>()) {
            if let Ok(event_type) = EventType::parse(&text) {
                let read = read(event(ID, &event_type, "1"));
                prop_assert_eq!((read.len(), read[0].event.as_str()), (1, text.as_str()));
            }
        }
    }

    #[test]
    fn reserved_event_types_cannot_be_imitated() {
        for reserved in RESERVED {
            assert_eq!(EventType::parse(reserved), Err(EventTypeError::Reserved));
        }
    }

    #[test]
    fn control_frames_say_what_a_client_needs() {
        let connected = &read(connected(Some(ID), Duration::from_millis(1500), "in\"st"))[0];
        assert_eq!(connected.retry, Some(Duration::from_millis(1500)));
        assert_eq!(connected.data, r#"{"instance_id":"in\"st","type":"connected"}"#);
        let reset = &read(reset(ID, "epoch"))[0];
        assert_eq!((reset.event.as_str(), reset.id.as_str()), ("reset", "00000007-12-3"));
        let degraded = &read(DEGRADED)[0];
        assert_eq!(
            (degraded.event.as_str(), degraded.data.as_str()),
            ("degraded", r#"{"reason":"log_unavailable"}"#)
        );
        assert_eq!(read(RECOVERED)[0].event, "recovered");
        let reconnect = reconnect("drain", Duration::from_millis(900));
        assert!(!reconnect.starts_with(b"id:") && !reconnect.windows(4).any(|w| w == b"\nid:"));
        assert_eq!(read(reconnect)[0].data, r#"{"reason":"drain","retry_ms":900}"#);
    }
}
