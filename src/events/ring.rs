//! The ring: the newest events of an instance, encoded, bounded in number and bytes. No locks.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::event::Event;
use super::id::{Epoch, EventId, Position};
use super::registry::Signal;
use super::topic_index::{News, NextEvent, Subscription, TopicIndex};
use crate::topic::Patterns;

/// Bounds of the ring.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Bound in events.
    pub entries: usize,
    /// Bound in bytes of encoded frames. One event is always kept, whatever its size.
    pub bytes: usize,
}

/// Cursor of a stream: the number of frames that entered the ring before the one it reads next.
pub(super) type Cursor = u64;

/// Result of a read at a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The next frame of the stream.
    Frame(Delivery),
    /// There is none up to `end`, the cursor after the newest event.
    CaughtUp { end: Cursor, head: EventId },
    /// The next event has left the ring.
    FellOut,
}

/// A frame for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) frame: Bytes,
    /// Cursor after it.
    pub(super) next: Cursor,
    /// Time at which it was added to the ring.
    pub(super) at: Instant,
    /// Number of streams that it is for.
    pub(super) audience: usize,
}

/// Content of the ring at a cursor.
enum Content {
    Event(Event),
    /// An event of another epoch or before a loss, for the streams that are open. No client resumes
    /// after it, because its position is not comparable.
    Former(Event),
    /// A frame of this instance for all streams that are open. No client resumes after it.
    Reset(Bytes),
}

struct Slot {
    content: Content,
    at: Instant,
    audience: usize,
}

impl Slot {
    fn bytes(&self) -> usize {
        match &self.content {
            Content::Event(event) | Content::Former(event) => event.bytes(),
            Content::Reset(frame) => frame.len(),
        }
    }

    /// The frame for a stream that reads `patterns`.
    fn frame_for(&self, patterns: &Patterns) -> Option<Bytes> {
        match &self.content {
            Content::Event(event) | Content::Former(event) => event.frame_for(patterns),
            Content::Reset(frame) => Some(frame.clone()),
        }
    }
}

/// The ring.
pub(super) struct Ring {
    limits: RingLimits,
    slots: VecDeque<Slot>,
    index: TopicIndex,
    /// Cursors of the `reset` frames in `slots`.
    resets: VecDeque<Cursor>,
    /// Cursor after the last `reset` frame that was evicted.
    evicted_reset: Cursor,
    /// Cursor of `slots[0]`.
    first: Cursor,
    bytes: usize,
    /// Present log epoch; `None` until it is known.
    epoch: Option<Epoch>,
    /// Horizon: events of this epoch up to here are not in the ring.
    horizon: Option<Position>,
    head: Position,
}

impl Ring {
    pub(super) fn new(limits: RingLimits, epoch: Option<Epoch>) -> Self {
        Self {
            limits,
            slots: VecDeque::new(),
            index: TopicIndex::default(),
            resets: VecDeque::new(),
            evicted_reset: 0,
            first: 0,
            bytes: 0,
            epoch,
            horizon: None,
            head: Position::START,
        }
    }

    pub(super) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Head: position up to which the log was read. It also moves over entries that are no events.
    pub(super) const fn head(&self) -> Position {
        self.head
    }

    /// Horizon: events of this epoch up to here are not in the ring.
    pub(super) fn horizon(&self) -> Position {
        self.horizon.unwrap_or(Position::START)
    }

    pub(super) const fn limits(&self) -> RingLimits {
        self.limits
    }

    /// The cursor after the newest event.
    pub(super) fn end(&self) -> Cursor {
        self.first + self.slots.len() as u64
    }

    /// Appends an event, whose position must be after the head.
    pub(super) fn append(&mut self, event: Event, now: Instant) {
        debug_assert!(event.position() > self.head, "positions only grow");
        self.head = event.position();
        let audience = self.index.append(self.end(), event.topics());
        self.push(Slot { content: Content::Event(event), at: now, audience });
    }

    /// Moves the head to `position`, up to which the log has no further events for streams.
    pub(super) fn advance(&mut self, position: Position) {
        self.head = self.head.max(position);
    }

    /// Starts another epoch, or the same one after a loss, at `head`. Open streams still read the
    /// former events and then `reset`, but no client resumes in them.
    pub(super) fn restart(&mut self, epoch: Epoch, head: Position, reset: Option<Bytes>, now: Instant) {
        for slot in &mut self.slots {
            if let Content::Event(event) = &slot.content {
                slot.content = Content::Former(event.clone());
            }
        }
        if let Some(frame) = reset {
            self.resets.push_back(self.end());
            self.push(Slot { content: Content::Reset(frame), at: now, audience: 0 });
        }
        self.epoch = Some(epoch);
        self.horizon = Some(head);
        self.head = head;
    }

    fn push(&mut self, slot: Slot) {
        self.bytes += slot.bytes();
        self.slots.push_back(slot);
        let over = |ring: &Self| ring.slots.len() > ring.limits.entries || ring.bytes > ring.limits.bytes;
        while over(self) && self.slots.len() > 1 {
            if let Some(evicted) = self.slots.pop_front() {
                self.evict(&evicted);
            }
        }
    }

