//! What tests stand on: instances, clients, and a ledger of every secret they use.

mod instance;
mod ledger;
mod raw;
mod stream;

pub use instance::{Instance, Issued};
pub use ledger::{artefacts, remember_secret};
pub use raw::{RawResponse, raw_request};
pub use stream::{EventStream, Frame};
