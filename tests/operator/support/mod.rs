//! What tests stand on: instances, clients, and a ledger of every secret they use.

mod instance;
mod ledger;
mod raw;
mod stream;

pub use instance::{Instance, random_hex};
pub use ledger::remember_secret;
