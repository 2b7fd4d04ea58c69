//! Standard error behind a bounded queue: a reader that hangs costs log lines and nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::queue::{LineQueue, Lines, Room};

/// Bound of the lines that wait for the reader. Further ones are dropped and counted.
const MOST_LINES: usize = 8192;
/// Bound of their bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Dropped lines since the last call of [`take_lost_lines`]. Static, because the log starts before
/// the metrics.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Number of dropped log lines since the last call.
#[must_use]
pub fn take_lost_lines() -> u64 {
    LOST.swap(0, Ordering::Relaxed)
}

/// The log of the process. Dropping it waits until its lines are written, at most a second.
pub struct Log(Arc<LogLines>);

impl Log {
    /// Starts the thread that writes lines to `to`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let unreported = Arc::new(AtomicU64::new(0));
        let of_writer = Arc::clone(&unreported);
        let write = move |lines: Lines| write(lines, to, &of_writer);
        let queue = LineQueue::start("log", Room::new(MOST_LINES, MOST_BYTES), write)?;
        Ok(Self(Arc::new(LogLines { queue, unreported })))
    }

    /// The writer for [`subscriber`](super::subscriber).
    #[must_use]
    pub fn lines(&self) -> Arc<LogLines> {
        Arc::clone(&self.0)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.queue.flush();
    }
}

/// Receives log lines, each in one write. Never blocks and never fails: lines without room are
/// dropped and counted.
#[derive(Debug)]
pub struct LogLines {
    queue: LineQueue,
    /// Dropped lines that no log line has reported yet.
    unreported: Arc<AtomicU64>,
}

impl Write for &LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.queue.push(line.to_vec()) {
            count_lost(&self.unreported, 1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn count_lost(unreported: &AtomicU64, lines: u64) {
    LOST.fetch_add(lines, Ordering::Relaxed);
    unreported.fetch_add(lines, Ordering::Relaxed);
}

fn write(lines: Lines, mut to: impl Write, unreported: &AtomicU64) {
    for batch in lines {
        let is_written = to.write_all(&batch.text).is_ok();
        let (count, is_last) = (batch.lines, batch.is_last);
        // Releases its room, which the report may need.
        drop(batch);
        if !is_written {
            count_lost(unreported, count);
        } else if is_last {
            // A report needs a write that succeeded: with a closed reader reports would otherwise
            // never end.
            let lost = unreported.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!(lost, "log lines were lost: their reader did not take them in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes nothing before it may, as a collector of logs that hangs.
    struct Reader {
        may_read: Receiver<()>,
        read: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            // Fails once the test allows everything from now on.
            let _ = self.may_read.recv();
            self.read.send(text.to_vec()).map_err(io::Error::other)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_without_room_are_lost_and_counted_and_nobody_waits() {
        let (allow, may_read) = channel();
        let (read, was_read) = channel();
        let log = Log::start(Reader { may_read, read }).unwrap();
        let lines = log.lines();
        let mut writer: &LogLines = &lines;
        for _ in 0..MOST_LINES + 100 {
            writer.write_all(b"a line\n").unwrap();
        }
        assert_eq!(lines.unreported.load(Ordering::Relaxed), 100);
        drop(allow);
        let mut text = Vec::new();
        while text.len() < MOST_LINES * b"a line\n".len() {
            text.extend(was_read.recv().unwrap());
        }
        assert_eq!(text, b"a line\n".repeat(MOST_LINES));
        // Ends when the loss has been reported.
        while lines.unreported.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        drop(log);
    }
}
