//! Announcements of revocations: a stream in Redis. Every instance reads it from its last position,
//! so none misses an announcement while it is disconnected (docs/adr/0011).

use std::time::Duration;

use redis::Cmd;
use serde::Serialize;

use super::namespace::Namespace;
use super::script::Script;
use super::stream::StreamEntry;
use crate::clock::UnixMillis;
use crate::token::{LONGEST_TOMBSTONE, TokenId};

/// Latest end of a revocation, and lifetime of announcements: the longest lifetime of a tombstone
/// plus a minute for clock differences.
const LONGEST_KEPT: Duration = Duration::from_secs(LONGEST_TOMBSTONE.as_secs() + 60);
/// Bound of announcements: the number of revocations that an instance remembers by default.
const MOST_KEPT: usize = 1_000_000;
/// One in so many announcements trims those beyond [`MOST_KEPT`].
const BOUNDED_IN_NUMBER: u64 = 16;
/// Script that announces several revocations.
static ANNOUNCE: Script = Script::new(&[include_str!("announce.lua")]);

/// Arguments of [`ANNOUNCE`].
#[derive(Serialize)]
struct Arguments<'a> {
    read_to: &'a str,
    entries: usize,
    revocations: Vec<(String, u64)>,
}

/// Position before the first entry.
pub(crate) const BEGINNING: &str = "0";

/// Name of the stream.
pub(crate) fn stream(namespace: &Namespace) -> String {
    namespace.together("revocations")
}

/// Command that announces a revocation and trims old announcements. XADD takes one bound. It is
/// that of number in every sixteenth millisecond, and that of age in the others.
pub(crate) fn announcement(stream: &str, id: TokenId, until: UnixMillis, now: UnixMillis) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream);
    if now.0.is_multiple_of(BOUNDED_IN_NUMBER) {
        command.arg("MAXLEN").arg("~").arg(MOST_KEPT);
    } else {
        command.arg("MINID").arg("~").arg(now.minus(LONGEST_KEPT).0);
    }
    command.arg("*").arg("id").arg(id.to_string()).arg("until").arg(until.0);
    command
}

/// Command that announces revocations unless there are announcements after `read_to`. Answer: the
/// last position, or nil.
pub(crate) fn announcements(stream: &str, read_to: &str, revocations: &[(TokenId, UnixMillis)]) -> Cmd {
    let revocations = revocations.iter().map(|(id, until)| (id.to_string(), until.0)).collect();
    ANNOUNCE.call(&[stream], &Arguments { read_to, entries: MOST_KEPT, revocations })
}

/// Command that reads up to `count` announcements after `read_to`, and waits for one for `block`.
pub(crate) fn after(stream: &str, read_to: &str, count: usize, block: Option<Duration>) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(count);
    if let Some(block) = block {
        command.arg("BLOCK").arg(block.as_millis().to_string());
    }
    command.arg("STREAMS").arg(stream).arg(read_to);
    command
}

/// A revocation that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) id: TokenId,
    pub(crate) until: UnixMillis,
    /// Whether its announced end was beyond [`LONGEST_KEPT`].
    pub(crate) is_cut_short: bool,
}

impl Announced {
    /// Parses an announcement; `None` if it is invalid.
    pub(crate) fn read(entry: &StreamEntry<'_>, now: UnixMillis) -> Option<Self> {
        let id = TokenId::parse(entry.field("id")?).ok()?;
        let announced = UnixMillis(entry.field("until")?.parse().ok()?);
        let is_cut_short = announced > now.plus(LONGEST_KEPT);
        let until = if is_cut_short { latest_end(entry.position, now) } else { announced };
        Some(Self { id, until, is_cut_short })
    }
}

