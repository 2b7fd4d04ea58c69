//! The specification of the service, against real instances: each test starts its own process of the real binary
//! on a port of its own, talks to it over TCP, and ends it.
#![expect(
    unreachable_pub,
    reason = "what `support` offers is public to every test, and a test binary exports nothing"
)]

mod support;

mod assets;
mod bad_input;
mod bodies;
mod command_line;
mod configuration;
mod configuration_page;
mod credentials;
mod last_event_ids;
mod metrics;
mod predecessor;
mod rate_limits;
mod refused_tokens;
mod reports;
mod secret_sources;
mod streams;
mod tokens;
mod transfer;
