//! Validity of tokens: each row of the table in `docs/architecture.md`, with a store that answers
//! as the row says. `store_contract` tests the answers of real stores.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

mod support;

mod grants;
mod issuing;
mod revoking;
mod subjects;
mod table;
