//! An event with its place in the log.

use bytes::Bytes;

use super::frame::{self, EventType};
use super::id::{Epoch, EventId, Position};
use super::publication::KeyDigest;

/// An event as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) event_type: EventType,
    pub(super) data: String,
    /// Under which it was published.
    pub(super) key: Option<KeyDigest>,
}

impl Entry {
    /// As subscribers get it.
    pub(super) fn frame(&self, epoch: Epoch) -> Bytes {
        frame::event(EventId { epoch, position: self.position }, &self.event_type, &self.data)
    }
}
