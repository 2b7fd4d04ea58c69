//! The ring: the newest events of an instance, encoded, bounded in number and bytes. No locks, no
//! time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::Event;
use super::id::{Epoch, Position};

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
    /// The event at the cursor.
    Frame(Bytes),
    /// There is no newer event yet.
    CaughtUp,
    /// The event at the cursor has left the ring.
    FellOut,
}

/// Content of the ring at a cursor.
enum Slot {
    Event(Event),
    /// A frame without a position, which open streams read and after which no client resumes: a
    /// `reset`, or an event of another epoch or of before a loss.
    Frame(Bytes),
}

impl Slot {
    const fn frame(&self) -> &Bytes {
        match self {
            Self::Event(event) => event.frame(),
            Self::Frame(frame) => frame,
        }
    }
}

/// The ring.
pub(super) struct Ring {
    limits: RingLimits,
    slots: VecDeque<Slot>,
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
    pub(super) const fn new(limits: RingLimits, epoch: Option<Epoch>) -> Self {
        Self {
            limits,
            slots: VecDeque::new(),
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
    pub(super) fn append(&mut self, event: Event) {
        debug_assert!(event.position() > self.head, "positions only grow");
        self.head = event.position();
        self.push(Slot::Event(event));
    }

    /// Moves the head to `position`, up to which the log has no further events for streams.
    pub(super) fn advance(&mut self, position: Position) {
        self.head = self.head.max(position);
    }

    /// Starts another epoch, or the same one after a loss, at `head`. Open streams still read the
    /// former events and then `announcement`, but no client resumes in them.
    pub(super) fn restart(&mut self, epoch: Epoch, head: Position, announcement: Option<Bytes>) {
        for slot in &mut self.slots {
            *slot = Slot::Frame(slot.frame().clone());
        }
        if let Some(frame) = announcement {
            self.push(Slot::Frame(frame));
        }
        self.epoch = Some(epoch);
        self.horizon = Some(head);
        self.head = head;
    }

    fn push(&mut self, slot: Slot) {
        self.bytes += slot.frame().len();
        self.slots.push_back(slot);
        let over = |ring: &Self| ring.slots.len() > ring.limits.entries || ring.bytes > ring.limits.bytes;
        while over(self) && self.slots.len() > 1 {
            if let Some(evicted) = self.slots.pop_front() {
                self.bytes -= evicted.frame().len();
                if let Slot::Event(event) = evicted {
                    self.horizon = Some(event.position());
                }
                self.first += 1;
            }
        }
    }

    /// Reads at `cursor`.
    pub(super) fn read(&self, cursor: Cursor) -> Read {
        let Some(offset) = cursor.checked_sub(self.first) else {
            return Read::FellOut;
        };
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.slots.get(offset))
            .map_or(Read::CaughtUp, |slot| Read::Frame(slot.frame().clone()))
    }

    /// The cursor at which a client resumes that has received everything of this epoch up to
    /// `position`; `None` if a later event has left the ring.
    pub(super) fn resume_after(&self, position: Position) -> Option<Cursor> {
        if self.horizon.is_some_and(|horizon| horizon > position) {
            return None;
        }
        // Frames come first and count as received.
        let seen = self.slots.partition_point(|slot| match slot {
            Slot::Event(event) => event.position() <= position,
            Slot::Frame(_) => true,
        });
        Some(self.first + seen as u64)
    }

    /// The events of the present epoch.
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Event(event) => Some(event),
            Slot::Frame(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::frame::EventType;
    use crate::events::id::EventId;

    const fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    const EPOCH: Epoch = Epoch(1);

    fn event(n: u64, data: &str, epoch: Epoch) -> Event {
        Event::new(EventId { epoch, position: at(n) }, &EventType::default(), data, None)
    }

    /// Bytes of an event in the ring, with so many bytes of data.
    fn bytes(data: usize) -> usize {
        event(1, &"x".repeat(data), EPOCH).frame().len()
    }

    fn ring(entries: usize, bytes: usize, appended: u64) -> Ring {
        let mut ring = Ring::new(RingLimits { entries, bytes }, Some(EPOCH));
        for n in 1..=appended {
            ring.append(event(n, &n.to_string(), EPOCH));
        }
        ring
    }

    fn read_all(ring: &Ring, mut cursor: Cursor) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Read::Frame(frame) = ring.read(cursor) {
            let text = std::str::from_utf8(&frame).unwrap();
            seen.push(text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().parse().unwrap());
            cursor += 1;
        }
        seen
    }

    proptest! {
        #[test]
        fn a_resumed_cursor_reads_all_later_events_unless_one_has_left_the_ring(
            entries in 1_usize..20, appended in 0_u64..50, seen in 0_u64..50,
        ) {
            let ring = ring(entries, usize::MAX, appended);
            let evicted = appended.saturating_sub(entries as u64);
            match ring.resume_after(at(seen)) {
                Some(cursor) => {
                    prop_assert!(seen >= evicted);
                    prop_assert_eq!(read_all(&ring, cursor), (seen + 1..=appended).collect::<Vec<_>>());
                }
                None => prop_assert!(seen < evicted),
            }
        }

        #[test]
        fn the_ring_never_exceeds_its_bounds(entries in 1_usize..10, bound in 1_usize..400, sizes in prop::collection::vec(0_usize..300, 0..60)) {
            let mut ring = Ring::new(RingLimits { entries, bytes: bound }, Some(EPOCH));
            for (n, size) in sizes.into_iter().enumerate() {
                ring.append(event(n as u64 + 1, &"x".repeat(size), EPOCH));
                prop_assert!(ring.slots.len() <= entries);
                prop_assert!(ring.bytes <= bound || ring.slots.len() == 1);
                prop_assert_eq!(ring.bytes, ring.slots.iter().map(|slot| slot.frame().len()).sum::<usize>());
            }
        }
    }

    #[test]
    fn a_ring_is_used_up_to_its_bounds_and_keeps_an_event_that_exceeds_them() {
        let bound = 2 * bytes(5);
        let mut ring = Ring::new(RingLimits { entries: 3, bytes: bound }, Some(EPOCH));
        ring.append(event(1, "12345", EPOCH));
        ring.append(event(2, "67890", EPOCH));
        assert_eq!((ring.slots.len(), ring.bytes), (2, bound));
        let too_large = event(3, &"x".repeat(bound), EPOCH);
        ring.append(too_large.clone());
        assert_eq!(ring.slots.len(), 1);
        assert_eq!(ring.read(2), Read::Frame(too_large.frame().clone()));
        for n in 4..=9 {
            ring.append(event(n, "", EPOCH));
        }
        assert!((2..=3).contains(&ring.slots.len()));
    }

    #[test]
    fn the_head_also_moves_over_entries_that_are_no_events_and_never_goes_back() {
        let mut ring = ring(3, usize::MAX, 3);
        for (position, head) in [(7, 7), (5, 7)] {
            ring.advance(at(position));
            assert_eq!(ring.head(), at(head));
        }
    }

    #[test]
    fn a_cursor_whose_event_left_the_ring_is_noticed() {
        let ring = ring(3, usize::MAX, 5);
        assert_eq!(ring.read(1), Read::FellOut);
        assert_eq!(read_all(&ring, 2), [3, 4, 5]);
        assert_eq!(ring.read(ring.end()), Read::CaughtUp);
    }

    #[test]
    fn a_new_epoch_is_read_after_what_was_there_and_nobody_resumes_before_it() {
        let new = Epoch(2);
        let mut ring = ring(10, usize::MAX, 3);
        ring.restart(Epoch(2), at(2), Some(Bytes::from("data: 0\n\n")));
        ring.append(event(3, "13", new));
        assert_eq!(
            read_all(&ring, 1),
            [2, 3, 0, 13],
            "positions of the old epoch say nothing about the new one"
        );
        assert_eq!(ring.resume_after(at(1)), None);
        assert_eq!(ring.resume_after(at(2)).map(|cursor| read_all(&ring, cursor)), Some(vec![13]));
        assert_eq!(ring.resume_after(at(3)).map(|cursor| read_all(&ring, cursor)), Some(vec![]));
        assert_eq!(ring.events().count(), 1, "what announced the change is no event");
    }

    #[test]
    fn what_leaves_the_ring_of_an_earlier_epoch_moves_no_horizon() {
        let mut ring = ring(3, usize::MAX, 3);
        ring.restart(Epoch(2), Position::START, None);
        for n in 1..=2 {
            ring.append(event(n, &n.to_string(), Epoch(2)));
        }
        assert!(ring.resume_after(Position::START).is_some());
        ring.append(event(3, "3", Epoch(2)));
        ring.append(event(4, "4", Epoch(2)));
        assert!(ring.resume_after(Position::START).is_none());
    }

    #[test]
    fn nobody_resumes_across_what_is_missing_in_the_same_epoch() {
        let mut ring = ring(10, usize::MAX, 3);
        ring.restart(Epoch(1), at(9), Some(Bytes::from("data: 0\n\n")));
        ring.append(event(10, "10", EPOCH));
        assert_eq!(read_all(&ring, 2), [3, 0, 10]);
        assert_eq!(ring.resume_after(at(3)), None);
        assert_eq!(ring.resume_after(at(9)).map(|cursor| read_all(&ring, cursor)), Some(vec![10]));
        assert_eq!((ring.horizon(), ring.events().count()), (at(9), 1));
    }
}
