//! The wire format of `text/event-stream` (WHATWG HTML §9.2): each frame is encoded once and shared
//! by all streams.

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::id::EventId;
use crate::topic::DEFAULT_TOPIC;

/// Prefix of a line of data.
const DATA: &str = "data: ";
/// SSE heartbeat of a stream in catch-up: a comment, so that proxies and clients do not close an
/// idle stream.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");
/// Event types that publishers may not use: those that the service sends, and those that a
/// browser's `EventSource` fires for its connection.
const RESERVED: [&str; 6] = ["reset", "reconnect", "degraded", "recovered", "open", "error"];
/// The log is unavailable: no new events until it is back, and none is lost.
pub(super) const DEGRADED: Bytes =
    Bytes::from_static(b"event: degraded\ndata: {\"reason\":\"log_unavailable\"}\n\n");
/// The log is available again.
pub(super) const RECOVERED: Bytes = Bytes::from_static(b"event: recovered\ndata: {}\n\n");

/// Event type: 1 to 64 characters of `A-Z a-z 0-9 . _ : / -`, and not a reserved one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(String);

/// Reason why a text is no event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// Wrong length or characters.
    #[error("an event type is 1 to 64 characters of A-Z a-z 0-9 . _ : / -")]
    Form,
    /// Reserved for the service.
    #[error("the event types {} are reserved", RESERVED.join(", "))]
    Reserved,
}

impl EventType {
    /// Types that are reserved for the service.
    pub const RESERVED: [&'static str; 6] = RESERVED;

    /// Parses an event type.
    ///
    /// # Errors
    /// Wrong length or characters, or a reserved type.
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

    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EventType {
    /// `message`, the type that browsers use for frames without one.
    fn default() -> Self {
        Self("message".to_owned())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Frame of a published event, with its type and data.
pub(super) struct Encoded {
    pub(super) frame: Bytes,
    /// Part of the frame.
    pub(super) event_type: ByteString,
    /// Part of the frame, if it has one line.
    pub(super) data: ByteString,
}

/// Encodes a published event, for streams to which it belongs by `topic`. A frame of the topic
/// `default` does not name it. `EventSource` ignores the line `topic`.
pub(super) fn event(id: EventId, event_type: &str, topic: &str, data: &str) -> Encoded {
    let mut frame = String::with_capacity(data.len() + topic.len() + 104);
    let _ = write!(frame, "id: {id}\nevent: ");
    let type_starts = frame.len();
    frame.push_str(event_type);
    let type_ends = frame.len();
    frame.push('\n');
    if topic != DEFAULT_TOPIC {
        let _ = writeln!(frame, "topic: {topic}");
    }
    let data_starts = frame.len() + DATA.len();
    push_data(&mut frame, data);
    let frame = ByteString::from(frame);
    let is_one_line = !data.contains(['\r', '\n']);
    Encoded {
        event_type: frame.slice_ref(&frame[type_starts..type_ends]),
        data: if is_one_line {
            frame.slice_ref(&frame[data_starts..data_starts + data.len()])
        } else {
            data.into()
        },
        frame: frame.into_bytes(),
    }
}

/// SSE heartbeat of an idle stream at `id`. It has no data: a client takes the id as its last event
/// id and dispatches nothing, so that a quiet topic never falls behind the log.
pub(super) fn heartbeat(id: EventId) -> Bytes {
    format!(": heartbeat\nid: {id}\n\n").into()
}

/// First frame of a stream: the reconnect delay and the id at which the stream starts. The id is
/// left out if `reset` follows: a client that is cut between the two would resume without noticing
/// the loss.
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

/// `reset`: events between the client's last id and `id` are lost to it.
pub(super) fn reset(id: EventId, reason: &str) -> Bytes {
    let mut frame = String::with_capacity(96);
    let _ = writeln!(frame, "id: {id}");
    let _ = writeln!(frame, "event: reset");
    push_data(&mut frame, &serde_json::json!({"reason": reason}).to_string());
    frame.into()
}

/// `reconnect`, the last frame of a stream that the service ends: reconnect after `retry`, with a
/// new token. Without an id, so that the client resumes after the last event it received.
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

/// Size of `data` in a frame, in bytes, as `push_data` writes it: each line end is one byte.
#[must_use]
pub fn data_bytes(data: &str) -> usize {
    let ends = data.bytes().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
    let doubled = data.matches("\r\n").count();
    let lines = ends - doubled + 1;
    data.len() - doubled + lines * DATA.len() + 1
}

/// Writes one `data:` line for each line of `data`. Line ends are CR, LF or CRLF.
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

#[cfg(test)]
mod tests {
    use eventsource_stream::{Event, Eventsource};
    use futures_util::StreamExt;
    use proptest::prelude::*;

    use super::*;
    use crate::events::id::{Epoch, Position};

    const ID: EventId = EventId { epoch: Epoch(7), position: Position { millis: 12, seq: 3 } };

    /// The events that an independent parser reads from a frame.
    fn read(frame: Bytes) -> Vec<Event> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(frame)]);
        runtime.block_on(chunks.eventsource().map(Result::unwrap).collect())
    }

    proptest! {
        #[test]
        fn data_of_any_shape_arrives_as_one_event_with_its_line_ends_unified(data in "[a-z\\r\\n\\x00: {}\u{1F600}]{0,60}") {
            let read = read(event(ID, "message", DEFAULT_TOPIC, &data).frame);
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].data, &data.replace("\r\n", "\n").replace('\r', "\n"));
            prop_assert_eq!(&read[0].id, "00000007-12-3");
        }

        #[test]
        fn an_encoded_event_has_its_type_and_data(data in "[a-z\\n\\x00: {}\u{1F600}]{0,60}") {
            let encoded = event(ID, "message", DEFAULT_TOPIC, &data);
            prop_assert_eq!(&*encoded.event_type, "message");
            prop_assert_eq!(&*encoded.data, data.as_str());
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
                let read = read(event(ID, event_type.as_str(), "a", "1").frame);
                prop_assert_eq!((read.len(), read[0].event.as_str()), (1, text.as_str()));
            }
        }
    }

    #[test]
    fn a_frame_names_its_topic_unless_it_is_the_default() {
        let text = |topic| String::from_utf8(event(ID, "message", topic, "1").frame.to_vec()).unwrap();
        assert_eq!(text("default"), "id: 00000007-12-3\nevent: message\ndata: 1\n\n");
        assert_eq!(text("orders/1"), "id: 00000007-12-3\nevent: message\ntopic: orders/1\ndata: 1\n\n");
        assert_eq!(read(event(ID, "message", "orders/1", "1").frame).len(), 1);
    }

    #[test]
    fn a_heartbeat_has_the_position_and_dispatches_nothing() {
        assert_eq!(heartbeat(ID), ": heartbeat\nid: 00000007-12-3\n\n");
        assert!(read(HEARTBEAT).is_empty());
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
