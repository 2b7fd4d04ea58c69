//! An event of the log, with the frame that subscribers receive.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::frame::{self, EventType};
use super::id::{EventId, Position};
use super::publication::{Fingerprint, KeyDigest};
use crate::topic::{Patterns, Topics};

/// An event of the log. Its frame is encoded once for each of its topics; clones share it, and type
/// and data are parts of it where its format allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    id: EventId,
    /// Idempotency key, if it was published under one.
    key: Option<KeyDigest>,
    kind: ByteString,
    data: ByteString,
    topics: Topics,
    /// For streams to which it belongs by its first topic.
    frame: Bytes,
    /// For streams to which it belongs by the second topic, the third, and so on.
    other_frames: Option<Arc<[Bytes]>>,
}

impl Event {
    /// Encodes an event.
    pub(super) fn new(
        id: EventId,
        event_type: &EventType,
        data: &str,
        topics: Topics,
        key: Option<KeyDigest>,
    ) -> Self {
        let mut each = topics.iter();
        let first = each.next().unwrap_or_default();
        let others: Arc<[Bytes]> =
            each.map(|topic| frame::event(id, event_type, topic, data).frame).collect();
        let other_frames = (!others.is_empty()).then_some(others);
        let frame::Encoded { frame, event_type: kind, data } = frame::event(id, event_type, first, data);
        Self { id, key, kind, data, topics, frame, other_frames }
    }

    pub(super) const fn id(&self) -> EventId {
        self.id
    }

    pub(super) const fn position(&self) -> Position {
        self.id.position
    }

    pub(super) const fn key(&self) -> Option<KeyDigest> {
        self.key
    }

    pub(super) fn event_type(&self) -> &str {
        &self.kind
    }

    pub(super) fn data(&self) -> &str {
        &self.data
    }

    pub(super) const fn topics(&self) -> &Topics {
        &self.topics
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.kind, &self.topics, &self.data)
    }

    /// The frame for a stream that reads `patterns`; `None` if the event is not for it.
    pub(super) fn frame_for(&self, patterns: &Patterns) -> Option<&Bytes> {
        match patterns.first_match(&self.topics)? {
            0 => Some(&self.frame),
            place => self.other_frames.as_ref()?.get(place - 1),
        }
    }

    /// Size of its frames, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let others = self.other_frames.iter().flat_map(|frames| frames.iter());
        self.frame.len() + others.map(Bytes::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::id::Epoch;

    #[test]
    fn a_stream_gets_the_frame_of_the_first_topic_that_matches_it() {
        let id = EventId { epoch: Epoch(1), position: Position { millis: 2, seq: 0 } };
        let topics = Topics::new(["a/1", "default", "b"]).unwrap();
        let event = Event::new(id, &EventType::default(), "{}", topics, None);
        for (patterns, line) in [
            (&["a/*", "b"][..], Some("topic: a/1\n")),
            (&["b"], Some("topic: b\n")),
            (&["default"], Some("")),
            (&["*"], Some("topic: a/1\n")),
            (&["a"], None),
        ] {
            let patterns = Patterns::new(patterns.iter().copied()).unwrap();
            let expected = line.map(|line| format!("id: 00000001-2-0\nevent: message\n{line}data: {{}}\n\n"));
            let frame = event.frame_for(&patterns).map(|frame| String::from_utf8(frame.to_vec()).unwrap());
            assert_eq!(frame, expected, "{patterns:?}");
        }
        assert!(event.bytes() > 3 * event.data().len());
    }
}
