//! An event of the log, with the frame that subscribers receive.

use bytes::Bytes;
use bytestring::ByteString;

use super::frame::{self, EventType};
use super::id::{EventId, Position};
use super::publication::{Fingerprint, KeyDigest};

/// An event of the log. Its frame is encoded once; clones share it, and type and data are parts of
/// it where its format allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    id: EventId,
    /// Idempotency key, if it was published under one.
    key: Option<KeyDigest>,
    kind: ByteString,
    data: ByteString,
    frame: Bytes,
}

impl Event {
    /// Encodes an event.
    pub(super) fn new(id: EventId, event_type: &EventType, data: &str, key: Option<KeyDigest>) -> Self {
        let frame::Encoded { frame, event_type: kind, data } = frame::event(id, event_type, data);
        Self { id, key, kind, data, frame }
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

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.kind, &self.data)
    }

    /// The frame for subscribers.
    pub(super) const fn frame(&self) -> &Bytes {
        &self.frame
    }
}
