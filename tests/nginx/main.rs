//! The specification of `nginx/`: a real nginx with the configuration that ships, in front of real instances.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

mod configuration;
