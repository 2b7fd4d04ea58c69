//! A queue of lines with a writer thread, bounded in lines and bytes. Adding a line never blocks.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Bound of the wait for the last lines. A reader that hangs must not keep the process alive.
pub(crate) const FLUSH: Duration = Duration::from_secs(1);
/// Size in bytes at which a batch is complete.
const BATCH: usize = 64 * 1024;

/// Free room, in lines and bytes.
#[derive(Debug)]
pub(crate) struct Room {
    lines: AtomicUsize,
    bytes: AtomicUsize,
}

impl Room {
    pub(crate) fn new(lines: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self { lines: AtomicUsize::new(lines), bytes: AtomicUsize::new(bytes) })
    }

    fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        if !take(&self.lines, 1) {
            return None;
        }
        if !take(&self.bytes, bytes) {
            self.lines.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Reservation { room: Arc::clone(self), bytes })
    }
}

fn take(left: &AtomicUsize, amount: usize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).is_ok()
}

/// Room of a line; dropping it releases the room.
#[derive(Debug)]
struct Reservation {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        self.room.lines.fetch_add(1, Ordering::Relaxed);
    }
}

/// A line with its room in the queue, and in the share of its kind.
type Reservations = (Reservation, Option<Reservation>);

enum Item {
    Line(Vec<u8>, Reservations),
    /// Dropped once all lines before it are written.
    Flush(Sender<Infallible>),
}

/// Sending end. The channel is unbounded; the bound is the room.
#[derive(Debug)]
pub(crate) struct LineQueue {
    room: Arc<Room>,
    items: Sender<Item>,
}

impl LineQueue {
    /// Starts a thread that runs `write`. Its lines end when the queue is dropped.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(
        thread: &str,
        room: Arc<Room>,
        write: impl FnOnce(Lines) + Send + 'static,
    ) -> io::Result<Self> {
        let (items, waiting) = channel();
        std::thread::Builder::new().name(thread.to_owned()).spawn(move || write(Lines(waiting)))?;
        Ok(Self { room, items })
    }

    /// Adds a line; false without room.
    #[must_use]
    pub(crate) fn push(&self, line: Vec<u8>) -> bool {
        self.hand_in(line, None)
    }

    /// Adds a line that also needs room in `share`.
    #[must_use]
    pub(crate) fn push_within(&self, share: &Arc<Room>, line: Vec<u8>) -> bool {
        share.reserve(line.len()).is_some_and(|reservation| self.hand_in(line, Some(reservation)))
    }

    fn hand_in(&self, line: Vec<u8>, share: Option<Reservation>) -> bool {
        let Some(reservation) = self.room.reserve(line.len()) else { return false };
        self.items.send(Item::Line(line, (reservation, share))).is_ok()
    }

    /// Waits until the lines so far are written, at most a second.
    pub(crate) fn flush(&self) {
        self.flush_within(FLUSH);
    }

    fn flush_within(&self, longest: Duration) {
        let (unwritten, written) = channel();
        if self.items.send(Item::Flush(unwritten)).is_ok() {
            // Nothing is sent: this returns when the writer drops the other end.
            let _ = written.recv_timeout(longest);
        }
    }
}

/// Receiving end: an iterator over batches of lines.
pub(crate) struct Lines(Receiver<Item>);

/// Lines to be written at once; they keep their room until the batch is dropped.
#[derive(Default)]
pub(crate) struct Batch {
    /// Whole lines, each with its line end.
    pub(crate) text: Vec<u8>,
    /// Number of lines.
    pub(crate) lines: u64,
    /// Whether the queue was empty after this batch.
    pub(crate) is_last: bool,
    reservations: Vec<Reservations>,
    flushes: Vec<Sender<Infallible>>,
}

impl Batch {
    fn add(&mut self, item: Item) {
        match item {
            Item::Line(line, reservations) => {
                self.text.extend_from_slice(&line);
                self.lines += 1;
                self.reservations.push(reservations);
            }
            Item::Flush(flush) => self.flushes.push(flush),
        }
    }
}

