//! The ring: the newest events of an instance, encoded, bounded in number and bytes. No locks, no
//! time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::id::{Epoch, Position};
use super::publication::KeyDigest;

/// Bounds of the ring.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Bound in events.
    pub entries: usize,
    /// Bound in bytes of encoded frames. One event is always kept, whatever its size.
    pub bytes: usize,
}

/// Position of a stream: the number of events that were appended before the next one it reads.
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

/// An event in the ring.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) position: Position,
    pub(super) frame: Bytes,
    /// The key under which the event was published.
    pub(super) key: Option<KeyDigest>,
    /// Log epoch; `None` for events of a former epoch and for announcements of the instance.
    pub(super) epoch: Option<Epoch>,
}

/// The ring.
pub(super) struct Ring {
    limits: RingLimits,
    kept: VecDeque<Kept>,
    /// Cursor of `kept[0]`.
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
            kept: VecDeque::new(),
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

    /// Position of the newest event.
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
        self.first + self.kept.len() as u64
    }

    /// Appends an event, whose position must be after the head.
    pub(super) fn append(&mut self, event: Kept) {
        debug_assert!(event.position > self.head, "positions only grow");
        self.head = event.position;
        self.push(event);
    }

    /// Moves the head to `position`, up to which the log has no further events for streams.
    pub(super) fn advance(&mut self, position: Position) {
        self.head = self.head.max(position);
    }

    /// Starts another epoch, or the same one after a loss, at `head`. Open streams still read the
    /// former events and then `announcement`, but no client resumes in them.
    pub(super) fn begin_anew(&mut self, epoch: Epoch, head: Position, announcement: Option<Bytes>) {
        self.kept.iter_mut().for_each(|kept| kept.epoch = None);
        if let Some(frame) = announcement {
            self.push(Kept { position: head, frame, key: None, epoch: None });
        }
        self.epoch = Some(epoch);
        self.horizon = Some(head);
        self.head = head;
    }

    fn push(&mut self, event: Kept) {
        self.bytes += event.frame.len();
        self.kept.push_back(event);
        let over = |ring: &Self| ring.kept.len() > ring.limits.entries || ring.bytes > ring.limits.bytes;
        while over(self) && self.kept.len() > 1 {
            if let Some(evicted) = self.kept.pop_front() {
                self.bytes -= evicted.frame.len();
                if evicted.epoch == self.epoch {
                    self.horizon = Some(evicted.position);
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
            .and_then(|offset| self.kept.get(offset))
            .map_or(Read::CaughtUp, |kept| Read::Frame(kept.frame.clone()))
    }

    /// The cursor at which a client resumes that has received everything of this epoch up to
    /// `position`; `None` if a later event has left the ring.
    pub(super) fn resume_after(&self, position: Position) -> Option<Cursor> {
        if self.horizon.is_some_and(|horizon| horizon > position) {
            return None;
        }
        // Events of a former epoch come first and count as received: their positions are not
        // comparable.
        let seen = self.kept.partition_point(|kept| kept.epoch != self.epoch || kept.position <= position);
        Some(self.first + seen as u64)
    }

    /// The events of the present epoch.
    pub(super) fn events(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().filter(|kept| kept.epoch.is_some() && kept.epoch == self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    const EPOCH: Option<Epoch> = Some(Epoch(1));

    fn event(n: u64, frame: impl Into<Bytes>, epoch: Option<Epoch>) -> Kept {
        Kept { position: at(n), frame: frame.into(), key: None, epoch }
    }

    fn ring(entries: usize, bytes: usize, appended: u64) -> Ring {
        let mut ring = Ring::new(RingLimits { entries, bytes }, EPOCH);
        for n in 1..=appended {
            ring.append(event(n, n.to_string(), EPOCH));
        }
        ring
    }

    fn read_all(ring: &Ring, mut cursor: Cursor) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Read::Frame(frame) = ring.read(cursor) {
            seen.push(std::str::from_utf8(&frame).unwrap().parse().unwrap());
            cursor += 1;
        }
        seen
    }

    proptest! {
        #[test]
        fn a_resumed_cursor_sees_exactly_what_came_after_or_is_told_of_the_gap(
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
        fn the_ring_never_exceeds_its_bounds(entries in 1_usize..10, bytes in 1_usize..40, sizes in prop::collection::vec(0_usize..30, 0..60)) {
            let mut ring = Ring::new(RingLimits { entries, bytes }, EPOCH);
            for (n, size) in sizes.into_iter().enumerate() {
                ring.append(event(n as u64 + 1, vec![b'x'; size], EPOCH));
                prop_assert!(ring.kept.len() <= entries);
                prop_assert!(ring.bytes <= bytes || ring.kept.len() == 1);
                prop_assert_eq!(ring.bytes, ring.kept.iter().map(|kept| kept.frame.len()).sum::<usize>());
            }
        }
    }

    #[test]
    fn a_ring_is_used_up_to_its_bounds_and_keeps_an_event_that_exceeds_them() {
        let mut ring = Ring::new(RingLimits { entries: 3, bytes: 10 }, EPOCH);
        ring.append(event(1, "12345", EPOCH));
        ring.append(event(2, "67890", EPOCH));
        assert_eq!((ring.kept.len(), ring.bytes), (2, 10));
        let too_large = "x".repeat(11);
        ring.append(event(3, too_large.clone(), EPOCH));
        assert_eq!(ring.kept.len(), 1);
        assert_eq!(ring.read(2), Read::Frame(Bytes::from(too_large)));
        for n in 4..=9 {
            ring.append(event(n, "1", EPOCH));
        }
        assert_eq!(ring.kept.len(), 3);
    }

    #[test]
    fn the_head_follows_what_stands_in_the_log_without_an_event_and_never_goes_back() {
        let mut ring = ring(3, usize::MAX, 3);
        for (position, head) in [(7, 7), (5, 7)] {
            ring.advance(at(position));
            assert_eq!(ring.head(), at(head));
        }
    }

    #[test]
    fn a_cursor_that_fell_out_is_told_so() {
        let ring = ring(3, usize::MAX, 5);
        assert_eq!(ring.read(1), Read::FellOut);
        assert_eq!(read_all(&ring, 2), [3, 4, 5]);
        assert_eq!(ring.read(ring.end()), Read::CaughtUp);
    }

    #[test]
    fn a_new_epoch_is_read_after_what_was_there_and_nobody_resumes_before_it() {
        let new = Some(Epoch(2));
        let mut ring = ring(10, usize::MAX, 3);
        ring.begin_anew(Epoch(2), at(2), Some(Bytes::from("0")));
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
        ring.begin_anew(Epoch(2), Position::START, None);
        for n in 1..=2 {
            ring.append(event(n, n.to_string(), Some(Epoch(2))));
        }
        assert!(ring.resume_after(Position::START).is_some());
        ring.append(event(3, "3", Some(Epoch(2))));
        ring.append(event(4, "4", Some(Epoch(2))));
        assert!(ring.resume_after(Position::START).is_none());
    }

    #[test]
    fn nobody_resumes_across_what_is_missing_in_the_same_epoch() {
        let mut ring = ring(10, usize::MAX, 3);
        ring.begin_anew(Epoch(1), at(9), Some(Bytes::from("0")));
        ring.append(event(10, "10", EPOCH));
        assert_eq!(read_all(&ring, 2), [3, 0, 10]);
        assert_eq!(ring.resume_after(at(3)), None);
        assert_eq!(ring.resume_after(at(9)).map(|cursor| read_all(&ring, cursor)), Some(vec![10]));
        assert_eq!((ring.horizon(), ring.events().count()), (at(9), 1));
    }
}
