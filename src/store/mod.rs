//! Where instances remember tokens. [`TokenStore`] is the contract; each file beside this one is a backend.
//!
//! A new backend implements the trait, passes the suite in `tests/store_contract.rs`, and is chosen in
//! `app.rs`. Absent is an answer; not being able to ask is a [`StoreError`]. They never look alike.

mod memory;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use utoipa::ToSchema;

pub use memory::{ENTRY_BYTES, MemoryLimits, MemoryStore};

use crate::ambient::UnixMillis;
use crate::token::{Record, TokenDigest, TokenId};

/// Remembers issued and revoked tokens for the rest of their lives.
///
/// What every implementation guarantees:
/// - A record is found by its digest from the moment `record` returned until its `expires_at`, and not after.
/// - A record is never dropped before its time to make room; when there is none, `record` and `revoke` fail
///   with [`StoreError::Full`].
/// - After `revoke` returned, every token with that id reads as [`Lookup::Revoked`] until `until`, whether a
///   record existed or not, and whatever is recorded later. Revoking again only ever extends.
/// - All operations are idempotent: repeating one after a timeout does no harm.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Remembers a token.
    async fn record(&self, digest: TokenDigest, record: Record) -> Result<(), StoreError>;

    /// What is known about a token.
    async fn lookup(&self, digest: TokenDigest) -> Result<Lookup, StoreError>;

    /// Leaves a tombstone for every token with this id until `until`.
    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<(), StoreError>;

    /// Figures, by bounded work however many tokens live.
    async fn statistics(&self) -> Result<StoreStatistics, StoreError>;

    /// The store is known to hold every record made since this moment; a token issued earlier may be missing
    /// without having been revoked.
    fn complete_since(&self) -> UnixMillis;

    /// Which backend answers.
    fn backend(&self) -> Backend;
}

/// What a store knows about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Recorded and alive.
    Active(Record),
    /// A tombstone.
    Revoked,
    /// Neither. Not the same as revoked, which leaves a tombstone.
    Absent,
}

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The bound on live records is reached. Room comes back as tokens expire, in about this time.
    #[error("the token store is full; room comes back within {retry_after:?}")]
    Full {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Figures of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Live records.
    pub live: u64,
    /// A few ids of live tokens.
    pub sample: Vec<TokenId>,
}

/// The backend that answers, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// No Redis is configured: the memory of this process.
    Memory,
}
