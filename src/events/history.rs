//! History: what a stream asks the log for when its client was away for longer than the ring
//! reaches back.

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use super::entry::Entry;
use super::id::Position;
use crate::token::TokenId;

/// An answer of the log.
#[derive(Debug)]
pub(super) enum Page {
    /// The next events, as many as are read at once.
    Events(Events),
    /// Some of those that follow are no longer kept, or cannot be read by this version.
    Expired,
}

/// Events from the log, in order.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) entries: Vec<Entry>,
    /// The position reached; none where the log has nothing newer.
    pub(super) read_to: Option<Position>,
    /// The page's share of the bytes that pages may take, kept until its last event is sent; none
    /// where nobody counts.
    pub(super) held: Option<OwnedSemaphorePermit>,
}

/// The log cannot be asked at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreachable;

/// A log that reaches further back than the ring, and that other instances write to.
#[async_trait]
pub(super) trait History: Send + Sync {
    /// The events after `position`, for a stream that `token` opened. Waits for its turn: streams
    /// of one token read one after the other.
    async fn after(&self, position: Position, token: Option<TokenId>) -> Result<Page, Unreachable>;
}
