//! Redis as everything here meets it: where it is, how a connection to it is made, what its answers
//! and its errors mean.
//!
//! The store of tokens and the log of events each keep connections of their own; what they ask is
//! theirs to know.

mod claim;
mod classify;
mod client_certificate;
mod connect;
mod connection;
mod error;
mod info;
mod namespace;
pub(crate) mod revocations;
mod settings;
pub(crate) mod stream;

pub use claim::Claim;
pub(crate) use claim::SCHEMA;
pub use client_certificate::{ClientCertificate, NotACertificate};
pub(crate) use connect::Connector;
pub(crate) use connection::{Connection, pipeline};
pub use error::Fault;
pub(crate) use info::Deployment;
pub use info::RedisFigures;
pub use namespace::Namespace;
pub use settings::{HostPort, RedisSettings, Topology};
