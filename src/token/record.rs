//! The record of a token in a store, and a token before it is recorded.

use std::fmt;

use super::Token;
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

/// A token that is to be issued. It is minted by the store that records it, which knows whether a
/// record can be written or the token needs the offline bit.
pub struct Draft<'a> {
    /// Its record.
    pub record: Record,
    mint: Box<dyn Fn(bool) -> Token + Send + Sync + 'a>,
}

impl<'a> Draft<'a> {
    /// Creates a draft. `mint` is called with the offline bit.
    #[must_use]
    pub fn new(record: Record, mint: impl Fn(bool) -> Token + Send + Sync + 'a) -> Self {
        Self { record, mint: Box::new(mint) }
    }

    /// Mints a token that requires a record.
    #[must_use]
    pub fn mint(&self) -> Token {
        (self.mint)(false)
    }

    /// Mints a token with the offline bit: other instances accept it without a record.
    #[must_use]
    pub fn mint_offline(&self) -> Token {
        (self.mint)(true)
    }
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("record", &self.record).finish_non_exhaustive()
    }
}
