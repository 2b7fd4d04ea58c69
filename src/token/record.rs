//! What a store remembers about a token.

use crate::ambient::UnixMillis;
use crate::principal::PrincipalId;

/// A token's record. Contains nothing that opens a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whom the token was issued to.
    pub principal: PrincipalId,
    /// When it was issued.
    pub issued_at: UnixMillis,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
}
