//! Reading the log in pages bounded in bytes: backward to fill an empty ring, forward for a ring or
//! a stream in catch-up.

use std::time::Duration;

use redis::{Cmd, RedisError, Value, from_redis_value};
use serde::Serialize;
use tokio::time::Instant;

use super::entry::LogEntry;
use super::keys::Keys;
use super::pace::{PAGE_DEADLINE, Pace};
use super::within;
use crate::events::event::Event;
use crate::events::id::{Epoch, Position};
use crate::events::ring::RingLimits;
use crate::redis::stream::{self, StreamEntry};
use crate::redis::{Connection, Fault, Script};

/// Script that reads a page.
static PAGE: Script = Script::new(&[include_str!("page.lua")]);
/// Script that answers the id of the first entry.
static BEGINNING: Script = Script::new(&[include_str!("beginning.lua")]);
/// Bound of a page in entries.
const MOST_ENTRIES: usize = 1000;
/// Bound of the time for filling an empty ring before the log is used. Over a slow link the ring
/// then holds fewer events than it could. Streams that resume before these events use catch-up.
const FILL_FOR: Duration = Duration::from_secs(1);

/// Answer to a request for a page.
pub(super) struct LogPage {
    pub(super) beginning: Beginning,
    /// Entries as Redis sent them, parsed on use.
    entries: Value,
    /// Size of the entries in bytes, as the script counts them.
    pub(super) bytes: usize,
    /// Whether entries may follow that did not fit.
    pub(super) more: bool,
}

/// Position of the log's first entry; `None` if the log is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning(Option<Position>);

/// Request for the page after `position`, up to `bytes`; the first entry always fits.
pub(super) fn after(keys: &Keys, generation: &str, position: Position, bytes: usize) -> Cmd {
    let from = format!("({position}");
    let range = Range { generation, command: "XRANGE", from: &from, to: "+", bytes, entries: MOST_ENTRIES };
    range.question(keys)
}

/// Request for the position of the first entry.
pub(super) fn beginning(keys: &Keys, generation: &str) -> Cmd {
    #[derive(Serialize)]
    struct Arguments<'a> {
        generation: &'a str,
    }
    BEGINNING.call(&[&keys.log, &keys.state], &Arguments { generation })
}

/// Arguments of [`PAGE`].
#[derive(Serialize)]
struct Range<'a> {
    generation: &'a str,
    command: &'a str,
    from: &'a str,
    to: &'a str,
    bytes: usize,
    entries: usize,
}

impl<'a> Range<'a> {
    /// Entries up to `from`, newest first.
    const fn back_from(generation: &'a str, from: &'a str, bytes: usize, entries: usize) -> Self {
        Self { generation, command: "XREVRANGE", from, to: "-", bytes, entries }
    }

    fn question(&self, keys: &Keys) -> Cmd {
        PAGE.call(&[&keys.log, &keys.state], self)
    }
}

/// Sends a request for a page and adapts `pace` to the time it took. `None` if the log generation
/// has changed.
pub(super) async fn ask(
    connection: &mut Connection,
    question: &Cmd,
    pace: &mut Pace,
) -> Result<Option<LogPage>, Fault> {
    let asked = Instant::now();
    let answer = within(PAGE_DEADLINE, connection.ask(question)).await?;
    pace.took(asked.elapsed());
    LogPage::read(answer)
}

impl LogPage {
    /// Parses an answer; `None` if the log generation has changed.
    pub(super) fn read(answer: Value) -> Result<Option<Self>, Fault> {
        if is_nothing(&answer) {
            return Ok(None);
        }
        let (first, bytes, more, entries): (String, usize, u8, Value) =
            from_redis_value(answer).map_err(RedisError::from)?;
        let beginning = Beginning(first.parse().ok());
        Ok(Some(Self { beginning, entries, bytes, more: more > 0 }))
    }

