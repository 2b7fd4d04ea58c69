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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::frame::EventType;
    use crate::topic::Topics;

    const fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    const EPOCH: Epoch = Epoch(1);

    fn event(n: u64, data: &str, epoch: Epoch) -> Event {
        Event::new(EventId { epoch, position: at(n) }, &EventType::default(), data, Topics::default(), None)
    }

    /// Bytes of an event in the ring, with so many bytes of data.
    fn bytes(data: usize) -> usize {
        event(1, &"x".repeat(data), EPOCH).bytes()
    }

    fn ring(entries: usize, bytes: usize, appended: u64) -> Ring {
        let mut ring = Ring::new(RingLimits { entries, bytes }, Some(EPOCH));
        for n in 1..=appended {
            ring.append(event(n, &n.to_string(), EPOCH), Instant::now());
        }
        ring
    }

    /// Reads as a stream of the topic `default` that was open from the beginning.
    struct Reader {
        patterns: Patterns,
        subscription: Subscription,
    }

    impl Reader {
        fn of(ring: &mut Ring) -> Self {
            let patterns = Patterns::default();
            Self { subscription: ring.subscribe(&patterns, &Arc::default()), patterns }
        }

        fn read(&self, ring: &Ring, cursor: Cursor) -> Read {
            ring.read(&self.patterns, &self.subscription, cursor)
        }

        fn read_all(&self, ring: &Ring, mut cursor: Cursor) -> Vec<u64> {
            let mut seen = Vec::new();
            while let Read::Frame(Delivery { frame, next, .. }) = self.read(ring, cursor) {
                let text = std::str::from_utf8(&frame).unwrap();
                seen.push(
                    text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().parse().unwrap(),
                );
                cursor = next;
            }
            seen
        }
    }

    /// Reads as a stream that opens now.
    fn read_all(ring: &mut Ring, cursor: Cursor) -> Vec<u64> {
        Reader::of(ring).read_all(ring, cursor)
    }

    proptest! {
        #[test]
        fn a_resumed_cursor_reads_all_later_events_unless_one_has_left_the_ring(
            entries in 1_usize..20, appended in 0_u64..50, seen in 0_u64..50,
        ) {
            let mut ring = ring(entries, usize::MAX, appended);
            let evicted = appended.saturating_sub(entries as u64);
            match ring.resume_after(at(seen)) {
                Some(cursor) => {
                    prop_assert!(seen >= evicted);
                    prop_assert_eq!(read_all(&mut ring, cursor), (seen + 1..=appended).collect::<Vec<_>>());
                }
                None => prop_assert!(seen < evicted),
            }
        }

        /// A stream that opens at any moment and reads at any moments gets each event of its topics
        /// once and in order, whatever the ring drops, or finds out that one has left.
        #[test]
        fn a_stream_steps_through_exactly_the_events_of_its_topics(
            entries in 1_usize..12,
            patterns in prop::sample::subsequence(vec!["a", "a/b", "a/*", "a/b/*", "c", "*", "$s/*"], 1..=4),
            steps in prop::collection::vec((prop::sample::select(vec!["a", "a/b", "a/b/c", "c", "d a/b", "$s/o", "c d/e a"]), any::<bool>(), 0_u8..20), 0..60),
        ) {
            let patterns = Patterns::new(patterns).unwrap();
            let mut ring = Ring::new(RingLimits { entries, bytes: usize::MAX }, Some(EPOCH));
            let subscription = ring.subscribe(&patterns, &Arc::default());
            // Cursors of the events that the stream has not read yet.
            let (mut cursor, mut due) = (0, VecDeque::new());
            for (n, (topics, reads, restarts)) in steps.into_iter().enumerate() {
                let topics = Topics::parse(topics).unwrap();
                if restarts == 0 {
                    due.push_back(ring.end());
                    ring.restart(EPOCH, ring.head(), Some(Bytes::from("reset")), Instant::now());
                }
                let is_for_it = patterns.first_match(&topics).is_some();
                if is_for_it {
                    due.push_back(ring.end());
                }
                let id = EventId { epoch: EPOCH, position: at(n as u64 + 1) };
                ring.append(Event::new(id, &EventType::default(), "", topics, None), Instant::now());
                if !reads {
                    continue;
                }
                loop {
                    match ring.read(&patterns, &subscription, cursor) {
                        Read::Frame(delivery) => {
                            prop_assert_eq!(due.pop_front(), Some(delivery.next - 1));
                            cursor = delivery.next;
                        }
                        Read::CaughtUp { end, head } => {
                            prop_assert!(due.is_empty());
                            prop_assert_eq!((end, head), (ring.end(), id));
                            cursor = end;
                            break;
                        }
                        Read::FellOut => {
                            prop_assert!(due.front().is_some_and(|first| *first < ring.first));
                            // As a client does: it opens again, at the oldest event there is.
                            cursor = ring.first;
                            due.retain(|event| *event >= cursor);
                        }
                    }
                }
            }
            ring.unsubscribe(&patterns, &subscription);
            let held: Vec<_> = (ring.first..ring.end()).collect();
            prop_assert!(held.len() <= entries);
        }

        #[test]
        fn the_ring_never_exceeds_its_bounds(entries in 1_usize..10, bound in 1_usize..400, sizes in prop::collection::vec(0_usize..300, 0..60)) {
            let mut ring = Ring::new(RingLimits { entries, bytes: bound }, Some(EPOCH));
            for (n, size) in sizes.into_iter().enumerate() {
                ring.append(event(n as u64 + 1, &"x".repeat(size), EPOCH), Instant::now());
                prop_assert!(ring.slots.len() <= entries);
                prop_assert!(ring.bytes <= bound || ring.slots.len() == 1);
                prop_assert_eq!(ring.bytes, ring.slots.iter().map(Slot::bytes).sum::<usize>());
            }
        }
    }

    #[test]
    fn a_ring_is_used_up_to_its_bounds_and_keeps_an_event_that_exceeds_them() {
        let bound = 2 * bytes(5);
        let mut ring = Ring::new(RingLimits { entries: 3, bytes: bound }, Some(EPOCH));
        ring.append(event(1, "12345", EPOCH), Instant::now());
        ring.append(event(2, "67890", EPOCH), Instant::now());
        assert_eq!((ring.slots.len(), ring.bytes), (2, bound));
        let too_large = event(3, &"x".repeat(bound), EPOCH);
        ring.append(too_large.clone(), Instant::now());
        assert_eq!(ring.slots.len(), 1);
        let reader = Reader::of(&mut ring);
        let frame = too_large.frame_for(&reader.patterns).unwrap();
        assert!(matches!(reader.read(&ring, 2), Read::Frame(delivery) if delivery.frame == frame));
        for n in 4..=9 {
            ring.append(event(n, "", EPOCH), Instant::now());
        }
        assert!((2..=3).contains(&ring.slots.len()));
    }

    #[test]
    fn the_head_moves_over_entries_that_are_no_events_and_never_goes_back() {
        let mut ring = ring(3, usize::MAX, 3);
        for (position, head) in [(7, 7), (5, 7)] {
            ring.advance(at(position));
            assert_eq!(ring.head(), at(head));
        }
    }

    #[test]
    fn a_cursor_whose_event_has_left_is_found_out() {
        let mut ring = ring(3, usize::MAX, 0);
        let reader = Reader::of(&mut ring);
        for n in 1..=5 {
            ring.append(event(n, &n.to_string(), EPOCH), Instant::now());
        }
        assert_eq!(reader.read(&ring, 1), Read::FellOut);
        assert_eq!(reader.read_all(&ring, 2), [3, 4, 5]);
        assert!(matches!(reader.read(&ring, ring.end()), Read::CaughtUp { end: 5, .. }));
    }

    #[test]
    fn an_index_entry_without_a_frame_hides_no_later_event() {
        let mut ring = ring(3, usize::MAX, 0);
        let reader = Reader::of(&mut ring);
        let id = EventId { epoch: EPOCH, position: at(1) };
        let of_another = Topics::parse("another").unwrap();
        ring.append(Event::new(id, &EventType::default(), "1", of_another, None), Instant::now());
        // An index that names an event of another topic.
        ring.index.append(0, &Topics::default());
        ring.append(event(2, "2", EPOCH), Instant::now());
        assert_eq!(reader.read_all(&ring, 0), [2]);
        // An index that names an event which the ring does not hold.
        ring.first = 1;
        assert_eq!(reader.read(&ring, 0), Read::FellOut);
    }

    #[test]
    fn a_new_epoch_is_read_after_what_was_there_and_nobody_resumes_before_it() {
        let new = Epoch(2);
        let mut ring = ring(10, usize::MAX, 3);
        ring.restart(Epoch(2), at(2), Some(Bytes::from("data: 0\n\n")), Instant::now());
        ring.append(event(3, "13", new), Instant::now());
        assert_eq!(
            read_all(&mut ring, 1),
            [2, 3, 0, 13],
            "positions of the old epoch say nothing about the new one"
        );
        assert_eq!(ring.resume_after(at(1)), None);
        let reader = Reader::of(&mut ring);
        assert_eq!(ring.resume_after(at(2)).map(|cursor| reader.read_all(&ring, cursor)), Some(vec![13]));
        assert_eq!(ring.resume_after(at(3)).map(|cursor| reader.read_all(&ring, cursor)), Some(vec![]));
        assert_eq!(ring.events().count(), 1, "what announced the change is no event");
    }

    #[test]
    fn what_leaves_the_ring_of_an_earlier_epoch_moves_no_horizon() {
        let mut ring = ring(3, usize::MAX, 3);
        ring.restart(Epoch(2), Position::START, None, Instant::now());
        for n in 1..=2 {
            ring.append(event(n, &n.to_string(), Epoch(2)), Instant::now());
        }
        assert!(ring.resume_after(Position::START).is_some());
        ring.append(event(3, "3", Epoch(2)), Instant::now());
        ring.append(event(4, "4", Epoch(2)), Instant::now());
        assert!(ring.resume_after(Position::START).is_none());
    }

    #[test]
    fn nobody_resumes_across_what_is_missing_in_the_same_epoch() {
        let mut ring = ring(10, usize::MAX, 3);
        ring.restart(Epoch(1), at(9), Some(Bytes::from("data: 0\n\n")), Instant::now());
        ring.append(event(10, "10", EPOCH), Instant::now());
        assert_eq!(read_all(&mut ring, 2), [3, 0, 10]);
        assert_eq!(ring.resume_after(at(3)), None);
        let reader = Reader::of(&mut ring);
        assert_eq!(ring.resume_after(at(9)).map(|cursor| reader.read_all(&ring, cursor)), Some(vec![10]));
        assert_eq!((ring.horizon(), ring.events().count()), (at(9), 1));
    }
}
