//! The signals that end a command.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Installs handlers of SIGTERM and SIGINT; from now on neither signal kills the process. Resolves
/// with the first of them.
pub(super) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
