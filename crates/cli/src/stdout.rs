//! Standard output of commands without end. A reader that hangs does not prevent the end, and a
//! closed reader ends the command even without output.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe::Sender;

pub(super) struct Stdout(tokio::io::Stdout);

impl Stdout {
    pub(super) fn open() -> Self {
        Self(tokio::io::stdout())
    }

    /// Writes and waits until the data is written.
    pub(super) async fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes()).await?;
        self.0.flush().await
    }
}

/// Resolves when standard output has no reader any more, which is known for pipes only.
pub(super) async fn closed() {
    // Polled through a duplicate descriptor, without making it non-blocking: that would affect
    // every process that writes to the same pipe.
    let watched = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    match watched {
        Ok(pipe) if pipe.ready(Interest::ERROR).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
