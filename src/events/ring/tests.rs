//! Rings that are filled, read and emptied.

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
            seen.push(text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().parse().unwrap());
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
