//! Entries of the stream: events, and control entries of the log.

use crate::events::event::Event;
use crate::events::frame::EventType;
use crate::events::id::{Epoch, EventId, Position};
use crate::events::publication::KeyDigest;
use crate::redis::stream::StreamEntry;

/// One entry of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogEntry {
    /// An event for subscribers.
    Event(Event),
    /// A new log epoch begins.
    Epoch(Epoch, Position),
    /// No content: the mark makes later ids larger than its own.
    Mark(Position),
    /// An event that this version cannot read: written by a newer version or by a foreign program.
    /// Streams get `reset` here, so that the loss is not silent.
    Unreadable(Position),
}

impl LogEntry {
    /// Parses an entry. An event belongs to `epoch`. `None` if the id cannot be parsed, which Redis
    /// never sends.
    pub(super) fn read(entry: &StreamEntry<'_>, epoch: Epoch) -> Option<Self> {
        let position: Position = entry.position.parse().ok()?;
        if entry.field("control").is_some() {
            let begins = entry.field("epoch").and_then(|epoch| epoch.parse().ok());
            return Some(begins.map_or(Self::Mark(position), |epoch| Self::Epoch(epoch, position)));
        }
        let event_type = entry.field("type").and_then(|text| EventType::parse(text).ok());
        let Some((event_type, data)) = event_type.zip(entry.field("data")) else {
            return Some(Self::Unreadable(position));
        };
        let key = entry.field("key").and_then(KeyDigest::from_hex);
        Some(Self::Event(Event::new(EventId { epoch, position }, &event_type, data, key)))
    }

    /// The event, if the entry is one.
    pub(super) fn into_event(self) -> Option<Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Epoch(..) | Self::Mark(_) | Self::Unreadable(_) => None,
        }
    }

    pub(super) const fn position(&self) -> Position {
        match self {
            Self::Event(event) => event.position(),
            Self::Epoch(_, position) | Self::Mark(position) | Self::Unreadable(position) => *position,
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::redis::stream::entries;

    fn read(fields: &[(&str, &str)]) -> LogEntry {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = fields.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        let answer = Value::Array(vec![Value::Array(vec![text("5-0"), Value::Array(fields)])]);
        LogEntry::read(&entries(&answer).unwrap()[0], Epoch(1)).unwrap()
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
            assert_eq!(read(fields), LogEntry::Unreadable(at), "{fields:?}");
        }
        assert_eq!(read(&[("control", "of a later version")]), LogEntry::Mark(at));
        let further = read(&[("type", "message"), ("data", "1"), ("further", "field")]);
        assert!(matches!(further, LogEntry::Event(_)), "a field more is no obstacle");
    }
}
