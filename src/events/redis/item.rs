//! What stands in the stream: events, and what the log says about itself.

use redis::streams::StreamId;

use crate::events::entry::Entry;
use crate::events::frame::EventType;
use crate::events::id::{Epoch, Position};
use crate::events::publication::KeyDigest;

/// One entry of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// For subscribers.
    Event(Entry),
    /// Another life of the log begins here.
    Epoch(Epoch, Position),
    /// Nothing to read; ids go on behind it. So does whatever somebody else has written.
    Mark(Position),
}

impl Item {
    /// Reads an entry; `None` if it has no id that can be read, which Redis never gives.
    pub(super) fn read(entry: &StreamId) -> Option<Self> {
        let position: Position = entry.id.parse().ok()?;
        if entry.contains_key("control") {
            let epoch = entry.get::<String>("epoch").and_then(|epoch| epoch.parse().ok());
            return Some(epoch.map_or(Self::Mark(position), |epoch| Self::Epoch(epoch, position)));
        }
        let event_type = entry.get::<String>("type").and_then(|text| EventType::parse(&text).ok());
        let Some((event_type, data)) = event_type.zip(entry.get::<String>("data")) else {
            tracing::warn!(id = entry.id, "an entry of the event log is not an event and is left out");
            return Some(Self::Mark(position));
        };
        let key = entry.get::<String>("key").and_then(|key| KeyDigest::from_hex(&key));
        Some(Self::Event(Entry { position, event_type, data, key }))
    }

    /// The event, if it is one.
    pub(super) fn into_event(self) -> Option<Entry> {
        match self {
            Self::Event(entry) => Some(entry),
            Self::Epoch(..) | Self::Mark(_) => None,
        }
    }

    pub(super) const fn position(&self) -> Position {
        match self {
            Self::Event(entry) => entry.position,
            Self::Epoch(_, position) | Self::Mark(position) => *position,
        }
    }
}