    pub(super) fn entries(&self) -> Vec<StreamEntry<'_>> {
        stream::entries(&self.entries).unwrap_or_default()
    }

    /// The entries, of which events belong to `epoch`.
    fn parsed(&self, epoch: Epoch) -> impl DoubleEndedIterator<Item = LogEntry> {
        self.entries().into_iter().filter_map(move |entry| LogEntry::read(&entry, epoch))
    }

    /// Events for a stream in catch-up in `epoch` and the position reached, which is `None` at the
    /// tail of the log. Returns `None` if the next event is unreadable: the stream gets `reset`.
    pub(super) fn for_stream(&self, epoch: Epoch) -> Option<(Vec<Event>, Option<Position>)> {
        let (mut events, mut read_to) = (Vec::new(), None);
        for entry in self.parsed(epoch) {
            match entry {
                LogEntry::Unreadable(_) if read_to.is_none() => return None,
                // The hub announces the new epoch. Entries after it have positions of that epoch.
                LogEntry::Epoch(..) | LogEntry::Unreadable(_) => break,
                LogEntry::Event(_) | LogEntry::Mark(_) => {
                    read_to = Some(entry.position());
                    events.extend(entry.into_event());
                }
            }
        }
        Some((events, read_to))
    }
}

impl Beginning {
    /// Parses an answer; `None` if the log generation has changed.
    pub(super) fn read(answer: Value) -> Result<Option<Self>, Fault> {
        if is_nothing(&answer) {
            return Ok(None);
        }
        let (first,): (String,) = from_redis_value(answer).map_err(RedisError::from)?;
        Ok(Some(Self(first.parse().ok())))
    }

    /// Position up to which entries were trimmed, if that lies after `position`.
    pub(super) fn lost_after(self, position: Position) -> Option<Position> {
        self.0.map(Position::before).filter(|lost| *lost > position)
    }
}

/// Whether a script answered that the log generation has changed.
fn is_nothing(answer: &Value) -> bool {
    matches!(answer, Value::Array(words) if words.is_empty())
}

/// The end of the log.
pub(super) struct Tail {
    pub(super) events: Vec<Event>,
    /// Horizon: nothing up to here is in `events`.
    pub(super) horizon: Position,
    pub(super) read_to: Position,
}

/// Reads the newest events of `epoch`, the present one, newest first: as many as the ring takes and
/// as the link carries in [`FILL_FOR`]. `None` if the log generation has changed.
pub(super) async fn tail(
    connection: &mut Connection,
    keys: &Keys,
    generation: &str,
    epoch: Epoch,
    limits: RingLimits,
    pace: &mut Pace,
) -> Result<Option<Tail>, Fault> {
    let began = Instant::now();
    let mut tail = Tail { events: Vec::new(), horizon: Position::START, read_to: Position::START };
    let (mut from, mut bytes) = ("+".to_owned(), 0);
    loop {
        let question = Range::back_from(generation, &from, pace.bytes(), MOST_ENTRIES).question(keys);
        let Some(answer) = ask(connection, &question, pace).await? else { return Ok(None) };
        for entry in answer.parsed(epoch) {
            let position = entry.position();
            tail.read_to = tail.read_to.max(position);
            let event = match entry {
                LogEntry::Event(event) => event,
                LogEntry::Mark(_) => {
                    tail.horizon = position.before();
                    continue;
                }
                // Earlier entries belong to another epoch or lie before a lost event: the ring
                // begins here.
                LogEntry::Epoch(..) | LogEntry::Unreadable(_) => return Ok(Some(tail.from(position))),
            };
            bytes += event.data().len();
            if tail.events.len() >= limits.entries || bytes > limits.bytes {
                return Ok(Some(tail.from(position)));
            }
            tail.horizon = position.before();
            tail.events.push(event);
        }
        let goes_on = answer.more && began.elapsed() < FILL_FOR;
        let Some(last) = answer.entries().pop().filter(|_| goes_on) else {
            let horizon = tail.horizon;
            return Ok(Some(tail.from(horizon)));
        };
        from = format!("({}", last.position);
    }
}

