//! The hub: what one instance knows of the event log, and the streams that read it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::frame::{self, EventType};
use super::id::{Epoch, EventId, Position};
use super::registry::{OpenError, Place, Registry};
use super::ring::{Cursor, Read, Ring, RingLimits};
use crate::ambient::{Clock, Jitter};
use crate::metrics::Metrics;
use crate::token::TokenId;

/// How streams behave.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// Most streams open at once.
    pub cap: usize,
    /// Longest silence on a stream.
    pub heartbeat: Duration,
    /// Longest life of a stream; each draws its own between 80 and 100 % of it.
    pub max_age: Duration,
    /// Longest wait a client is told to keep before it reconnects; each is told between 50 and 100 % of it.
    pub retry: Duration,
}

/// What a hub is made of.
pub struct HubSettings {
    /// Name of this instance, told to each client.
    pub instance_id: String,
    /// The log's life.
    pub epoch: Epoch,
    /// Bounds of the ring.
    pub ring: RingLimits,
    /// How streams behave.
    pub streams: StreamSettings,
    /// The time of day, for event ids.
    pub clock: Arc<dyn Clock>,
    /// Spreads reconnects and ages.
    pub jitter: Arc<Jitter>,
    /// Where events and streams are counted.
    pub metrics: Arc<Metrics>,
}

/// Why a stream cannot be resumed where its client left off, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// The id belongs to a log that is lost.
    Epoch,
    /// Events after the id are no longer kept.
    Expired,
    /// The id lies after the newest event.
    Future,
    /// The text is no event id.
    Unknown,
}

impl Gap {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Expired => "expired",
            Self::Future => "future",
            Self::Unknown => "unknown",
        }
    }
}

/// Events and streams of one instance.
pub struct Hub {
    settings: HubSettings,
    ring: RwLock<Ring>,
    /// Announces the cursor behind the newest event.
    head: watch::Sender<Cursor>,
    registry: Arc<Registry>,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new(settings: HubSettings) -> Self {
        Self {
            ring: RwLock::new(Ring::new(settings.ring)),
            head: watch::Sender::new(0),
            registry: Arc::new(Registry::new(settings.streams.cap)),
            settings,
        }
    }

    /// Encodes an event, puts it into the ring under the next id and wakes all streams.
    pub(super) fn append(&self, event_type: &EventType, data: &str) -> EventId {
        let mut ring = self.ring.write();
        let id = self.id(ring.head().next(self.settings.clock.now().0));
        ring.append(id.position, frame::event(id, event_type, data));
        let end = ring.end();
        drop(ring);
        // Two publishers may arrive here in either order; the head must not go back.
        self.head.send_if_modified(|head| {
            let newer = end > *head;
            *head = end.max(*head);
            newer
        });
        id
    }

    /// Takes a place among the open streams.
    pub(super) fn enter(&self, token: Option<TokenId>) -> Result<Place, OpenError> {
        self.registry.enter(token)
    }

    /// Ends every stream that `token` opened on this instance; says how many.
    pub fn end_streams_of(&self, token: TokenId) -> usize {
        self.registry.end_token(token)
    }

    /// Lets no further stream in, ends the open ones spread evenly over `window` and waits for them.
    pub async fn drain(&self, window: Duration) {
        self.registry.drain(window).await;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.registry.is_draining()
    }

    pub(super) const fn settings(&self) -> &HubSettings {
        &self.settings
    }

    pub(super) fn watch(&self) -> watch::Receiver<Cursor> {
        self.head.subscribe()
    }

    pub(super) fn read(&self, cursor: Cursor) -> Read {
        self.ring.read().read(cursor)
    }

    /// Where a new stream starts: behind the newest event.
    pub(super) fn newest(&self) -> (Cursor, EventId) {
        let ring = self.ring.read();
        (ring.end(), self.id(ring.head()))
    }

    /// Where a client continues that has seen everything up to `last_event_id`.
    pub(super) fn resume(&self, last_event_id: &str) -> Result<(Cursor, EventId), Gap> {
        let id: EventId = last_event_id.parse().map_err(|_| Gap::Unknown)?;
        if id.epoch != self.settings.epoch {
            return Err(Gap::Epoch);
        }
        let ring = self.ring.read();
        if id.position > ring.head() {
            return Err(Gap::Future);
        }
        let cursor = ring.resume_after(id.position).ok_or(Gap::Expired)?;
        Ok((cursor, id))
    }

    const fn id(&self, position: Position) -> EventId {
        EventId { epoch: self.settings.epoch, position }
    }
}
