//! What a stream asks the log for when its client was away for longer than the ring reaches back.

use async_trait::async_trait;

use super::entry::Entry;
use super::id::Position;

/// Events from the log, in order.
#[derive(Debug)]
pub(super) enum Page {
    /// Those that follow, as many as are read in one go, and how far that is. Nowhere: the log has nothing newer.
    Events(Vec<Entry>, Option<Position>),
    /// Some of those that follow are no longer kept.
    Expired,
}

/// The log cannot be asked at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreachable;

/// A log that reaches further back than the ring, and that other instances write to.
#[async_trait]
pub(super) trait History: Send + Sync {
    /// The events after `position`.
    async fn after(&self, position: Position) -> Result<Page, Unreachable>;
}
