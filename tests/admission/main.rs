//! Limits of subjects and single-use tokens with several instances on a real Redis. Its answers are
//! lost, or come late, when a test says so. Time passes by making what Redis keeps older.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

mod leases;
mod scripts;
mod support;
mod tickets;
