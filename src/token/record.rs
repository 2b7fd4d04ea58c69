//! What a store remembers about a token.

use crate::clock::UnixMillis;

/// A token's record. Contains nothing that opens a stream, and not whom the token was issued to:
/// the token's tag vouches for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// When it was issued.
    pub issued_at: UnixMillis,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
}
