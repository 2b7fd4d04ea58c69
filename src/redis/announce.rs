//! Announcements: streams in Redis that every instance reads from its last position, so that none
//! misses an entry while it is disconnected (docs/adr/0011).

use std::time::Duration;

use redis::Cmd;
use serde::Serialize;

use super::namespace::Namespace;
use super::script::Script;
use crate::clock::UnixMillis;

/// Position before the first entry.
pub(crate) const BEGINNING: &str = "0";
/// One in so many announcements trims those beyond the bound of number.
const BOUNDED_IN_NUMBER: u64 = 16;
/// Script that announces several entries.
static ANNOUNCE: Script = Script::new(&[include_str!("announce.lua")]);

/// Arguments of [`ANNOUNCE`].
#[derive(Serialize)]
struct Arguments<'a> {
    read_to: &'a str,
    most: usize,
    entries: &'a [Vec<String>],
}

/// Position of an entry: the time of its announcement by the clock of Redis, in milliseconds, and a
/// number within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64, u64);

impl Position {
    /// The first position of a millisecond.
    pub(crate) const fn of(time: UnixMillis) -> Self {
        Self(time.0, 0)
    }

    /// Parses the text that Redis gives; `None` if it is invalid.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        Some(Self(time.parse().ok()?, number.parse().ok()?))
    }

    /// Time of the announcement.
    pub(crate) const fn time(self) -> UnixMillis {
        UnixMillis(self.0)
    }

    /// The next position.
    pub(crate) const fn next(self) -> Self {
        match self.1.checked_add(1) {
            Some(number) => Self(self.0, number),
            None => Self(self.0.saturating_add(1), 0),
        }
    }
}

/// A stream of announcements.
pub(crate) struct Announcements {
    /// Name within a namespace.
    pub(crate) name: &'static str,
    /// Time for which an entry is kept.
    pub(crate) kept: Duration,
    /// Bound of the entries.
    pub(crate) most: usize,
}

impl Announcements {
    /// Name of the stream in Redis.
    pub(crate) fn stream(&self, namespace: &Namespace) -> String {
        namespace.together(self.name)
    }

    /// Command that announces an entry, its fields given as names and values in turn, and trims old
    /// entries. XADD takes one bound. It is that of number in every sixteenth millisecond, and that
    /// of age in the others. `redis_now` is the time of Redis: by another clock that is ahead, live
    /// entries would be old.
    pub(crate) fn announcement(&self, stream: &str, fields: &[String], redis_now: UnixMillis) -> Cmd {
        let mut command = redis::cmd("XADD");
        command.arg(stream);
        if redis_now.0.is_multiple_of(BOUNDED_IN_NUMBER) {
            command.arg("MAXLEN").arg("~").arg(self.most);
        } else {
            command.arg("MINID").arg("~").arg(redis_now.minus(self.kept).0);
        }
        command.arg("*").arg(fields);
        command
    }

    /// Command that announces entries unless there are entries after `read_to`. Answer: their
    /// positions, or nil.
    pub(crate) fn announcements(&self, stream: &str, read_to: &str, entries: &[Vec<String>]) -> Cmd {
        ANNOUNCE.call(&[stream], &Arguments { read_to, most: self.most, entries })
    }
}

/// Command that reads the first entry of a stream.
pub(crate) fn first(stream: &str) -> Cmd {
    let mut command = redis::cmd("XRANGE");
    command.arg(stream).arg("-").arg("+").arg("COUNT").arg(1);
    command
}

/// Command that reads up to `count` entries of each stream after its position, and waits for one
/// for `block`.
pub(crate) fn after<'a>(
    streams: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    count: usize,
    block: Option<Duration>,
) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(count);
    if let Some(block) = block {
        command.arg("BLOCK").arg(block.as_millis().to_string());
    }
    command.arg("STREAMS");
    for (stream, _) in streams.clone() {
        command.arg(stream);
    }
    for (_, read_to) in streams {
        command.arg(read_to);
    }
    command
}

/// A field of an entry, as name and value.
pub(crate) fn field(name: &str, value: &impl ToString) -> [String; 2] {
    [name.to_owned(), value.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
    const ANNOUNCEMENTS: Announcements = Announcements { name: "a", kept: Duration::from_mins(1), most: 7 };

    fn words(command: &Cmd) -> Vec<String> {
        let words = command.args_iter().filter_map(|word| match word {
            redis::Arg::Simple(word) => Some(String::from_utf8_lossy(word).into_owned()),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn announcements_are_bounded_in_age_and_in_number() {
        let bound = |now: u64| {
            let command = ANNOUNCEMENTS.announcement("stream", &field("a", &1), UnixMillis(now));
            let words = words(&command);
            assert_eq!(words[5..], ["*", "a", "1"]);
            (words[2].clone(), words[4].clone())
        };
        let bounds: Vec<_> = (NOW.0..NOW.0 + 2 * BOUNDED_IN_NUMBER).map(bound).collect();
        let number = ("MAXLEN".to_owned(), "7".to_owned());
        assert_eq!(bounds.iter().filter(|bound| **bound == number).count(), 2);
        let age = ("MINID".to_owned(), (NOW.0 - 59_999).to_string());
        assert_eq!(bounds[1], age);
        assert_eq!(bounds.iter().filter(|(name, _)| name == "MINID").count(), 30);
    }

    #[test]
    fn positions_are_ordered_as_redis_orders_them() {
        let position = |text| Position::parse(text).unwrap();
        assert!(position("9-10") < position("10-9") && position("10-9") < position("10-10"));
        assert_eq!(Position::of(UnixMillis(10)), position("10-0"));
        assert_eq!(position("10-1").time(), UnixMillis(10));
        assert_eq!(position("10-1").next(), position("10-2"));
        assert_eq!(position("10-18446744073709551615").next(), position("11-0"));
        for wrong in ["", "10", "10-", "-1", "a-1", "18446744073709551616-0"] {
            assert_eq!(Position::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn streams_are_read_each_from_its_own_position() {
        let read = after([("a", "1-0"), ("b", "2-0")].into_iter(), 10, Some(Duration::from_millis(250)));
        assert_eq!(words(&read).join(" "), "XREAD COUNT 10 BLOCK 250 STREAMS a b 1-0 2-0");
    }
}
