//! Reading the log backward, to fill a ring, and forward, for a stream that the ring is too short for.

use redis::streams::StreamRangeReply;
use redis::{Cmd, ParsingError, RedisError, Value, from_redis_value};

use super::item::Item;
use super::{in_time, keys};
use crate::events::entry::Entry;
use crate::events::history::Page;
use crate::events::id::Position;
use crate::events::ring::RingLimits;
use crate::redis::{Connection, Fault, pipeline};

/// Entries read in one go for one stream: few, and of large ones fewer, because they are kept until the client has
/// taken them.
const PAGE: usize = 8;
const PAGE_BYTES: usize = 32 * 1024;
/// Entries read in one go to fill a ring.
const CHAPTER: usize = 100;

fn range(command: &str, from: &str, to: &str, count: usize) -> Cmd {
    let mut range = redis::cmd(command);
    range.arg(keys::LOG).arg(from).arg(to).arg("COUNT").arg(count);
    range
}

/// Asks for what the log begins with.
pub(super) fn first() -> Cmd {
    range("XRANGE", "-", "+", 1)
}

/// Where that stands.
pub(super) fn position_of_first(answer: Value) -> Result<Option<Position>, ParsingError> {
    let first: StreamRangeReply = from_redis_value(answer)?;
    Ok(first.ids.first().and_then(Item::read).map(|first| first.position()))
}

/// The events after `position`.
pub(super) async fn after(connection: &mut Connection, position: Position) -> Result<Page, Fault> {
    // In this order: what the log begins with before the page was read was there while it was read.
    let commands = [first(), range("XRANGE", &format!("({position}"), "+", PAGE)];
    let mut answers = in_time(connection.ask_in_order(&pipeline(commands))).await?.into_iter();
    let mut next = || answers.next().unwrap_or(Value::Nil);
    let first = position_of_first(next()).map_err(RedisError::from)?;
    if first.is_some_and(|first| first.before() > position) {
        return Ok(Page::Expired);
    }
    let page: StreamRangeReply = from_redis_value(next()).map_err(RedisError::from)?;
    let (mut entries, mut read_to, mut bytes) = (Vec::new(), None, 0);
    for item in page.ids.iter().filter_map(Item::read) {
        let size = if let Item::Event(event) = &item { event.data.len() } else { 0 };
        // One is always taken; another life of the log is for those who have heard of it.
        if matches!(item, Item::Epoch(..)) || (read_to.is_some() && bytes + size > PAGE_BYTES) {
            break;
        }
        bytes += size;
        read_to = Some(item.position());
        entries.extend(item.into_event());
    }
    Ok(Page::Events(entries, read_to))
}

/// The end of the log.
pub(super) struct Tail {
    pub(super) entries: Vec<Entry>,
    /// What lies before is not among them.
    pub(super) horizon: Position,
    pub(super) read_to: Position,
}

/// As much of the end of the log, of its present epoch, as a ring takes.
pub(super) async fn tail(connection: &mut Connection, limits: RingLimits) -> Result<Tail, Fault> {
    let mut tail = Tail { entries: Vec::new(), horizon: Position::START, read_to: Position::START };
    let (mut before, mut bytes) = ("+".to_owned(), 0);
    loop {
        let command = range("XREVRANGE", &before, "-", CHAPTER);
        let chapter: StreamRangeReply =
            from_redis_value(in_time(connection.ask(&command)).await?).map_err(RedisError::from)?;
        for item in chapter.ids.iter().filter_map(Item::read) {
            let position = item.position();
            tail.read_to = tail.read_to.max(position);
            let event = match item {
                Item::Event(event) => event,
                Item::Mark(_) => {
                    tail.horizon = position.before();
                    continue;
                }
                // What lies before is of a life of the log that is over: nobody resumes there.
                Item::Epoch(..) => return Ok(tail.from(position)),
            };
            bytes += event.data.len();
            if tail.entries.len() >= limits.entries || bytes > limits.bytes {
                return Ok(tail.from(position));
            }
            tail.horizon = position.before();
            tail.entries.push(event);
        }
        let Some(last) = chapter.ids.last().filter(|_| chapter.ids.len() == CHAPTER) else {
            let horizon = tail.horizon;
            return Ok(tail.from(horizon));
        };
        before = format!("({}", last.id);
    }
}

impl Tail {
    /// It was read newest first.
    fn from(mut self, horizon: Position) -> Self {
        self.entries.reverse();
        self.horizon = horizon;
        self
    }
}
