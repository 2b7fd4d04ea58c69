//! The log beyond the ring, for streams in catch-up.

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use super::event::Entry;
use super::id::Position;
use crate::token::TokenId;

/// Answer of the log to a stream in catch-up.
#[derive(Debug)]
pub(super) enum Page {
    /// The next events, bounded in bytes.
    Events(Events),
    /// The next event was trimmed, or cannot be read by this version.
    Expired,
}

/// A page of events, in order.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) entries: Vec<Entry>,
    /// Position reached; `None` at the tail of the log.
    pub(super) read_to: Option<Position>,
    /// Reservation for the bytes of the page, held until its last event is sent. `None` in tests.
    pub(super) held: Option<OwnedSemaphorePermit>,
}

/// The log is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreachable;

/// A shared log that reaches further back than the ring.
#[async_trait]
pub(super) trait History: Send + Sync {
    /// The events after `position`, for a stream that `token` opened. Waits for the token's turn:
    /// streams of one token read one after the other.
    ///
    /// # Errors
    /// The log is unavailable.
    async fn after(&self, position: Position, token: Option<TokenId>) -> Result<Page, Unreachable>;
}
