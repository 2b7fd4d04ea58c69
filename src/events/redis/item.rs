//! Entries of the log: events, and what the log says about itself.

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
    /// Nothing to read; ids go on behind it.
    Mark(Position),
    /// An event that this version cannot read: a newer one has published it, or somebody else has written it. Streams get a
    /// reset here, so that its loss is not silent.
    Unreadable(Position),
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
            return Some(Self::Unreadable(position));
        };
        let key = entry.get::<String>("key").and_then(|key| KeyDigest::from_hex(&key));
        Some(Self::Event(Entry { position, event_type, data, key }))
    }

    /// The event, if it is one.
    pub(super) fn into_event(self) -> Option<Entry> {
        match self {
            Self::Event(entry) => Some(entry),
            Self::Epoch(..) | Self::Mark(_) | Self::Unreadable(_) => None,
        }
    }

    pub(super) const fn position(&self) -> Position {
        match self {
            Self::Event(entry) => entry.position,
            Self::Epoch(_, position) | Self::Mark(position) | Self::Unreadable(position) => *position,
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn read(fields: &[(&str, &str)]) -> Item {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let map = fields.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        Item::read(&StreamId { id: "5-0".to_owned(), map, ..StreamId::default() }).unwrap()
    }

    #[test]
    fn an_event_of_a_form_that_is_not_known_here_is_no_mark() {
        let at = Position { millis: 5, seq: 0 };
        for fields in [
            [("type", "of a later version"), ("data", "1")].as_slice(),
            &[("type", "reset"), ("data", "1")],
            &[("type", "message"), ("packed", "1")],
            &[("foo", "bar")],
        ] {
            assert_eq!(read(fields), Item::Unreadable(at), "{fields:?}");
        }
        assert_eq!(read(&[("control", "of a later version")]), Item::Mark(at));
        let further = read(&[("type", "message"), ("data", "1"), ("further", "field")]);
        assert!(matches!(further, Item::Event(_)), "a field more is no obstacle");
    }
}
