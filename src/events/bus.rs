//! The seam between publishing and where the log lives. An event is acknowledged once its bus has made it as
//! durable as the deployment can.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::frame::EventType;
use super::hub::Hub;
use super::id::EventId;
use crate::metrics::Metrics;

/// Why an event was not taken. Nothing was published then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The log cannot take it at present.
    #[error("the event log cannot take events at present; try again in {retry_after:?}")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Makes events durable and brings them to every instance's hub, in one order.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Publishes one event; when this returns, it is in the log under the returned id.
    async fn publish(&self, event_type: &EventType, data: &str) -> Result<EventId, PublishError>;
}

/// A bus for a single instance: its hub's ring is the log, and ends with the process.
pub struct MemoryBus {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
}

impl MemoryBus {
    /// A bus that appends to `hub`.
    #[must_use]
    pub const fn new(hub: Arc<Hub>, metrics: Arc<Metrics>) -> Self {
        Self { hub, metrics }
    }
}

#[async_trait]
impl EventBus for MemoryBus {
    async fn publish(&self, event_type: &EventType, data: &str) -> Result<EventId, PublishError> {
        // The ring ends with the process, so a stopping instance can no longer promise delivery.
        if self.hub.is_draining() {
            return Err(PublishError::Unavailable { retry_after: Duration::from_secs(1) });
        }
        let id = self.hub.append(event_type, data);
        self.metrics.event_published();
        Ok(id)
    }
}
