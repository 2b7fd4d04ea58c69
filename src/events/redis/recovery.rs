//! Entering the log, and re-submitting what this instance holds after a loss of data.
//!
//! The module page of [`super`] describes recovery as a whole. This file owns the calls of
//! `recovery.lua`, the order in which events are sent and the size of the batches.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, RedisError, from_redis_value};

use super::deadline::{ANSWER_DEADLINE, within};
use super::fitting;
use super::keys::Keys;
use super::pace::PAGE_DEADLINE;
use super::publisher::LogLimits;
use super::script::without_comments;
use crate::clock::Jitter;
use crate::events::event::Entry;
use crate::events::id::{Epoch, EventId, Position};
use crate::events::log::KEYS_KEPT;
use crate::events::publication::Fingerprint;
use crate::redis::{Connection, Fault};

/// Script that enters the log and takes re-submitted events.
static JOIN: LazyLock<String> =
    LazyLock::new(|| without_comments(concat!(include_str!("size.lua"), include_str!("recovery.lua"))));
/// Bounds of a batch of re-submitted events.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;

/// Parameters of a recovery, the same for all calls.
pub(super) struct Recovery<'a> {
    pub(super) keys: &'a Keys,
    /// Data id.
    pub(super) name: &'a str,
    /// Source of the number of a new log generation, should this call start one.
    pub(super) jitter: &'a Jitter,
    /// Length of the recovery window.
    pub(super) window: Duration,
    pub(super) limits: LogLimits,
}

/// Answer of the script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Log generation; changes whenever the log may have lost something.
    pub(super) founding: String,
    /// Log epoch; `None` in recovery, until an instance that knows it has entered.
    pub(super) epoch: Option<Epoch>,
    /// Time until the log opens. Before that nobody publishes or reads.
    pub(super) opens_in: Duration,
    /// First entry of the log, while it is in recovery.
    first: Option<Position>,
    /// The events were not taken, because earlier ones are still missing: re-submit them later.
    pub(super) waits: bool,
}

/// Events that are re-submitted in one call.
struct Batch<'a> {
    entries: &'a [Entry],
    /// Horizon: this instance holds nothing up to here.
    horizon: Position,
    /// Position up to which this instance has read.
    head: Position,
    /// For events before the log's first entry: the next event after them that this instance holds,
    /// which proves that there is no hole between.
    next: Option<Position>,
    /// Whether more batches follow, for which the script may extend the window.
    goes_on: bool,
}

impl Batch<'_> {
    const NONE: Self =
        Batch { entries: &[], horizon: Position::START, head: Position::START, next: None, goes_on: false };
}

impl Recovery<'_> {
    /// Enters the log without re-submitting anything.
    pub(super) async fn ask(
        &self,
        connection: &mut Connection,
        known: Option<Epoch>,
    ) -> Result<Recovered, Fault> {
        self.call(connection, known, &Batch::NONE).await
    }

    /// Re-submits `entries`: everything between `horizon` and `read_to`, this instance's head, and
    /// unconfirmed events after it. `asked` is the answer of the call before.
    ///
    /// Can be interrupted after any call: each leaves the log without a hole.
    pub(super) async fn bring(
        &self,
        connection: &mut Connection,
        asked: &Recovered,
        horizon: Position,
        read_to: EventId,
        entries: &[Entry],
    ) -> Result<Recovered, Fault> {
        let known = Some(read_to.epoch);
        let (earlier, mut later, _) = around(entries, asked.first, read_to.position);
        let mut horizon = horizon;
        let mut joined = loop {
            let (entries, others) = later.split_at(batch(later.iter()));
            later = others;
            // The head goes with the last batch: the script writes a mark there, so that new ids
            // are larger.
            let head = if later.is_empty() { read_to.position } else { Position::START };
            let goes_on = !later.is_empty() || !earlier.is_empty();
            let batch = Batch { entries, horizon, head, next: None, goes_on };
            let joined = self.call(connection, known, &batch).await?;
            if joined.waits || joined.epoch != known {
                return Ok(joined);
            }
            if later.is_empty() {
                break joined;
            }
            horizon = Position::START;
        };
        // The first entry may have changed since `asked`, because of another instance.
        let (mut earlier, _, mut next) = around(entries, joined.first, read_to.position);
        // The newest batch first: the log has no hole wherever this ends.
        while !joined.opens_in.is_zero() {
            let (others, entries) = earlier.split_at(earlier.len() - batch(earlier.iter().rev()));
            let Some(begins) = entries.first().map(|entry| entry.position) else { break };
            earlier = others;
            let batch = Batch { entries, next: Some(next), goes_on: !earlier.is_empty(), ..Batch::NONE };
            joined = self.call(connection, known, &batch).await?;
            if joined.epoch != known || joined.first.is_none_or(|first| first > begins) {
                // Another epoch, or the log opened, or it has no room for more.
                break;
            }
            next = begins;
        }
        Ok(joined)
    }

    async fn call(
        &self,
        connection: &mut Connection,
        known: Option<Epoch>,
        batch: &Batch<'_>,
    ) -> Result<Recovered, Fault> {
        let command = self.command(known, batch);
        // A batch may take seconds on a slow link.
        let deadline = if batch.entries.is_empty() { ANSWER_DEADLINE } else { PAGE_DEADLINE };
        let answer = within(deadline, connection.ask(&command)).await?;
        let (founding, epoch, millis, first, waits): (String, String, u64, String, u8) =
            from_redis_value(answer).map_err(RedisError::from)?;
        let opens_in = Duration::from_millis(millis);
        let (epoch, first) = (epoch.parse().ok(), first.parse().ok());
        Ok(Recovered { founding, epoch, opens_in, first, waits: waits > 0 })
    }

    fn command(&self, known: Option<Epoch>, batch: &Batch<'_>) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(JOIN.as_str()).arg(2).arg(&self.keys.log).arg(&self.keys.note);
        command
            .arg(self.limits.bytes)
            .arg(self.name)
            .arg(format!("{:016x}", self.jitter.number()))
            .arg(self.window.as_millis().to_string());
        command.arg(known.map_or_else(String::new, |epoch| epoch.to_string())).arg(batch.head.to_string());
        command.arg(KEYS_KEPT.as_secs()).arg(self.limits.entries).arg(&self.keys.published);
        command.arg(batch.horizon.to_string());
        command.arg(batch.next.map_or_else(String::new, |next| next.to_string()));
        command.arg(u8::from(batch.goes_on));
        for entry in batch.entries {
            command.arg(entry.position.to_string()).arg(entry.event_type.as_str()).arg(&entry.data);
            match entry.key {
                None => command.arg("").arg(""),
                Some(key) => {
                    command.arg(key.to_hex()).arg(Fingerprint::of(&entry.event_type, &entry.data).to_hex())
                }
            };
        }
        command
    }
}

