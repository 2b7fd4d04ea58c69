//! The reader of a program's log: like a container engine or journald it reads lines from a pipe
//! and writes them to a file. A test can make it hang; the pipe then fills up, and the program
//! blocks.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::io::ioctl_fionread;

/// Read at once.
const CHUNK: usize = 16 * 1024;

/// A thread that reads until the last writer is gone.
#[derive(Clone)]
pub struct LogReader {
    hanging: Arc<(Mutex<bool>, Condvar)>,
    pipe: Arc<PipeReader>,
}

impl LogReader {
    /// Reads from `pipe` and appends to `log`.
    pub(super) fn start(pipe: PipeReader, mut log: File) -> Self {
        let reader = Self { hanging: Arc::default(), pipe: Arc::new(pipe) };
        let own = reader.clone();
        std::thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(move || {
                let mut chunk = vec![0; CHUNK];
                loop {
                    own.wait_while_hanging();
                    match own.pipe.as_ref().read(&mut chunk) {
                        Ok(0) | Err(_) => return,
                        Ok(read) => log.write_all(&chunk[..read]).expect("the log can be written"),
                    }
                }
            })
            .expect("a thread can be started");
        reader
    }

    /// Takes nothing from the pipe any more, but for what it is taking now.
    pub fn hang(&self) {
        self.set(true);
    }

    /// Reads again.
    pub fn go_on(&self) {
        self.set(false);
    }

    /// Bytes in the pipe. A pipe holds 64 KiB.
    #[must_use]
    pub fn unread(&self) -> u64 {
        ioctl_fionread(self.pipe.as_ref()).expect("a pipe knows what it holds")
    }

    fn set(&self, hangs: bool) {
        let (hanging, changed) = &*self.hanging;
        *hanging.lock().unwrap_or_else(PoisonError::into_inner) = hangs;
        changed.notify_all();
    }

    fn wait_while_hanging(&self) {
        let (hanging, changed) = &*self.hanging;
        let hangs = hanging.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_while(hangs, |hangs| *hangs));
    }
}
