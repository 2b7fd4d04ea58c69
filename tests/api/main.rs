//! The specification of the service, with real instances: each test starts a process of the real
//! binary on a free port, calls it over TCP, and ends it.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]
#![expect(
    unreachable_pub,
    reason = "what `support` offers is public to every test, and a test binary exports nothing"
)]

mod support;

mod assets;
mod audit;
mod authorising;
mod bad_input;
mod bodies;
mod browser;
mod browser_client;
mod browser_endings;
mod browser_grants;
mod browser_native;
mod browser_origins;
mod browser_reconnects;
mod browser_rules;
mod browser_snippets;
mod browser_streams;
mod client;
mod command_line;
mod configuration;
mod configuration_page;
mod connections;
mod control;
mod cookie;
mod cors;
mod credentials;
mod drain;
mod forging;
mod grants;
mod jwts;
mod last_event_ids;
mod log_reader;
mod metrics;
mod oauth;
mod oauth_programs;
mod openapi;
mod predecessor;
mod python_snippets;
mod rate_limits;
mod redis;
mod refused_tokens;
mod reload;
mod reports;
mod resuming;
mod revoking;
mod rights;
mod secret_sources;
mod shell_snippets;
mod slow_readers;
mod streams;
mod tokens;
mod topics;
mod transfer;
mod unknown_parameters;
mod vanishing_clients;
mod weak_credentials;
