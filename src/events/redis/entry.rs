//! Entries of the stream: events, and control entries of the log.
//!
//! An event that `default` readers get has the fields of all releases: `type`, `data` and `key`,
//! and `topics` if it has other topics, too. Any other event begins with `control` and `event`. The
//! previous release takes that for a mark, and delivers nothing: its streams read `default` only
//! (docs/adr/0035). `fields.lua` writes both forms.

use crate::events::event::Event;
use crate::events::frame::EventType;
use crate::events::id::{Epoch, EventId, Position};
use crate::events::publication::KeyDigest;
use crate::redis::stream::StreamEntry;
use crate::topic::Topics;

/// Value of `control` in an event that the previous release must not deliver.
const EVENT: &str = "event";

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
        let control = entry.field("control");
        if control.is_some_and(|control| control != EVENT) {
            let begins = entry.field("epoch").and_then(|epoch| epoch.parse().ok());
            return Some(begins.map_or(Self::Mark(position), |epoch| Self::Epoch(epoch, position)));
        }
        let event_type = entry.field("type").and_then(|text| EventType::parse(text).ok());
        // Only an event without `control` may lack topics. Another one would reach streams that it
        // is not for.
        let topics = match entry.field("topics") {
            Some(text) => Topics::parse(text).ok(),
            None => (control.is_none() && !entry.has("topics")).then(Topics::default),
        };
        let Some(((event_type, data), topics)) = event_type.zip(entry.field("data")).zip(topics) else {
            return Some(Self::Unreadable(position));
        };
        let key = entry.field("key").and_then(KeyDigest::from_hex);
        Some(Self::Event(Event::new(EventId { epoch, position }, &event_type, data, topics, key)))
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

/// Topics as the scripts get them: `None` for `default` alone, which no entry names.
pub(super) fn written(topics: &Topics) -> Option<&str> {
    (!topics.is_default()).then(|| topics.as_str())
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::redis::stream::entries;

    const AT: Position = Position { millis: 5, seq: 0 };
    /// An event for other streams than those of `default`, without its topics.
    const NOT_DEFAULT: [(&str, &str); 3] = [("control", "event"), ("type", "message"), ("data", "1")];

    /// Reads the entry with these fields and a rule.
    fn read_by<T>(fields: &[(&str, &[u8])], rule: impl FnOnce(&StreamEntry<'_>) -> T) -> T {
        let text = |text: &[u8]| Value::BulkString(text.to_vec());
        let fields = fields.iter().flat_map(|(name, value)| [text(name.as_bytes()), text(value)]).collect();
        let answer = Value::Array(vec![Value::Array(vec![text(b"5-0"), Value::Array(fields)])]);
        rule(&entries(&answer).unwrap()[0])
    }

    fn bytes<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
        fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
    }

    fn read(fields: &[(&str, &str)]) -> LogEntry {
        read_by(&bytes(fields), |entry| LogEntry::read(entry, Epoch(1)).unwrap())
    }

    /// Topics of the event in an entry with these fields.
    fn topics(fields: &[(&str, &str)]) -> Option<String> {
        read(fields).into_event().map(|event| event.topics().as_str().to_owned())
    }

    /// A copy of the rule of the previous release (`LogEntry::read` in ad4a6fc).
    fn previous_release(fields: &[(&str, &str)]) -> &'static str {
        read_by(&bytes(fields), |entry| {
            if entry.field("control").is_some() {
                let begins = entry.field("epoch").and_then(|epoch| epoch.parse::<Epoch>().ok());
                return if begins.is_some() { "epoch" } else { "mark" };
            }
            let event_type = entry.field("type").and_then(|text| EventType::parse(text).ok());
            event_type.zip(entry.field("data")).map_or("unreadable", |_| "event")
        })
    }

    #[test]
    fn an_event_of_a_form_that_is_not_known_here_is_no_mark() {
        for fields in [
            [("type", "of a later version"), ("data", "1")].as_slice(),
            &[("type", "reset"), ("data", "1")],
            &[("type", "message"), ("packed", "1")],
            &[("foo", "bar")],
        ] {
            assert_eq!(read(fields), LogEntry::Unreadable(AT), "{fields:?}");
        }
        assert_eq!(read(&[("control", "of a later version")]), LogEntry::Mark(AT));
        let further = read(&[("type", "message"), ("data", "1"), ("further", "field")]);
        assert!(matches!(further, LogEntry::Event(_)), "a field more is no obstacle");
    }

    #[test]
    fn an_event_without_topics_is_one_of_default_and_another_one_names_its_topics() {
        let default = [("type", "message"), ("data", "1"), ("key", "00")];
        assert_eq!(topics(&default).as_deref(), Some("default"));
        let more = [("type", "message"), ("data", "1"), ("topics", "orders/1 default")];
        assert_eq!(topics(&more).as_deref(), Some("orders/1 default"));
        let other = [&NOT_DEFAULT[..], &[("topics", "orders/1 users/2")]].concat();
        assert_eq!(topics(&other).as_deref(), Some("orders/1 users/2"));
        assert_eq!(topics(&[("control", "mark"), ("type", "message"), ("data", "1")]), None);
    }

    #[test]
    fn an_event_whose_topics_cannot_be_read_reaches_nobody_and_is_announced() {
        for text in ["", " ", "a  b", "a b a", "orders/*", "a//b", "orders/ä"] {
            let fields = [("type", "message"), ("data", "1"), ("topics", text)];
            assert_eq!(read(&fields), LogEntry::Unreadable(AT), "{text:?}");
        }
        assert_eq!(read(&NOT_DEFAULT), LogEntry::Unreadable(AT), "it would reach the streams of default");
        let no_text: [(&str, &[u8]); 3] = [("type", b"message"), ("data", b"1"), ("topics", b"\xff")];
        let entry = read_by(&no_text, |entry| LogEntry::read(entry, Epoch(1)).unwrap());
        assert_eq!(entry, LogEntry::Unreadable(AT));
    }

    #[test]
    fn the_previous_release_delivers_events_of_default_only_and_passes_all_others() {
        let default = [("type", "message"), ("data", "1"), ("topics", "orders/1 default")];
        assert_eq!(previous_release(&default), "event");
        let other = [&NOT_DEFAULT[..], &[("topics", "orders/1"), ("key", "00")]].concat();
        assert_eq!(previous_release(&other), "mark");
    }

    #[test]
    fn an_entry_names_no_topics_if_default_is_the_only_one() {
        assert_eq!(written(&Topics::default()), None);
        assert_eq!(written(&Topics::parse("default orders/1").unwrap()), Some("default orders/1"));
    }
}
