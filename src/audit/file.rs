//! The file of the audit trail: appended to by a thread of its own, so that no request waits for a
//! disk, and opened anew when whoever rotates logs has moved it away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::telemetry::{LineQueue, Lines, Room};

/// Most lines that wait for the disk. Further ones are lost and counted.
pub(super) const MOST_LINES: usize = 65_536;
/// Most bytes of them.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Part of both that lines of refused principals may take: anybody can cause those.
pub(super) const REFUSALS: usize = 8;
/// Between two looks whether the file is still the one of that name.
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

    /// A file that `write` writes, on a thread of its own.
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

    /// Appends the line of a refusal, which takes no room that acts need.
    pub(super) fn append_refusal(&self, line: Vec<u8>) {
        if !self.lines.push_within(&self.refusals, line) {
            self.metrics.audit_lines_lost(1);
        }
    }

    /// Waits until what was appended is written, a second at most.
    pub(super) fn flush(&self) {
        self.lines.flush();
    }
}

/// Readable by its owner and group: it says who did what from where.
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
                // What failed may have been written in part.
                batch.text.insert(0, b'\n');
            }
            // One write for the whole batch. A line is never cut in two by another process that
            // appends.
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
                            "the audit trail cannot be written and its lines are lost; is there room on the disk, and may this user write there?"
                        );
                    }
                }
            }
        }
    }

    /// Opens the file anew where another, or none, has its name by now.
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
