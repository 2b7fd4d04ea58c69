//! The interfaces of the event log: for publishers ([`EventLog`]), and for streams in catch-up
//! ([`LogReader`]).
//!
//! An event is acknowledged once the log has made it as durable as the deployment allows.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use super::event::Event;
use super::id::{EventId, Position};
use super::publication::Publication;
use crate::token::TokenId;
use crate::topic::Patterns;

/// Lifetime of an idempotency key: a repeated publish gets the id of the first one. Shorter if the
/// log does not reach back so far.
pub const KEYS_KEPT: Duration = Duration::from_mins(15);

/// An event that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: EventId,
    /// The event was in the log before, under the same idempotency key.
    pub repeated: bool,
}

/// Reason why an event was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The log is unavailable; the event is certainly not in it.
    #[error("the event log is unavailable; try again in {retry_after:?}")]
    Unavailable {
        /// Time after which to try again.
        retry_after: Duration,
    },
    /// The log did not answer in time; the event may be in it.
    #[error(
        "the event log did not answer in time; try again in {retry_after:?}, with the same idempotency key"
    )]
    Unknown {
        /// Time after which to try again.
        retry_after: Duration,
    },
    /// The idempotency key belongs to another event.
    #[error("the idempotency key was used for another event; give each event a separate key")]
    KeyReused,
}

/// An event log: makes events durable and brings them to every instance's hub, in one order.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Publishes an event; when this returns without an error, the event is in the log.
    ///
    /// # Errors
    /// The event is not in the log, or it is not known whether it is.
    async fn publish(&self, publication: Publication) -> Result<Published, PublishError>;
}

/// A page of the log, for a stream in catch-up.
#[derive(Debug)]
pub(super) enum Page {
    /// The next events, bounded in bytes.
    Events(EventPage),
    /// The next event was trimmed, or cannot be read by this version.
    Expired,
}

/// The events of a page, in order.
#[derive(Debug)]
pub(super) struct EventPage {
    pub(super) events: Vec<Event>,
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
pub(super) trait LogReader: Send + Sync {
    /// The events after `seen` that `patterns` match, for a stream that `token` opened. Waits for
    /// the token's turn: streams of one token read one after the other.
    ///
    /// # Errors
    /// The log is unavailable.
    async fn after(
        &self,
        seen: EventId,
        patterns: &Patterns,
        token: Option<TokenId>,
    ) -> Result<Page, Unreachable>;

    /// Position before the last `number` events up to `horizon` that `patterns` match, in the
    /// present epoch. If there are fewer, the position before the oldest entry of the epoch that
    /// the log has.
    ///
    /// # Errors
    /// The log is unavailable.
    async fn before_last(
        &self,
        horizon: EventId,
        patterns: &Patterns,
        number: usize,
        token: Option<TokenId>,
    ) -> Result<Position, Unreachable>;
}
