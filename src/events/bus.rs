//! The seam between publishing and where the log lives. An event is acknowledged once its bus has
//! made it as durable as the deployment can.

use std::time::Duration;

use async_trait::async_trait;

use super::id::EventId;
use super::publication::Publication;

/// For so long a publisher that repeats an event under the same key is told where the first one
/// stands. As far as the log reaches back, if that is less.
pub const KEYS_KEPT: Duration = Duration::from_mins(15);

/// An event that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub id: EventId,
    /// It was there before, under the same idempotency key.
    pub repeated: bool,
}

/// Why an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The log cannot take it at present, and has not.
    #[error("the event log cannot take events at present; try again in {retry_after:?}")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The log did not say in time whether it has it.
    #[error("the event log did not answer in time; try again in {retry_after:?}, with the same key")]
    Unknown {
        /// When to try again.
        retry_after: Duration,
    },
    /// The key was given with another event before.
    #[error("the idempotency key was used for another event")]
    KeyReused,
}

/// Makes events durable and brings them to every instance's hub, in one order.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Publishes one event; when this returns, it is in the log.
    async fn publish(&self, publication: Publication) -> Result<Published, PublishError>;
}
