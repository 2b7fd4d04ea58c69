//! Reading the log in pages bounded in bytes: backward to fill an empty ring or to count events,
//! forward for a ring or a stream in catch-up.
//!
//! Pages for a ring have every entry. Pages for a stream have the events that its patterns match,
//! and the entries that are no events: the script filters, and [`is_for`] decides again.

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
use crate::topic::{Pattern, Patterns};

/// Script that reads a page.
static PAGE: Script = Script::new(&[include_str!("filter.lua"), include_str!("page.lua")]);
/// Script that answers the id of the first entry.
static BEGINNING: Script = Script::new(&[include_str!("beginning.lua")]);
/// Bound of a page of a ring in entries.
const MOST_ENTRIES: usize = 1000;
/// Bound of the entries that are looked at for a page of a stream, which may have none of them.
/// `page.lua` says what that costs Redis.
const MOST_LOOKED_AT: usize = 500;
/// Bound of the time for filling the ring before the log is used. On a slow link the ring begins
/// later than it could; streams that resume before it use catch-up.
const FILL_FOR: Duration = Duration::from_secs(1);

/// Answer to a request for a page.
pub(super) struct LogPage {
    pub(super) beginning: Beginning,
    /// Entries as Redis sent them, parsed on use.
    entries: Value,
    /// Size of the entries in bytes, as the script counts them.
    pub(super) bytes: usize,
    /// Size of the entries that were looked at and are not in the page, in bytes.
    pub(super) stepped_over: usize,
    /// Whether entries may follow that were not looked at.
    pub(super) more: bool,
    /// Position of the last entry that was looked at, be it in the page or not; `None` if there was
    /// no entry.
    read_to: Option<Position>,
}

/// Position of the log's first entry; `None` if the log is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning(Option<Position>);

/// Request for the position of the first entry.
pub(super) fn beginning(keys: &Keys, generation: &str) -> Cmd {
    #[derive(Serialize)]
    struct Arguments<'a> {
        generation: &'a str,
    }
    BEGINNING.call(&[&keys.log, &keys.state], &Arguments { generation })
}

/// A page to be read.
#[derive(Debug)]
pub(super) struct Range<'a> {
    command: &'static str,
    from: String,
    to: &'static str,
    bytes: usize,
    /// Bound of the entries that are looked at.
    entries: usize,
    /// Patterns of the stream that reads it; `None`: a ring, which gets every entry.
    patterns: Option<&'a Patterns>,
    without_data: bool,
}

/// Arguments of [`PAGE`].
#[derive(Serialize)]
struct Arguments<'a> {
    generation: &'a str,
    command: &'a str,
    from: &'a str,
    to: &'a str,
    bytes: usize,
    entries: usize,
    patterns: Option<Vec<&'a str>>,
    without_data: bool,
}

impl<'a> Range<'a> {
    /// The page after `position`, up to `bytes`; the first entry always fits.
    pub(super) fn after(position: Position, bytes: usize) -> Self {
        Self { command: "XRANGE", from: format!("({position}"), to: "+", ..Self::before(None, bytes) }
    }

    /// The page before `position`, or of the end of the log, newest entry first.
    pub(super) fn before(position: Option<Position>, bytes: usize) -> Self {
        Self {
            command: "XREVRANGE",
            from: position.map_or_else(|| "+".to_owned(), |position| format!("({position}")),
            to: "-",
            bytes,
            entries: MOST_ENTRIES,
            patterns: None,
            without_data: false,
        }
    }

    /// The page up to `position`, newest entry first.
    pub(super) fn up_to(position: Position, bytes: usize) -> Self {
        Self { from: position.to_string(), ..Self::before(None, bytes) }
    }

    /// Limits the page to the events that these patterns match, and entries that are no events.
    pub(super) fn matching(self, patterns: &'a Patterns) -> Self {
        Self { patterns: Some(patterns), entries: MOST_LOOKED_AT, ..self }
    }

    /// Leaves the data of the events out.
    pub(super) fn without_data(self) -> Self {
        Self { without_data: true, ..self }
    }

    /// Request for the page.
    pub(super) fn question(&self, keys: &Keys, generation: &str) -> Cmd {
        let arguments = Arguments {
            generation,
            command: self.command,
            from: &self.from,
            to: self.to,
            bytes: self.bytes,
            entries: self.entries,
            patterns: self.patterns.map(|patterns| patterns.iter().map(Pattern::as_str).collect()),
            without_data: self.without_data,
        };
        PAGE.call(&[&keys.log, &keys.state], &arguments)
    }
}

