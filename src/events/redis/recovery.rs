//! Entering the log, and re-submitting what this instance holds after a loss of data.
//!
//! The module page of [`super`] describes recovery as a whole. This file owns the calls of
//! `recovery.lua`, the order in which events are sent and the size of the batches.

use std::time::Duration;

use redis::{Cmd, RedisError, from_redis_value};
use serde::Serialize;

use super::deadline::{ANSWER_DEADLINE, within};
use super::entry::written;
use super::fitting;
use super::keys::Keys;
use super::pace::PAGE_DEADLINE;
use super::publisher::LogLimits;
use crate::clock::Jitter;
use crate::events::event::Event;
use crate::events::id::{Epoch, EventId, Position};
use crate::events::log::KEYS_KEPT;
use crate::events::publication::KeyDigest;
use crate::redis::{Connection, Fault, Script};

/// Script that enters the log and takes re-submitted events.
static RECOVERY: Script =
    Script::new(&[include_str!("size.lua"), include_str!("fields.lua"), include_str!("recovery.lua")]);
/// Bounds of a batch of re-submitted events.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;

/// Arguments of [`RECOVERY`].
#[derive(Serialize)]
struct Arguments<'a> {
    log_bytes: u64,
    log_entries: usize,
    data_id: &'a str,
    new_generation: String,
    window: u64,
    epoch: Option<String>,
    head: Option<String>,
    horizon: String,
    next: Option<String>,
    more_follow: bool,
    key_prefix: &'a str,
    key_seconds: u64,
    events: Vec<Submitted<'a>>,
}

/// An event as it is re-submitted.
#[derive(Serialize)]
struct Submitted<'a> {
    id: String,
    r#type: &'a str,
    data: &'a str,
    topics: Option<&'a str>,
    key: Option<String>,
    fingerprint: Option<String>,
}

/// Parameters of a recovery, the same for all calls.
pub(super) struct Recovery<'a> {
    pub(super) keys: &'a Keys,
    /// Data id.
    pub(super) data_id: &'a str,
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
    pub(super) generation: String,
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
    events: &'a [Event],
    /// Horizon: this instance holds nothing up to here.
    horizon: Position,
    /// Position up to which this instance has read, with the last batch.
    head: Option<Position>,
    /// Only for events before the log's first entry: the event that follows them on this instance.
    /// The log must begin at or before it, or a hole would remain.
    next: Option<Position>,
    /// Whether more batches follow, for which the script may extend the window.
    more_follow: bool,
}

impl Batch<'_> {
    const NONE: Self =
        Batch { events: &[], horizon: Position::START, head: None, next: None, more_follow: false };
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

    /// Re-submits `events`: everything between `horizon` and `read_to`, this instance's head, and
    /// unconfirmed events after it. `asked` is the answer of the call before.
    ///
    /// Can be interrupted after any call: each leaves the log without a hole.
    pub(super) async fn submit(
        &self,
        connection: &mut Connection,
        asked: &Recovered,
        horizon: Position,
        read_to: EventId,
        events: &[Event],
    ) -> Result<Recovered, Fault> {
        let known = Some(read_to.epoch);
        let (earlier, mut later, _) = around(events, asked.first, read_to.position);
        let mut horizon = horizon;
        let mut joined = loop {
            let (events, others) = later.split_at(batch(later.iter()));
            later = others;
            // The head goes with the last batch: the script writes a mark there, so that new ids
            // are larger.
            let head = later.is_empty().then_some(read_to.position);
            let more_follow = !later.is_empty() || !earlier.is_empty();
            let batch = Batch { events, horizon, head, next: None, more_follow };
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
        let (mut earlier, _, mut next) = around(events, joined.first, read_to.position);
        // The newest batch first: the log has no hole wherever this ends.
        while !joined.opens_in.is_zero() {
            let (others, events) = earlier.split_at(earlier.len() - batch(earlier.iter().rev()));
            let Some(begins) = events.first().map(Event::position) else { break };
            earlier = others;
            let batch = Batch { events, next: Some(next), more_follow: !earlier.is_empty(), ..Batch::NONE };
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
        let deadline = if batch.events.is_empty() { ANSWER_DEADLINE } else { PAGE_DEADLINE };
        let answer = within(deadline, connection.ask(&command)).await?;
        let (generation, epoch, millis, first, waits): (String, String, u64, String, u8) =
            from_redis_value(answer).map_err(RedisError::from)?;
        let opens_in = Duration::from_millis(millis);
        let (epoch, first) = (epoch.parse().ok(), first.parse().ok());
        Ok(Recovered { generation, epoch, opens_in, first, waits: waits > 0 })
    }

    fn command(&self, known: Option<Epoch>, batch: &Batch<'_>) -> Cmd {
        let id = |position: Position| position.to_string();
        let arguments = Arguments {
            log_bytes: self.limits.bytes,
            log_entries: self.limits.entries,
            data_id: self.data_id,
            new_generation: format!("{:016x}", self.jitter.number()),
            window: u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX),
            epoch: known.map(|epoch| epoch.to_string()),
            head: batch.head.map(id),
            horizon: id(batch.horizon),
            next: batch.next.map(id),
            more_follow: batch.more_follow,
            key_prefix: &self.keys.published,
            key_seconds: KEYS_KEPT.as_secs(),
            events: batch.events.iter().map(Submitted::of).collect(),
        };
        RECOVERY.call(&[&self.keys.log, &self.keys.state], &arguments)
    }
}

