//! What tests and benchmarks stand on when they need a Redis: real processes of it, alone ([`RedisServer`]), under
//! Sentinel ([`SentinelSet`]) and as a cluster ([`RedisCluster`]), and a network to them that can be broken
//! ([`FaultProxy`]).
//!
//! Everything listens on loopback only, on ports of its own, and is gone when its value is dropped. What the
//! processes log is kept with the other artefacts of the test run. Whatever does not work here ends the test: its
//! stand is broken, not what it tests.
#![expect(
    clippy::missing_panics_doc,
    reason = "every function of a test's stand panics when it cannot do its work"
)]

mod artefacts;
mod cluster;
mod endpoint;
mod patience;
mod port;
mod process;
mod proxy;
mod sentinel;
mod server;

pub use cluster::RedisCluster;
pub use patience::{PATIENCE, eventually, until};
pub use proxy::FaultProxy;
pub use sentinel::SentinelSet;
pub use server::{Monitor, RedisServer};