/// Whether an event is for a stream with these patterns. Every event that the log gives to a stream
/// passes here, whatever the script has filtered.
fn is_for(event: &Event, patterns: &Patterns) -> bool {
    patterns.first_match(event.topics()).is_some()
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
        let (first, bytes, stepped_over, more, entries, read_to): (String, usize, usize, u8, Value, String) =
            from_redis_value(answer).map_err(RedisError::from)?;
        let (beginning, read_to) = (Beginning(first.parse().ok()), read_to.parse().ok());
        Ok(Some(Self { beginning, entries, bytes, stepped_over, more: more > 0, read_to }))
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
    pub(super) fn for_stream(
        &self,
        epoch: Epoch,
        patterns: &Patterns,
    ) -> Option<(Vec<Event>, Option<Position>)> {
        let (mut events, mut read_to) = (Vec::new(), None);
        for entry in self.parsed(epoch) {
            match entry {
                LogEntry::Unreadable(_) if read_to.is_none() => return None,
                // The hub announces the new epoch. Entries after it have positions of that epoch.
                LogEntry::Epoch(..) | LogEntry::Unreadable(_) => return Some((events, read_to)),
                LogEntry::Event(_) | LogEntry::Mark(_) => {
                    read_to = Some(entry.position());
                    events.extend(entry.into_event().filter(|event| is_for(event, patterns)));
                }
            }
        }
        // Beyond the last entry that passed the filter, over those that did not.
        Some((events, self.read_to))
    }

    /// Continues to count events of a stream backward, of which `left` are wanted. A page that was
    /// read backward belongs to it.
    pub(super) fn count_back(&self, epoch: Epoch, patterns: &Patterns, left: &mut usize) -> Back {
        for entry in self.parsed(epoch) {
            match entry {
                LogEntry::Event(event) if is_for(&event, patterns) => {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        return Back::Found(event.position().before());
                    }
                }
                LogEntry::Event(_) | LogEntry::Mark(_) => {}
                LogEntry::Epoch(_, position) | LogEntry::Unreadable(position) => {
                    return Back::Found(position);
                }
            }
        }
        let goes_on = self.read_to.filter(|_| self.more);
        goes_on.map_or_else(|| Back::Found(self.beginning.before()), Back::From)
    }
}

/// Result of counting events backward.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// The position before them, or at which the log or its epoch begins.
    Found(Position),
    /// There are more pages, before this position.
    From(Position),
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

    /// Position directly before the first entry.
    fn before(self) -> Position {
        self.0.map_or(Position::START, Position::before)
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
    let (mut before, mut bytes) = (None, 0);
    loop {
        let question = Range::before(before, pace.bytes()).question(keys, generation);
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
            bytes += event.bytes();
            if tail.events.len() >= limits.entries || bytes > limits.bytes {
                return Ok(Some(tail.from(position)));
            }
            tail.horizon = position.before();
            tail.events.push(event);
        }
        let goes_on = answer.more && began.elapsed() < FILL_FOR;
        let Some(last) = answer.read_to.filter(|_| goes_on) else {
            let horizon = tail.horizon;
            return Ok(Some(tail.from(horizon)));
        };
        before = Some(last);
    }
}

