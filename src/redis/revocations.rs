//! Announcements of revocations: a stream in Redis, which every instance reads.

use std::time::Duration;

use redis::Cmd;

use super::announce::{Announcements, field};
use super::namespace::Namespace;
use super::stream::StreamEntry;
use crate::clock::UnixMillis;
use crate::token::{LONGEST_TOMBSTONE, TokenId};

/// Latest end of a revocation, and lifetime of announcements: the longest lifetime of a tombstone
/// plus a minute for clock differences.
const LONGEST_KEPT: Duration = Duration::from_secs(LONGEST_TOMBSTONE.as_secs() + 60);
/// Bound of announcements: the number of revocations that an instance remembers by default.
const MOST_KEPT: usize = 1_000_000;
/// The stream.
static REVOCATIONS: Announcements =
    Announcements { name: "revocations", kept: LONGEST_KEPT, most: MOST_KEPT };

/// Name of the stream.
pub(crate) fn stream(namespace: &Namespace) -> String {
    REVOCATIONS.stream(namespace)
}

/// Fields of an announcement.
fn fields(id: TokenId, until: UnixMillis) -> Vec<String> {
    [field("id", &id), field("until", &until.0)].concat()
}

/// Command that announces a revocation, and trims old announcements by the time of Redis.
pub(crate) fn announcement(stream: &str, id: TokenId, until: UnixMillis, redis_now: UnixMillis) -> Cmd {
    REVOCATIONS.announcement(stream, &fields(id, until), redis_now)
}

/// Command that announces revocations unless there are announcements after `read_to`. Answer:
/// their positions, or nil.
pub(crate) fn announcements(stream: &str, read_to: &str, revocations: &[(TokenId, UnixMillis)]) -> Cmd {
    let revocations: Vec<_> = revocations.iter().map(|(id, until)| fields(*id, *until)).collect();
    REVOCATIONS.announcements(stream, read_to, &revocations)
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
}
