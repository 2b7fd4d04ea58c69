//! Short-lived tokens for Server-Sent-Events streams.
//!
//! A browser cannot put a header on an `EventSource`, so its credential travels in the URL. This
//! service trades a long-lived principal credential for a token that opens a stream, nothing else,
//! and for a minute only.
//!
//! # The map, in the order a request meets it
//!
//! - [`telemetry`], [`lifecycle`], [`limits`], [`metrics`], [`audit`], [`clock`], [`principal`]:
//!   shared modules, which all parts may use.
//! - [`config`]: the configuration, which only [`app`] uses.
//! - [`app`]: puts an instance together; names concrete backends.
//! - [`http`]: the only code that knows actix. Routes, errors, extraction, handlers, the panel.
//! - [`service`]: all policy about tokens.
//! - [`events`]: the event log, the hub and the open streams.
//! - [`store`]: records and tombstones of tokens.
//! - [`redis`](mod@redis): connections to Redis, its answers and errors.
//! - [`token`]: tokens as values.
//!
//! From [`app`] on, dependencies go down this list, never up; `tests/architecture.rs` checks them.
//! The shared modules are exempt, because they may be used from everywhere. The commands that
//! call a service are a crate of the same program, `crates/cli`, which does not know this library.
//! docs/glossary.md has the terms.
//!
//! # The path of a token
//!
//! `POST /operator/api/events/sse-token` reaches `http::tokens::issue`, which finds the principal
//! in the headers and calls [`service::TokenService::issue`]. The service drafts a token; the
//! [`store::TokenStore`] mints it with the service's [`token::Codec`], with the offline bit if
//! Redis is unavailable, and records it. The handler answers with it, once. The browser then opens
//! `/operator/api/events/stream` with it: `http::stream::open` has the service verify the tag and
//! expiry without any I/O, takes a place in the [`events::Hub`], has the service authorise against
//! the store, and hands the [`events::EventStream`] to actix as the response's body.

pub mod app;
pub mod audit;
pub mod clock;
pub mod config;
pub mod events;
pub mod http;
pub mod lifecycle;
pub mod limits;
pub mod metrics;
pub mod principal;
pub mod redis;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod token;
