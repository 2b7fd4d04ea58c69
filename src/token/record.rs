//! The record of a token in a store.

use crate::clock::UnixMillis;

/// A token's record. It contains nothing that opens a stream, and no principal: the token's tag
/// proves that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Time of issue.
    pub issued_at: UnixMillis,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
}
