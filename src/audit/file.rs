//! The file of the audit trail: appended to by a thread of its own, so that no request waits for a disk, and opened anew
//! when whoever rotates logs has moved it away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;

/// Lines that wait for the disk; more are lost, and counted.
const MOST_WAITING: usize = 65_536;
/// Between two looks whether the file is still the one of that name.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// An open file. What was given to it is written when it is dropped.
pub(super) struct AuditFile {
    lines: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
    metrics: Arc<Metrics>,
}

impl AuditFile {
    pub(super) fn open(path: PathBuf, metrics: Arc<Metrics>) -> io::Result<Self> {
        let file = append_to(&path)?;
        let (lines, waiting) = sync_channel(MOST_WAITING);
        let writer =
            Writer { path, file, looked: Instant::now(), metrics: Arc::clone(&metrics), failing: false };
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run(waiting))?;
        Ok(Self { lines: Some(lines), writer: Some(writer), metrics })
    }

    pub(super) fn append(&self, line: Vec<u8>) {
        let taken = self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        if !taken {
            self.metrics.audit_line_lost();
        }
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        // The thread ends with the last line.
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
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
    #[expect(clippy::needless_pass_by_value, reason = "the thread owns its end of the channel")]
    fn run(mut self, lines: Receiver<Vec<u8>>) {
        while let Ok(mut text) = lines.recv() {
            let mut count = 1;
            if self.failing {
                // What failed may have been written in part.
                text.insert(0, b'\n');
            }
            // One write for all that wait. A line is never cut in two by another process that appends.
            while let Ok(more) = lines.try_recv() {
                text.extend_from_slice(&more);
                count += 1;
            }
            let written = self.file_of_that_name().and_then(|()| self.file.write_all(&text));
            match written {
                Ok(()) if self.failing => {
                    self.failing = false;
                    tracing::info!(file = %self.path.display(), "the audit trail is written again");
                }
                Ok(()) => {}
                Err(error) => {
                    (0..count).for_each(|_| self.metrics.audit_line_lost());
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
