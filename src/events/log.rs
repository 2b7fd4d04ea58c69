//! The interface of the event log for publishers. An event is acknowledged once the log has made it
//! as durable as the deployment allows.

use std::time::Duration;

use async_trait::async_trait;

use super::id::EventId;
use super::publication::Publication;

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
    #[error("the event log cannot take events at present; try again in {retry_after:?}")]
    Unavailable {
        /// Time after which to try again.
        retry_after: Duration,
    },
    /// The log did not answer in time; the event may be in it.
    #[error("the event log did not answer in time; try again in {retry_after:?}, with the same key")]
    Unknown {
        /// Time after which to try again.
        retry_after: Duration,
    },
    /// The idempotency key belongs to another event.
    #[error("the idempotency key was used for another event")]
    KeyReused,
}

/// An event log: makes events durable and brings them to every instance's hub, in one order.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Publishes an event; when this returns without an error, the event is in the log.
    ///
    /// # Errors
    /// The event is not in the log, or it is not known whether it is.
    async fn publish(&self, publication: Publication) -> Result<Published, PublishError>;
}
