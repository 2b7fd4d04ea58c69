//! The file of the audit trail. A separate thread appends to it, so that no request waits for a
//! disk. It is opened again after log rotation has moved it away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::telemetry::{LineQueue, Lines, Room};

/// Bound of the lines that wait for the disk. Further ones are dropped and counted.
pub(super) const MOST_LINES: usize = 65_536;
/// Bound of their bytes.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Fraction (an eighth) of both that lines of refused principals and requests may take, because
/// anybody can cause them.
pub(super) const REFUSALS: usize = 8;
/// Interval of the check whether the file was moved.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// An open file.
pub(super) struct AuditFile {
    lines: LineQueue,
    refusals: Arc<Room>,
    metrics: Arc<Metrics>,
}

impl AuditFile {
    pub(super) fn open(path: PathBuf, metrics: Arc<Metrics>) -> io::Result<Self> {
        let file = append_to(&path)?;
        let writer =
            Writer { path, file, looked: Instant::now(), metrics: Arc::clone(&metrics), failing: false };
        Self::written_by(metrics, |lines| writer.run(lines))
    }

    /// A file that `write` writes, on a separate thread.
    pub(super) fn written_by(
        metrics: Arc<Metrics>,
        write: impl FnOnce(Lines) + Send + 'static,
    ) -> io::Result<Self> {
        let lines = LineQueue::start("audit", Room::new(MOST_LINES, MOST_BYTES), write)?;
        Ok(Self { lines, refusals: Room::new(MOST_LINES / REFUSALS, MOST_BYTES / REFUSALS), metrics })
    }

    /// Appends the line of an act.
    pub(super) fn append(&self, line: Vec<u8>) {
        if !self.lines.push(line) {
            self.metrics.audit_lines_lost(1);
        }
    }

    /// Appends the line of a refusal, within its share.
    pub(super) fn append_refusal(&self, line: Vec<u8>) {
        if !self.lines.push_within(&self.refusals, line) {
            self.metrics.audit_lines_lost(1);
        }
    }

    /// Waits until the appended lines are written, at most a second.
    pub(super) fn flush(&self) {
        self.lines.flush();
    }
}

/// Readable by owner and group only: it contains addresses of clients.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

struct Writer {
    path: PathBuf,
    file: File,
    looked: Instant,
    metrics: Arc<Metrics>,
    failing: bool,
}

impl Writer {
    fn run(mut self, lines: Lines) {
        for mut batch in lines.filter(|batch| batch.lines > 0) {
            if self.failing {
                // A failed write may have written a part.
                batch.text.insert(0, b'\n');
            }
            // One write for the whole batch: another process that appends never splits a line.
            let written = self.file_of_that_name().and_then(|()| self.file.write_all(&batch.text));
            match written {
                Ok(()) if self.failing => {
                    self.failing = false;
                    tracing::info!(file = %self.path.display(), "the audit trail is written again");
                }
                Ok(()) => {}
                Err(error) => {
                    self.metrics.audit_lines_lost(batch.lines);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(
                            file = %self.path.display(),
                            %error,
                            "the audit trail cannot be written, so its lines are lost; check that the disk has room and that this user may write there"
                        );
                    }
                }
            }
        }
    }

    /// Opens the file again if its name leads to another file or to none.
    fn file_of_that_name(&mut self) -> io::Result<()> {
        if self.looked.elapsed() >= BETWEEN_LOOKS || self.failing {
            self.looked = Instant::now();
            let identity = |about: &std::fs::Metadata| (about.dev(), about.ino());
            let named = std::fs::metadata(&self.path).ok().as_ref().map(identity);
            if named != Some(identity(&self.file.metadata()?)) {
                self.file = append_to(&self.path)?;
            }
        }
        Ok(())
    }
}