impl Iterator for Lines {
    type Item = Batch;

    /// Waits for a line, and takes all that are queued.
    fn next(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        batch.add(self.0.recv().ok()?);
        while batch.text.len() < BATCH && !batch.is_last {
            match self.0.try_recv() {
                Ok(item) => batch.add(item),
                Err(_) => batch.is_last = true,
            }
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue whose lines nobody takes until the returned end is used.
    fn queue(room: &Arc<Room>) -> (LineQueue, Lines) {
        let (items, waiting) = channel();
        (LineQueue { room: Arc::clone(room), items }, Lines(waiting))
    }

    fn line(bytes: usize) -> Vec<u8> {
        let mut line = vec![b'x'; bytes];
        line[bytes - 1] = b'\n';
        line
    }

    #[test]
    fn a_queue_is_bounded_in_lines() {
        let (queue, mut lines) = queue(&Room::new(3, 1000));
        let taken = (0..5).filter(|_| queue.push(line(10))).count();
        assert_eq!(taken, 3);
        let batch = lines.next().unwrap();
        assert_eq!((batch.lines, batch.text.len(), batch.is_last), (3, 30, true));
        assert!(!queue.push(line(10)), "lines keep their room until they are written");
        drop(batch);
        assert!(queue.push(line(10)));
    }

    #[test]
    fn a_queue_is_bounded_in_bytes() {
        let room = Room::new(1000, 100);
        let (queue, mut lines) = queue(&room);
        let taken = (0..5).filter(|_| queue.push(line(40))).count();
        assert_eq!(taken, 2);
        assert!(queue.push(line(20)), "a shorter line still fits");
        assert!(!queue.push(line(1)));
        drop(lines.next());
        assert_eq!((room.lines.load(Ordering::Relaxed), room.bytes.load(Ordering::Relaxed)), (1000, 100));
        assert!(!queue.push(line(101)), "a line longer than the whole room is never taken");
        assert_eq!(room.lines.load(Ordering::Relaxed), 1000, "a line that is not taken keeps no room");
    }

    #[test]
    fn lines_with_a_share_leave_the_rest_to_others() {
        let (queue, mut lines) = queue(&Room::new(10, 1000));
        let share = Room::new(2, 1000);
        assert_eq!((0..5).filter(|_| queue.push_within(&share, line(10))).count(), 2);
        assert_eq!((0..20).filter(|_| queue.push(line(10))).count(), 8);
        drop(lines.next());
        assert!(queue.push_within(&share, line(10)), "written lines give their share back");
    }

    #[test]
    fn a_flush_returns_once_everything_before_it_is_written() {
        let (written, what_was_written) = channel();
        let write = move |lines: Lines| {
            for batch in lines {
                written.send(batch.text.clone()).unwrap();
            }
        };
        let queue = LineQueue::start("test", Room::new(10, 1000), write).unwrap();
        assert!(queue.push(line(10)) && queue.push(line(20)));
        queue.flush_within(Duration::MAX);
        assert_eq!(what_was_written.try_iter().flatten().count(), 30);
    }

    #[test]
    fn a_flush_does_not_wait_for_ever_for_a_writer_that_hangs() {
        let (release, released) = channel::<Infallible>();
        let write = move |lines: Lines| {
            let _ = released.recv();
            drop(lines);
        };
        let queue = LineQueue::start("test", Room::new(10, 1000), write).unwrap();
        assert!(queue.push(line(10)));
        queue.flush_within(Duration::from_millis(1));
        drop(release);
    }

    #[test]
    fn a_batch_takes_few_lines_at_a_time() {
        let (queue, lines) = queue(&Room::new(1000, 1 << 20));
        for _ in 0..100 {
            assert!(queue.push(line(10_000)));
        }
        drop(queue);
        let batches: Vec<_> = lines.map(|batch| (batch.text.len(), batch.is_last)).collect();
        assert!(batches.iter().all(|(bytes, _)| *bytes < BATCH + 10_000), "{batches:?}");
        assert_eq!(batches.iter().filter(|(_, is_last)| *is_last).count(), 1);
    }
}
