//! Event ids, `<epoch>-<milliseconds>-<sequence>`, ordered within a log epoch.

use std::fmt;
use std::str::FromStr;

/// Log epoch. It changes when events were lost with the log; ids of two epochs are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(pub u32);

/// Position in the log: the millisecond of publishing, and a sequence number within it, as in the
/// ids of a Redis stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Milliseconds since 1970.
    pub(super) millis: u64,
    /// Sequence number within the millisecond, from zero.
    pub(super) seq: u64,
}

impl Position {
    /// Position before every event.
    pub(super) const START: Self = Self { millis: 0, seq: 0 };

    /// The position directly before this one.
    pub(super) const fn before(self) -> Self {
        match (self.millis, self.seq) {
            (0, 0) => Self::START,
            (millis, 0) => Self { millis: millis - 1, seq: u64::MAX },
            (millis, seq) => Self { millis, seq: seq - 1 },
        }
    }

    /// Position of the next event, published at `millis`. It is after this one even if the clock
    /// was set back.
    pub(super) const fn next(self, millis: u64) -> Self {
        if millis > self.millis {
            Self { millis, seq: 0 }
        } else {
            Self { millis: self.millis, seq: self.seq + 1 }
        }
    }
}

/// Id of an event, and the point after which a stream resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// Log epoch.
    pub epoch: Epoch,
    /// Position in the log.
    pub position: Position,
}

/// The text is not an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event id: expected <epoch>-<milliseconds>-<number>")]
pub struct NotAnEventId;

impl FromStr for Epoch {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        if text.len() != 8 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(NotAnEventId);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| NotAnEventId)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Position {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let (millis, seq) = text.split_once('-').ok_or(NotAnEventId)?;
        Ok(Self { millis: decimal(millis)?, seq: decimal(seq)? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.seq)
    }
}

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let (epoch, position) = text.split_once('-').ok_or(NotAnEventId)?;
        Ok(Self { epoch: epoch.parse()?, position: position.parse()? })
    }
}

/// Parses digits without leading zeros. `u64::from_str` would also accept a sign.
fn decimal(text: &str) -> Result<u64, NotAnEventId> {
    let is_one_spelling = text == "0" || !text.starts_with('0');
    if is_one_spelling && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_err(|_| NotAnEventId)
    } else {
        Err(NotAnEventId)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_itself(epoch: u32, millis: u64, seq: u64) {
            let id = EventId { epoch: Epoch(epoch), position: Position { millis, seq } };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn reading_never_panics_and_accepts_one_spelling(text in "[0-9a-f+ -]{0,40}|.*") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn positions_only_grow(times in prop::collection::vec(0_u64..5, 1..50)) {
            let mut last = Position::START;
            for millis in times {
                let next = last.next(millis);
                prop_assert!(next > last);
                last = next;
            }
        }
    }

    #[test]
    fn other_spellings_are_not_ids() {
        for text in [
            "",
            "1",
            "0000000g-1-1",
            "00000001-1",
            "00000001--1-1",
            "00000001-+1-1",
            "00000001-1-1-1",
            "1-1-1",
            "00000001-01-1",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }
}