/// Splits `entries` at the log's first entry into earlier and later ones, and names the event that
/// follows the earlier ones. Unconfirmed events (after `read_to`) never count as earlier: the
/// events between them and the head are unknown, so they might leave a hole.
fn around(entries: &[Entry], first: Option<Position>, read_to: Position) -> (&[Entry], &[Entry], Position) {
    let Some(first) = first else { return (&[], entries, read_to) };
    let (earlier, later) = entries.split_at(entries.partition_point(|entry| entry.position < first));
    let earlier = &earlier[..earlier.partition_point(|entry| entry.position <= read_to)];
    let next = later.first().map_or(read_to, |entry| entry.position.min(read_to));
    (earlier, later, next)
}

/// Number of events in the next batch.
fn batch<'a>(entries: impl Iterator<Item = &'a Entry>) -> usize {
    fitting(BATCH_BYTES, entries.take(BATCH).map(|entry| entry.data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::frame::EventType;

    const fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    fn entry(millis: u64, bytes: usize) -> Entry {
        let data = "x".repeat(bytes);
        Entry { position: at(millis), event_type: EventType::default(), data, key: None }
    }

    fn entries(millis: &[u64]) -> Vec<Entry> {
        millis.iter().map(|millis| entry(*millis, 1)).collect()
    }

    #[test]
    fn batches_are_bounded_in_events_and_in_bytes_and_take_the_largest_event() {
        let all = |bytes: &[usize]| -> Vec<_> { bytes.iter().map(|bytes| entry(1, *bytes)).collect() };
        assert_eq!(batch([].iter()), 0);
        assert_eq!(batch(all(&[1; 1001]).iter()), BATCH);
        assert_eq!(batch(all(&[BATCH_BYTES + 1, 1]).iter()), 1);
        assert_eq!(batch(all(&[BATCH_BYTES / 2; 3]).iter()), 2);
        assert_eq!(batch(all(&[1, BATCH_BYTES, 1]).iter().rev()), 1);
    }

    #[test]
    fn what_lies_before_the_first_entry_of_the_log_is_brought_apart() {
        let kept = entries(&[1, 2, 5, 7]);
        let millis = |entries: &[Entry]| entries.iter().map(|it| it.position.millis).collect::<Vec<_>>();
        let split = |first: Option<u64>, read_to: u64| {
            let (earlier, later, next) = around(&kept, first.map(at), at(read_to));
            (millis(earlier), millis(later), next.millis)
        };
        assert_eq!(split(None, 7), (vec![], vec![1, 2, 5, 7], 7), "of an empty log everything lies behind");
        assert_eq!(split(Some(5), 7), (vec![1, 2], vec![5, 7], 5));
        assert_eq!(split(Some(3), 7), (vec![1, 2], vec![5, 7], 5));
        assert_eq!(split(Some(9), 8), (vec![1, 2, 5, 7], vec![], 8));
        // The event at 7 is unconfirmed: the events before it are unknown.
        assert_eq!(split(Some(9), 5), (vec![1, 2, 5], vec![], 5));
        assert_eq!(split(Some(7), 5), (vec![1, 2, 5], vec![7], 5));
    }
}
