//! An event with its position in the log.

use bytes::Bytes;

use super::frame::{self, EventType};
use super::id::{Epoch, EventId, Position};
use super::publication::KeyDigest;

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) event_type: EventType,
    pub(super) data: String,
    /// Idempotency key, if it was published under one.
    pub(super) key: Option<KeyDigest>,
}

impl Entry {
    /// The frame for subscribers.
    pub(super) fn frame(&self, epoch: Epoch) -> Bytes {
        frame::event(EventId { epoch, position: self.position }, &self.event_type, &self.data)
    }
}
