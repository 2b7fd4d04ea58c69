//! Events: from a publisher to every open stream, in order.
//!
//! The event log, an [`EventLog`], makes a published event durable and assigns its [`EventId`]. The
//! [`Hub`] keeps the newest events as encoded frames in a bounded ring. Each open response is an
//! [`EventStream`]: a cursor into the ring, or into the log (`catch_up`). Streams have no queues,
//! so a slow client takes a bounded amount of memory and delays nobody.
//!
//! The ring of an instance without Redis is the log ([`MemoryLog`]). Instances with Redis share the
//! log there ([`RedisLog`]), and each ring is a copy of its newest part.

mod catch_up;
mod event;
mod frame;
mod hub;
mod id;
mod log;
mod memory;
mod publication;
mod redis;
mod registry;
mod ring;
mod selection;
mod stream;
mod stream_events;
mod topic_index;

pub use frame::{EventType, EventTypeError, data_bytes};
pub use hub::{Hub, HubDeps, LogPlace, SharedLog, StreamSettings};
pub use id::{Epoch, EventId};
pub use log::{EventLog, KEYS_KEPT, PublishError, Published};
pub use memory::MemoryLog;
pub use publication::{KeyDigest, NotAKey, Publication};
pub use redis::{LogTask, LogTaskDeps, RedisLog};
pub use registry::{EndReason, OpenError, Opener, StreamLimits};
pub use ring::RingLimits;
pub use selection::{OpenStream, Selector, StreamFilter, StreamId};
pub use stream::{Earlier, EventStream, Start, StreamOpening};
pub use stream_events::{StreamEvents, StreamEventsTask};