    fn evict(&mut self, slot: &Slot) {
        self.bytes -= slot.bytes();
        match &slot.content {
            Content::Event(event) => {
                self.horizon = Some(event.position());
                self.index.evict(self.first, event.topics());
            }
            Content::Former(event) => self.index.evict(self.first, event.topics()),
            Content::Reset(_) => {
                self.resets.pop_front();
                self.evicted_reset = self.first + 1;
            }
        }
        self.first += 1;
    }

    /// Adds a stream to those that `patterns` are for: events from now on wake it.
    pub(super) fn subscribe(&mut self, patterns: &Patterns, signal: &Arc<Signal>) -> Subscription {
        self.index.subscribe(patterns, signal)
    }

    /// Removes a stream.
    pub(super) fn unsubscribe(&mut self, patterns: &Patterns, subscription: &Subscription) {
        self.index.unsubscribe(patterns, subscription);
    }

    /// Notes the streams to wake since the last call, for [`woken`](Self::woken).
    pub(super) fn take_news(&mut self) -> News {
        self.index.take_news()
    }

    /// The streams to wake.
    pub(super) fn woken(&self, news: &News) -> impl Iterator<Item = &Arc<Signal>> {
        self.index.readers(news)
    }

    /// Reads at `cursor`, for a stream that has subscribed to `patterns`.
    ///
    /// The index finds the next event, and the patterns decide again. An index that is wrong hides
    /// no later event: the stream steps over an event of others, and ends (it resumes) where the
    /// ring does not hold the event.
    pub(super) fn read(&self, patterns: &Patterns, subscription: &Subscription, mut cursor: Cursor) -> Read {
        loop {
            let at = match self.next(subscription, cursor) {
                NextEvent::At(at) => at,
                NextEvent::FellOut => return Read::FellOut,
                NextEvent::None => {
                    let head = EventId { epoch: self.epoch.unwrap_or(Epoch(0)), position: self.head };
                    return Read::CaughtUp { end: self.end(), head };
                }
            };
            let Some(slot) = self.slot(at) else { return Read::FellOut };
            if let Some(frame) = slot.frame_for(patterns) {
                return Read::Frame(Delivery { frame, next: at + 1, at: slot.at, audience: slot.audience });
            }
            cursor = at + 1;
        }
    }

    /// The next event of a stream at or after `cursor`, or the next `reset` frame.
    fn next(&self, subscription: &Subscription, cursor: Cursor) -> NextEvent {
        if self.evicted_reset > cursor {
            return NextEvent::FellOut;
        }
        let reset = self.resets.partition_point(|reset| *reset < cursor);
        let reset = self.resets.get(reset).copied();
        match (self.index.next(subscription, cursor), reset) {
            (NextEvent::At(event), Some(reset)) => NextEvent::At(event.min(reset)),
            (NextEvent::None, Some(reset)) => NextEvent::At(reset),
            (next, _) => next,
        }
    }

    fn slot(&self, at: Cursor) -> Option<&Slot> {
        self.slots.get(usize::try_from(at.checked_sub(self.first)?).ok()?)
    }

    /// The cursor at which a client resumes that has received everything of this epoch up to
    /// `position`; `None` if a later event has left the ring.
    pub(super) fn resume_after(&self, position: Position) -> Option<Cursor> {
        if self.horizon.is_some_and(|horizon| horizon > position) {
            return None;
        }
        // Former events and frames come first and count as received.
        let seen = self.slots.partition_point(|slot| match &slot.content {
            Content::Event(event) => event.position() <= position,
            Content::Former(_) | Content::Reset(_) => true,
        });
        Some(self.first + seen as u64)
    }

    /// The cursor of the first of the last `number` events of the present epoch that `patterns`
    /// match; or, if the ring has fewer, how many are missing. With [`usize::MAX`] all events are
    /// wanted, and none is counted.
    pub(super) fn resume_before_last(&self, patterns: &Patterns, number: usize) -> Result<Cursor, usize> {
        let begin = self.first_of_epoch();
        if self.horizon.is_none() {
            let found = (number < usize::MAX).then(|| self.index.last(patterns, begin, number));
            return Ok(found.and_then(|(cursor, found)| cursor.filter(|_| found == number)).unwrap_or(begin));
        }
        if number == usize::MAX {
            return Err(number);
        }
        match self.index.last(patterns, begin, number) {
            (Some(cursor), found) if found == number => Ok(cursor),
            (_, found) => Err(number - found),
        }
    }

    /// The cursor of the oldest event of the present epoch.
    pub(super) fn first_of_epoch(&self) -> Cursor {
        let former = self.slots.partition_point(|slot| !matches!(slot.content, Content::Event(_)));
        self.first + former as u64
    }

    /// The events of the present epoch.
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.slots.iter().filter_map(|slot| match &slot.content {
            Content::Event(event) => Some(event),
            Content::Former(_) | Content::Reset(_) => None,
        })
    }
}

#[cfg(test)]
mod tests;
