//! Redis as everything here meets it: where it is, how a connection to it is made, what its answers and its errors mean.
//!
//! The store of tokens and the log of events each keep connections of their own; what they ask is theirs to know.

mod claim;
mod client_certificate;
mod connection;
mod dial;
mod errors;
mod fault;
mod info;
mod namespace;
pub(crate) mod revocations;
mod settings;
pub(crate) mod stream;

pub use claim::Claim;
pub(crate) use claim::SCHEMA;
pub use client_certificate::{ClientCertificate, NotACertificate};
pub(crate) use connection::{Connection, pipeline};
pub(crate) use dial::Dialler;
pub use fault::Fault;
pub(crate) use info::Deployment;
pub use info::RedisFigures;
pub use namespace::Namespace;
pub use settings::{HostPort, RedisSettings, Topology};
