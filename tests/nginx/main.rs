//! The specification of `nginx/`: a real nginx with the configuration that ships, in front of real
//! instances, or of backends that do on purpose what real ones do by accident.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]
#![expect(
    unreachable_pub,
    reason = "what `support` offers is public to every test, and a test binary exports nothing"
)]

mod support;

mod configuration;
mod cors;
mod draining;
mod gateway;
mod hung;
mod limits;
mod no_instance;
mod protecting;
mod redaction;
mod retries;
mod routing;
mod slow_clients;
mod stock_proxy;
mod tls;