impl<'a> Submitted<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            id: event.position().to_string(),
            r#type: event.event_type(),
            data: event.data(),
            topics: written(event.topics()),
            key: event.key().map(KeyDigest::to_hex),
            fingerprint: event.key().map(|_| event.fingerprint().to_hex()),
        }
    }
}

/// Splits `events` at the log's first entry. Returns the earlier events, the later events, and the
/// position that follows the earlier ones. Unconfirmed events, which lie after the head `read_to`,
/// are never among the earlier ones: this instance does not know the events between its head and
/// them.
fn around(events: &[Event], first: Option<Position>, read_to: Position) -> (&[Event], &[Event], Position) {
    let Some(first) = first else { return (&[], events, read_to) };
    let (earlier, later) = events.split_at(events.partition_point(|event| event.position() < first));
    let earlier = &earlier[..earlier.partition_point(|event| event.position() <= read_to)];
    let next = later.first().map_or(read_to, |event| event.position().min(read_to));
    (earlier, later, next)
}

/// Number of events in the next batch.
fn batch<'a>(events: impl Iterator<Item = &'a Event>) -> usize {
    let bytes = |event: &Event| event.data().len() + event.topics().as_str().len();
    fitting(BATCH_BYTES, events.take(BATCH).map(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::frame::EventType;
    use crate::topic::Topics;

    const fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    fn event(millis: u64, bytes: usize) -> Event {
        let id = EventId { epoch: Epoch(1), position: at(millis) };
        Event::new(id, &EventType::default(), &"x".repeat(bytes), Topics::default(), None)
    }

    fn events(millis: &[u64]) -> Vec<Event> {
        millis.iter().map(|millis| event(*millis, 1)).collect()
    }

    #[test]
    fn batches_are_bounded_in_events_and_in_bytes_and_take_the_largest_event() {
        let all = |bytes: &[usize]| -> Vec<_> { bytes.iter().map(|bytes| event(1, *bytes)).collect() };
        assert_eq!(batch([].iter()), 0);
        assert_eq!(batch(all(&[1; 1001]).iter()), BATCH);
        assert_eq!(batch(all(&[BATCH_BYTES + 1, 1]).iter()), 1);
        // Topics count, too.
        let half = BATCH_BYTES / 2 - "default".len();
        assert_eq!(batch(all(&[half; 3]).iter()), 2);
        assert_eq!(batch(all(&[half, half + 1]).iter()), 1);
        assert_eq!(batch(all(&[1, BATCH_BYTES, 1]).iter().rev()), 1);
    }

    #[test]
    fn an_event_is_re_submitted_with_its_topics_unless_default_is_the_only_one() {
        let id = EventId { epoch: Epoch(1), position: at(5) };
        let event = |topics| Event::new(id, &EventType::default(), "1", topics, None);
        let several = event(Topics::parse("orders/1 default").unwrap());
        assert_eq!(Submitted::of(&several).topics, Some("orders/1 default"));
        assert_eq!(Submitted::of(&event(Topics::default())).topics, None);
    }

    #[test]
    fn what_lies_before_the_first_entry_of_the_log_is_brought_apart() {
        let kept = events(&[1, 2, 5, 7]);
        let millis = |events: &[Event]| events.iter().map(|it| it.position().millis).collect::<Vec<_>>();
        let split = |first: Option<u64>, read_to: u64| {
            let (earlier, later, next) = around(&kept, first.map(at), at(read_to));
            (millis(earlier), millis(later), next.millis)
        };
        assert_eq!(split(None, 7), (vec![], vec![1, 2, 5, 7], 7), "everything comes after an empty log");
        assert_eq!(split(Some(5), 7), (vec![1, 2], vec![5, 7], 5));
        assert_eq!(split(Some(3), 7), (vec![1, 2], vec![5, 7], 5));
        assert_eq!(split(Some(9), 8), (vec![1, 2, 5, 7], vec![], 8));
        // The event at 7 is unconfirmed: the events before it are unknown.
        assert_eq!(split(Some(9), 5), (vec![1, 2, 5], vec![], 5));
        assert_eq!(split(Some(7), 5), (vec![1, 2, 5], vec![7], 5));
    }
}
