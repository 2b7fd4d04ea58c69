//! The specification of the service, against real instances: each test starts its own process of the real binary
//! on a port of its own, talks to it over TCP, and ends it.
#![expect(
    unreachable_pub,
    reason = "what `support` offers is public to every test, and a test binary exports nothing"
)]

mod support;

mod browser;
mod browser_client;
mod streams;
mod tokens;
