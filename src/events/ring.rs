//! The last events, encoded, bounded in number and bytes. Pure: no locks, no time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::id::Position;

/// Bounds of the ring.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Most events kept.
    pub entries: usize,
    /// Most bytes of encoded frames kept. One event is always kept, whatever its size.
    pub bytes: usize,
}

/// How many events were appended before the one a stream reads next.
pub(super) type Cursor = u64;

/// What a cursor finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The event at the cursor.
    Frame(Bytes),
    /// Nothing newer yet.
    CaughtUp,
    /// The event at the cursor has left the ring.
    FellOut,
}

/// The ring.
pub(super) struct Ring {
    limits: RingLimits,
    frames: VecDeque<(Position, Bytes)>,
    /// Cursor of `frames[0]`.
    first: Cursor,
    bytes: usize,
    /// The newest event that has left the ring.
    last_evicted: Option<Position>,
    head: Position,
}

impl Ring {
    pub(super) const fn new(limits: RingLimits) -> Self {
        Self {
            limits,
            frames: VecDeque::new(),
            first: 0,
            bytes: 0,
            last_evicted: None,
            head: Position::START,
        }
    }

    /// The newest event's position.
    pub(super) const fn head(&self) -> Position {
        self.head
    }

    /// The cursor behind the newest event.
    pub(super) fn end(&self) -> Cursor {
        self.first + self.frames.len() as u64
    }

    /// Appends a frame; `position` must lie after the head.
    pub(super) fn append(&mut self, position: Position, frame: Bytes) {
        debug_assert!(position > self.head, "positions only grow");
        self.bytes += frame.len();
        self.head = position;
        self.frames.push_back((position, frame));
        let over = |ring: &Self| ring.frames.len() > ring.limits.entries || ring.bytes > ring.limits.bytes;
        while over(self) && self.frames.len() > 1 {
            if let Some((evicted, frame)) = self.frames.pop_front() {
                self.first += 1;
                self.bytes -= frame.len();
                self.last_evicted = Some(evicted);
            }
        }
    }

    /// The event at `cursor`.
    pub(super) fn read(&self, cursor: Cursor) -> Read {
        let Some(offset) = cursor.checked_sub(self.first) else {
            return Read::FellOut;
        };
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.frames.get(offset))
            .map_or(Read::CaughtUp, |(_, frame)| Read::Frame(frame.clone()))
    }

    /// The cursor at which a client continues that has seen everything up to `position`; `None` when something
    /// it has not seen has left the ring.
    pub(super) fn resume_after(&self, position: Position) -> Option<Cursor> {
        if self.last_evicted.is_some_and(|evicted| evicted > position) {
            return None;
        }
        let seen = self.frames.partition_point(|(at, _)| *at <= position);
        Some(self.first + seen as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    fn ring(entries: usize, bytes: usize, appended: u64) -> Ring {
        let mut ring = Ring::new(RingLimits { entries, bytes });
        for n in 1..=appended {
            ring.append(at(n), Bytes::from(n.to_string()));
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
            let mut ring = Ring::new(RingLimits { entries, bytes });
            for (n, size) in sizes.into_iter().enumerate() {
                ring.append(at(n as u64 + 1), Bytes::from(vec![b'x'; size]));
                prop_assert!(ring.frames.len() <= entries);
                prop_assert!(ring.bytes <= bytes || ring.frames.len() == 1);
                prop_assert_eq!(ring.bytes, ring.frames.iter().map(|(_, frame)| frame.len()).sum::<usize>());
            }
        }
    }

    #[test]
    fn a_cursor_that_fell_out_is_told_so() {
        let ring = ring(3, usize::MAX, 5);
        assert_eq!(ring.read(1), Read::FellOut);
        assert_eq!(read_all(&ring, 2), [3, 4, 5]);
        assert_eq!(ring.read(ring.end()), Read::CaughtUp);
    }
}