/// Position of the last entry. `None` if the log generation has changed.
pub(super) async fn end(
    connection: &mut Connection,
    keys: &Keys,
    generation: &str,
    pace: &mut Pace,
) -> Result<Option<Position>, Fault> {
    let question = Range { entries: 1, ..Range::before(None, 0) }.question(keys, generation);
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

    /// A page of a log that begins with `first`. The script has looked at the entries up to
    /// `read_to`, of which it has passed these, and there are more.
    fn page(first: &str, entries: Vec<Value>, read_to: &str) -> LogPage {
        let [bytes, stepped_over, more] = [1, 0, 1].map(Value::Int);
        let answer = vec![text(first), bytes, stepped_over, more, Value::Array(entries), text(read_to)];
        LogPage::read(Value::Array(answer)).unwrap().unwrap()
    }

    fn event(id: &str) -> Value {
        entry(id, &["type", "message", "data", "1"])
    }

    fn event_to(id: &str, topic: &str) -> Value {
        entry(id, &["control", "event", "type", "message", "data", "1", "topics", topic])
    }

    fn epoch(id: &str) -> Value {
        entry(id, &["control", "epoch", "epoch", "0000000b"])
    }

    fn of_later_version(id: &str) -> Value {
        entry(id, &["type", "of a later version", "data", "1"])
    }

    fn orders() -> Patterns {
        Patterns::new(["orders/*"]).unwrap()
    }

    fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    /// Positions of the events that a stream gets, and the position reached.
    fn positions(page: &LogPage, patterns: &Patterns) -> Option<(Vec<Position>, Option<Position>)> {
        let (events, read_to) = page.for_stream(Epoch(1), patterns)?;
        Some((events.iter().map(Event::position).collect(), read_to))
    }

    #[test]
    fn a_log_that_is_not_the_one_that_was_joined_gives_no_page_and_an_empty_one_an_empty_page() {
        assert!(LogPage::read(Value::Array(Vec::new())).unwrap().is_none());
        let empty = page("", Vec::new(), "");
        assert_eq!((empty.beginning, empty.entries().len()), (Beginning(None), 0));
        assert_eq!(Beginning::read(Value::Array(Vec::new())).unwrap(), None);
        assert_eq!(Beginning::read(Value::Array(vec![text("")])).unwrap(), Some(Beginning(None)));
        assert_eq!(empty.for_stream(Epoch(1), &orders()), Some((Vec::new(), None)));
    }

    #[test]
    fn what_left_the_log_before_it_was_read_is_noticed_by_the_position_of_the_first_entry() {
        let beginning = Beginning::read(Value::Array(vec![text("7-0")])).unwrap().unwrap();
        assert_eq!(beginning, page("7-0", Vec::new(), "").beginning);
        let last = Position { millis: 6, seq: u64::MAX };
        assert_eq!(beginning.lost_after(at(5)), Some(last));
        assert_eq!(beginning.lost_after(last), None);
        assert_eq!(beginning.lost_after(at(7)), None);
    }

    #[test]
    fn a_page_for_a_stream_ends_before_another_epoch() {
        let entries = vec![event("5-0"), entry("6-0", &["control", "mark"]), epoch("7-0"), event("8-0")];
        let page = page("1-0", entries, "9-0");
        assert_eq!(positions(&page, &Patterns::default()), Some((vec![at(5)], Some(at(6)))));
    }

    #[test]
    fn a_page_for_a_stream_ends_before_an_event_that_cannot_be_read_and_does_not_begin_with_one() {
        let of = Patterns::default();
        let ends = page("1-0", vec![event("5-0"), of_later_version("6-0"), event("7-0")], "7-0");
        assert_eq!(positions(&ends, &of), Some((vec![at(5)], Some(at(5)))));
        let begins = page("1-0", vec![of_later_version("6-0"), event("7-0")], "7-0");
        assert_eq!(positions(&begins, &of), None);
    }

    #[test]
    fn a_page_for_a_stream_has_no_events_of_others_whatever_the_script_has_passed() {
        let entries = vec![event("5-0"), event_to("6-0", "orders/1"), event_to("7-0", "users/1")];
        let page = page("1-0", entries, "7-0");
        assert_eq!(positions(&page, &orders()), Some((vec![at(6)], Some(at(7)))));
        assert_eq!(positions(&page, &Patterns::default()), Some((vec![at(5)], Some(at(7)))));
        assert_eq!(positions(&page, &Patterns::all()), Some((vec![at(5), at(6), at(7)], Some(at(7)))));
    }

    #[test]
    fn a_page_for_a_stream_reaches_beyond_the_entries_that_were_stepped_over() {
        let some = page("1-0", vec![event_to("6-0", "orders/1")], "900-0");
        assert_eq!(positions(&some, &orders()), Some((vec![at(6)], Some(at(900)))));
        assert_eq!(positions(&page("1-0", Vec::new(), "900-0"), &orders()), Some((vec![], Some(at(900)))));
    }

    /// Counts back over these entries, newest first, in a log that begins with 1. Returns what is
    /// left of `wanted` as well.
    fn back(entries: Vec<Value>, wanted: usize) -> (Back, usize) {
        let mut left = wanted;
        (page("1-0", entries, "3-0").count_back(Epoch(1), &orders(), &mut left), left)
    }

    #[test]
    fn the_last_events_of_a_stream_are_counted_without_those_of_others() {
        let entries = || {
            vec![
                event("9-0"),
                event_to("8-0", "orders/1"),
                event_to("7-0", "users/1"),
                event_to("6-0", "orders/2"),
            ]
        };
        assert_eq!(back(entries(), 1), (Back::Found(at(8).before()), 0));
        assert_eq!(back(entries(), 2), (Back::Found(at(6).before()), 0));
        assert_eq!(back(entries(), 5), (Back::From(at(3)), 3));
    }

    #[test]
    fn counting_back_ends_where_the_epoch_begins_and_at_an_event_that_cannot_be_read() {
        for ends in [epoch("5-0"), of_later_version("5-0")] {
            let entries = vec![event_to("6-0", "orders/1"), ends, event_to("4-0", "orders/1")];
            assert_eq!(back(entries, 2), (Back::Found(at(5)), 1));
        }
    }

    #[test]
    fn counting_back_ends_where_the_log_begins() {
        for (first, begins) in [("7-0", at(7).before()), ("", Position::START)] {
            let [bytes, stepped_over, more] = [1, 0, 0].map(Value::Int);
            let answer = vec![text(first), bytes, stepped_over, more, Value::Array(vec![]), text(first)];
            let page = LogPage::read(Value::Array(answer)).unwrap().unwrap();
            let found = page.count_back(Epoch(1), &orders(), &mut 1);
            assert_eq!(found, Back::Found(begins));
            assert_eq!(page.beginning.lost_after(begins), None, "nothing is missing from there on");
        }
    }
}