/// Position of the last entry. `None` if the log generation has changed.
pub(super) async fn end(
    connection: &mut Connection,
    keys: &Keys,
    generation: &str,
    pace: &mut Pace,
) -> Result<Option<Position>, Fault> {
    let question = Range::back_from(generation, "+", 0, 1).question(keys);
    let answer = ask(connection, &question, pace).await?;
    Ok(answer.map(|answer| {
        let last = answer.entries().first().and_then(|last| last.position.parse().ok());
        last.unwrap_or(Position::START)
    }))
}

impl Tail {
    /// Puts the events, which were read newest first, in order.
    fn from(mut self, horizon: Position) -> Self {
        self.events.reverse();
        self.horizon = horizon;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        Value::Array(vec![text(id), Value::Array(fields.iter().map(|field| text(field)).collect())])
    }

    /// A page of a log that begins with `first`.
    fn page(first: &str, entries: Vec<Value>) -> LogPage {
        let answer = vec![text(first), Value::Int(1), Value::Int(0), Value::Array(entries)];
        LogPage::read(Value::Array(answer)).unwrap().unwrap()
    }

    fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    /// Positions of the events that a stream gets, and the position reached.
    fn positions(page: &LogPage) -> Option<(Vec<Position>, Option<Position>)> {
        let (events, read_to) = page.for_stream(Epoch(1))?;
        Some((events.iter().map(Event::position).collect(), read_to))
    }

    #[test]
    fn a_log_that_is_not_the_one_that_was_joined_gives_no_page_and_an_empty_one_an_empty_page() {
        assert!(LogPage::read(Value::Array(Vec::new())).unwrap().is_none());
        let empty = page("", Vec::new());
        assert_eq!((empty.beginning, empty.entries().len()), (Beginning(None), 0));
        assert_eq!(Beginning::read(Value::Array(Vec::new())).unwrap(), None);
        assert_eq!(Beginning::read(Value::Array(vec![text("")])).unwrap(), Some(Beginning(None)));
        assert_eq!(empty.for_stream(Epoch(1)), Some((Vec::new(), None)));
    }

    #[test]
    fn what_left_the_log_before_it_was_read_is_noticed_by_the_position_of_the_first_entry() {
        let beginning = Beginning::read(Value::Array(vec![text("7-0")])).unwrap().unwrap();
        assert_eq!(beginning, page("7-0", Vec::new()).beginning);
        let last = Position { millis: 6, seq: u64::MAX };
        assert_eq!(beginning.lost_after(at(5)), Some(last));
        assert_eq!(beginning.lost_after(last), None);
        assert_eq!(beginning.lost_after(at(7)), None);
    }

    #[test]
    fn a_page_for_a_stream_ends_before_another_epoch() {
        let page = page(
            "1-0",
            vec![
                entry("5-0", &["type", "message", "data", "5"]),
                entry("6-0", &["control", "mark"]),
                entry("7-0", &["control", "epoch", "epoch", "0000000b"]),
                entry("8-0", &["type", "message", "data", "8"]),
            ],
        );
        assert_eq!(positions(&page), Some((vec![at(5)], Some(at(6)))));
    }

    #[test]
    fn a_page_for_a_stream_ends_before_an_event_that_cannot_be_read_and_does_not_begin_with_one() {
        let later = || entry("6-0", &["type", "of a later version", "data", "6"]);
        let readable = |id| entry(id, &["type", "message", "data", "1"]);
        let ends = page("1-0", vec![readable("5-0"), later(), readable("7-0")]);
        assert_eq!(positions(&ends), Some((vec![at(5)], Some(at(5)))));
        let begins = page("1-0", vec![later(), readable("7-0")]);
        assert_eq!(positions(&begins), None);
    }
}
