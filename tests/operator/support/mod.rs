//! What tests stand on: instances, clients, and a ledger of every secret they use.

mod browser;
mod driver;
mod instance;
mod ledger;
mod panel;
mod raw;
mod stream;

pub use browser::Browser;
pub use instance::{Instance, Issued};
pub use ledger::{artefacts, remember_secret};
pub use panel::Panel;
pub use raw::{RawResponse, raw_request};
pub use stream::{EventStream, Frame};
