//! Events: from a publisher to every open stream, in order.
//!
//! A [`bus`](EventBus) makes a published event durable and gives it its [`EventId`]; the [`Hub`] keeps the last
//! events as encoded frames in a bounded ring; each open response is an [`EventStream`], a cursor into that ring.
//! No stream has a queue of its own, so a slow one costs nothing and holds nobody up.

mod bus;
mod frame;
mod hub;
mod id;
mod registry;
mod ring;
mod stream;

pub use bus::{EventBus, MemoryBus, PublishError};
pub use frame::{EventType, EventTypeError};
pub use hub::{Hub, HubSettings, StreamSettings};
pub use id::{Epoch, EventId};
pub use registry::{EndReason, OpenError};
pub use ring::RingLimits;
pub use stream::{EventStream, StreamOpening};
