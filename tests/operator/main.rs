//! The specification of the service, against real instances: each test starts its own process of the real binary
//! on a port of its own, talks to it over TCP, and ends it.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose preparation fails has failed, and says where"
)]
#![expect(
    unreachable_pub,
    reason = "what `support` offers is public to every test, and a test binary exports nothing"
)]

mod support;

mod drain;
mod resuming;
mod revoking;
mod slow_readers;
mod streams;
mod tokens;
mod vanishing_clients;
