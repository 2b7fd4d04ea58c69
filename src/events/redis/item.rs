//! Entries of the log: events, and what the log says about itself.

use crate::events::entry::Entry;
use crate::events::frame::EventType;
use crate::events::id::{Epoch, Position};
use crate::events::publication::KeyDigest;
use crate::redis::stream::StreamEntry;

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
    pub(super) fn read(entry: &StreamEntry<'_>) -> Option<Self> {
        let position: Position = entry.position.parse().ok()?;
        if entry.field("control").is_some() {
            let epoch = entry.field("epoch").and_then(|epoch| epoch.parse().ok());
            return Some(epoch.map_or(Self::Mark(position), |epoch| Self::Epoch(epoch, position)));
        }
        let event_type = entry.field("type").and_then(|text| EventType::parse(text).ok());
        let Some((event_type, data)) = event_type.zip(entry.field("data")) else {
            return Some(Self::Unreadable(position));
        };
        let key = entry.field("key").and_then(KeyDigest::from_hex);
        Some(Self::Event(Entry { position, event_type, data: data.to_owned(), key }))
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
    use crate::redis::stream::entries;

    fn read(fields: &[(&str, &str)]) -> Item {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = fields.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        let answer = Value::Array(vec![Value::Array(vec![text("5-0"), Value::Array(fields)])]);
        Item::read(&entries(&answer).unwrap()[0]).unwrap()
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
