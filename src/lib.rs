//! An event server for web applications. Backends publish events, and open pages receive them over
//! Server-Sent Events.
//!
//! A page opens its stream with a token. A browser cannot put a header on an `EventSource`, so the
//! credential of a stream may be in a URL, which logs keep. The backend therefore gets a token for
//! its long-lived credential: the token lives for a minute by default, and can only open streams.
//!
//! # The map, by the direction of dependencies
//!
//! - [`telemetry`], [`lifecycle`], [`limits`], [`metrics`], [`audit`], [`clock`], [`principal`],
//!   [`subject`], [`topic`]: shared modules, which all parts may use.
//! - [`config`]: the configuration, which only [`app`] uses.
//! - [`app`]: chooses the backends and connects the parts of an instance.
//! - [`http`]: routes, errors, extraction, handlers, the panel. Besides it, only [`app`] and the
//!   program use actix.
//! - [`service`]: all policy about tokens.
//! - [`identity`]: identity providers, whose JWTs are credentials.
//! - [`control`]: revoked and blocked subjects, and the streams of all instances.
//! - [`events`]: the event log, the hub and the open streams.
//! - [`store`]: records and tombstones of tokens.
//! - [`redis`](mod@redis): connections to Redis, its answers and errors.
//! - [`token`]: tokens as values.
//!
//! From [`app`] on, dependencies go down this list, never up; `tests/architecture.rs` checks them.
//! The shared modules are exempt, because they may be used from everywhere. The commands that call
//! a service are a crate of the same program, `crates/cli`, which does not know this library.
//!
//! docs/architecture.md has the paths of a token and of an event; docs/glossary.md has the terms.

pub mod app;
pub mod audit;
pub mod clock;
pub mod config;
pub mod control;
pub mod events;
pub mod http;
pub mod identity;
pub mod lifecycle;
pub mod limits;
pub mod metrics;
pub mod principal;
pub mod redis;
pub mod service;
pub mod store;
pub mod subject;
pub mod telemetry;
pub mod token;
pub mod topic;