/// End of a revocation whose announced end is too late. It depends on the time of the announcement,
/// so that all instances agree: an instance announces again what ends later than what it has read.
fn latest_end(position: &str, now: UnixMillis) -> UnixMillis {
    let announced_at =
        position.split('-').next().and_then(|millis| millis.parse().ok()).map_or(now, UnixMillis);
    announced_at.min(now).plus(LONGEST_TOMBSTONE)
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::redis::stream::{entries, news};

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
    const ID: &str = "3f9a1c0b5d7e2f48";

    fn words(words: &[&[u8]]) -> Value {
        Value::Array(words.iter().map(|word| Value::BulkString(word.to_vec())).collect())
    }

    /// An answer with these entries, each by its fields.
    fn answer(entries: &[&[&[u8]]]) -> Value {
        let entry = |(number, fields): (usize, &&[&[u8]])| {
            let position = format!("{number}-0");
            Value::Array(vec![Value::BulkString(position.into_bytes()), words(fields)])
        };
        let entries = Value::Array(entries.iter().enumerate().map(entry).collect());
        Value::Array(vec![Value::Array(vec![Value::BulkString(b"{vx11}:revocations".to_vec()), entries])])
    }

    fn read(fields: &[&[u8]]) -> Option<Announced> {
        Announced::read(&news(&answer(&[fields])).unwrap()[0], NOW)
    }

    #[test]
    fn an_end_that_no_revocation_has_is_cut_short_and_any_other_is_kept() {
        let id = TokenId::parse(ID).unwrap();
        let announced =
            |until: u64| read(&[b"id", ID.as_bytes(), b"until", until.to_string().as_bytes()]).unwrap();
        let latest = NOW.plus(LONGEST_KEPT);
        for until in [0, NOW.0, NOW.plus(LONGEST_TOMBSTONE).0, latest.0] {
            assert_eq!(announced(until), Announced { id, until: UnixMillis(until), is_cut_short: false });
        }
        for until in [latest.0 + 1, u64::MAX] {
            assert!(announced(until).is_cut_short);
        }
    }

    /// Otherwise each instance would announce it again after a loss of data.
    #[test]
    fn an_end_is_cut_short_to_the_same_on_every_instance() {
        let announced_at = NOW.minus(Duration::from_secs(1));
        let fields = words(&[b"id", ID.as_bytes(), b"until", b"18446744073709551615"]);
        let until = |position: String, now: UnixMillis| {
            let answer = Value::Array(vec![Value::Array(vec![
                Value::BulkString(position.into_bytes()),
                fields.clone(),
            ])]);
            Announced::read(&entries(&answer).unwrap()[0], now).unwrap().until
        };
        for now in [announced_at, NOW, NOW.plus(Duration::from_secs(1))] {
            assert_eq!(until(format!("{}-0", announced_at.0), now), announced_at.plus(LONGEST_TOMBSTONE));
        }
        for position in ["18446744073709551615-0", "none"] {
            assert_eq!(
                until(position.to_owned(), NOW),
                NOW.plus(LONGEST_TOMBSTONE),
                "somebody else chose {position}"
            );
        }
    }

    #[test]
    fn what_is_no_revocation_reads_as_none_and_hides_no_other() {
        let good: &[&[u8]] = &[b"other", b"field", b"until", b"1", b"id", ID.as_bytes()];
        let bad: [&[&[u8]]; 7] = [
            &[b"neither", b"nor"],
            &[b"id", ID.as_bytes()],
            &[b"id", b"3F9A", b"until", b"1"],
            &[b"id", ID.as_bytes(), b"until", b"-1"],
            &[b"id", ID.as_bytes(), b"until", b"18446744073709551616"],
            &[b"\xff", b"\xfe", b"until", b"1"],
            &[],
        ];
        for fields in bad {
            assert_eq!(read(fields), None, "{fields:?}");
            let answer = answer(&[fields, good]);
            let entries = news(&answer).unwrap();
            assert!(Announced::read(&entries[1], NOW).is_some(), "{fields:?}");
            assert_eq!(entries[1].position, "1-0");
        }
    }

    #[test]
    fn announcements_are_bounded_in_age_and_in_number() {
        let id = TokenId::parse(ID).unwrap();
        let bound = |now: u64| {
            let command = announcement("stream", id, NOW, UnixMillis(now));
            let words: Vec<_> = command
                .args_iter()
                .filter_map(|word| match word {
                    redis::Arg::Simple(word) => Some(String::from_utf8_lossy(word).into_owned()),
                    _ => None,
                })
                .collect();
            (words[2].clone(), words[4].clone())
        };
        let bounds: Vec<_> = (NOW.0..NOW.0 + 2 * BOUNDED_IN_NUMBER).map(bound).collect();
        let number = ("MAXLEN".to_owned(), MOST_KEPT.to_string());
        assert_eq!(bounds.iter().filter(|bound| **bound == number).count(), 2);
        let age = ("MINID".to_owned(), NOW.minus(LONGEST_KEPT).plus(Duration::from_millis(1)).0.to_string());
        assert_eq!(bounds[1], age);
        assert_eq!(bounds.iter().filter(|(name, _)| name == "MINID").count(), 30);
    }
}
