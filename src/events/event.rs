//! An event of the log, with the frame that subscribers receive.

use bytes::Bytes;
use bytestring::ByteString;

use super::frame::{self, EventType};
use super::id::{EventId, Position};
use super::publication::{Fingerprint, KeyDigest};
use crate::topic::{Patterns, Topics};

/// Bytes that the index of the ring may need for a pattern that matches an event.
const INDEX_ENTRY: usize = 256;

/// An event of the log. Its frame is encoded once; clones share it, and type and data are parts of
/// it where its format allows.
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
        let first = topics.iter().next().unwrap_or_default();
        let frame::Encoded { frame, event_type: kind, data } =
            frame::event(id, event_type.as_str(), first, data);
        Self { id, key, kind, data, topics, frame }
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

    /// The frame for a stream that reads `patterns`; `None` if the event is not for it. The frames
    /// of topics after the first are encoded when they are sent: to keep them would multiply the
    /// memory of the event by the number of its topics.
    pub(super) fn frame_for(&self, patterns: &Patterns) -> Option<Bytes> {
        match patterns.first_match(&self.topics)? {
            0 => Some(self.frame.clone()),
            place => {
                let topic = self.topics.iter().nth(place)?;
                Some(frame::event(self.id, &self.kind, topic, &self.data).frame)
            }
        }
    }

    /// Size of its frame and of its entries in the index, in bytes. Those of `default` are shared
    /// with other events.
    pub(super) fn bytes(&self) -> usize {
        if self.topics.is_default() {
            return self.frame.len();
        }
        let patterns: usize = self.topics.iter().map(|topic| topic.matches('/').count() + 2).sum();
        self.frame.len() + patterns * INDEX_ENTRY
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
        // `a/1` has three patterns, the others two.
        assert_eq!(event.bytes(), event.frame.len() + 7 * INDEX_ENTRY);
    }
}
