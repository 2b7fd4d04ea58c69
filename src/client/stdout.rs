//! Standard output of a command that may run for ever: a reader that does not read must not keep it
//! from being told to end, and one that has gone ends it, even when there is nothing to write.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe::Sender;

pub(super) struct Stdout(tokio::io::Stdout);

impl Stdout {
    pub(super) fn open() -> Self {
        Self(tokio::io::stdout())
    }

    /// Writes and waits until it is out.
    pub(super) async fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes()).await?;
        self.0.flush().await
    }
}

/// Resolves when nobody can read standard output any more. Only of a pipe that can be known, and of
/// no file.
pub(super) async fn closed() {
    // Only looked at, through a descriptor of our own, and left as it is: to make it one that never
    // blocks would do so for everyone who writes to the same pipe.
    let watched = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    match watched {
        Ok(pipe) if pipe.ready(Interest::ERROR).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
