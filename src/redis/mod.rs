//! Access to Redis, for the store and the event log: configuration, connections, answers and
//! errors.
//!
//! The store and the event log keep separate connections and know their own commands. `monitor`
//! hands them the reports of the health check.

pub(crate) mod announce;
mod claim;
mod classify;
mod client_certificate;
mod connect;
mod connection;
pub(crate) mod control;
mod error;
mod info;
mod logged_once;
mod monitor;
mod namespace;
mod off_path;
pub(crate) mod questions;
pub(crate) mod revocations;
mod script;
mod settings;
pub(crate) mod stream;

pub use claim::Claim;
pub(crate) use claim::SCHEMA;
pub use client_certificate::{ClientCertificate, NotACertificate};
pub(crate) use connect::Connector;
pub(crate) use connection::{Connection, pipeline};
pub use error::{Fault, FaultKind};
pub(crate) use info::MastersState;
pub use info::RedisFigures;
pub(crate) use logged_once::LoggedOnce;
pub use monitor::Monitor;
pub(crate) use monitor::Watcher;
pub use namespace::Namespace;
pub(crate) use off_path::OffPath;
pub(crate) use script::Script;
pub use settings::{HostPort, RedisSettings, Topology};
