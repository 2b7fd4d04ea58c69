//! Events: from a publisher to every open stream, in order.
//!
//! A [bus](EventBus) makes a published event durable and gives it its [`EventId`]; the [`Hub`]
//! keeps the last events as encoded frames in a bounded ring; each open response is an
//! [`EventStream`], a cursor into that ring. No stream has a queue of its own, so a slow one costs
//! nothing and holds nobody up.
//!
//! Alone, an instance's ring is the log ([`MemoryBus`]). Instances that share a Redis share the log
//! there ([`RedisLog`]), and each ring is a copy of its end.

mod bus;
mod catch_up;
mod entry;
mod frame;
mod history;
mod hub;
mod id;
mod memory;
mod publication;
mod redis;
mod registry;
mod ring;
mod stream;

pub use bus::{EventBus, KEYS_KEPT, PublishError, Published};
pub use frame::{EventType, EventTypeError, LONGEST_DATA, data_bytes};
pub use hub::{Hub, HubDeps, Log, SharedLog, StreamSettings};
pub use id::{Epoch, EventId};
pub use memory::MemoryBus;
pub use publication::{KeyDigest, LONGEST_KEY, NotAKey, Publication};
pub use redis::{LogTask, LogTaskDeps, RedisLog};
pub use registry::{EndReason, OpenError, Opener, StreamLimits};
pub use ring::RingLimits;
pub use stream::{EventStream, StreamOpening};
