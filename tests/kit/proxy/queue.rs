//! Bytes on their way in one direction.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

/// Some bytes and when they arrive; none at the end.
type Parcel = (Instant, Option<Vec<u8>>);

/// Entry of a path.
#[derive(Clone)]
pub(super) struct Departure(UnboundedSender<Parcel>);

/// Exit of a path.
pub(super) struct Arrival(UnboundedReceiver<Parcel>);

pub(super) fn queue() -> (Departure, Arrival) {
    let (sender, receiver) = unbounded_channel();
    (Departure(sender), Arrival(receiver))
}

impl Departure {
    /// Sends bytes on a way of this length.
    pub(super) fn send(&self, bytes: Vec<u8>, way: Duration) {
        // The other end goes only together with this one; the same below.
        let _ = self.0.send((Instant::now() + way, Some(bytes)));
    }

    /// Says that nothing more comes.
    pub(super) fn end(&self) {
        let _ = self.0.send((Instant::now(), None));
    }
}

impl Arrival {
    /// Writes what arrives, in order and no sooner than it arrives, until the end.
    pub(super) async fn deliver(mut self, mut to: impl AsyncWrite + Unpin) {
        while let Some((arrives, Some(bytes))) = self.0.recv().await {
            if arrives > Instant::now() {
                sleep_until(arrives).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}
