//! Where instances remember tokens. [`TokenStore`] is the contract; what stands beside this file
//! are backends.
//!
//! - `memory`: this process's memory, bounded. The store of a single instance, and the standby of a
//!   cluster's.
//! - `redis`: one Redis, a Sentinel set or a Redis Cluster, shared by all instances.
//! - `failover`: Redis while it can be asked, memory while it cannot; `gate` and `breaker` say
//!   which it is.
//!
//! `revocation_reader` hears of the revocations that other instances make.
//!
//! A new backend implements the trait, passes the suite in `tests/store_contract.rs`, and is chosen
//! in `app.rs`. Absent is an answer; not being able to ask is a [`StoreError`]. They never look
//! alike.

mod breaker;
mod failover;
mod memory;
mod redis;
mod revocation_reader;
mod shared_breaker;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use utoipa::ToSchema;

pub use breaker::{Breaker, BreakerState, Failure};
pub use failover::{Beat, FailoverStore, FailoverStoreDeps, Figures, Primary, Pulse, PulseDeps};
pub use memory::{ENTRY_BYTES, Entries, MemoryLimits, MemoryStore};
pub use redis::{RedisStore, RedisStoreDeps};
pub use revocation_reader::{RevocationReader, RevocationReaderDeps};
pub use shared_breaker::SharedBreaker;

use crate::clock::UnixMillis;
use crate::redis::RedisFigures;
use crate::token::{Record, TokenDigest, TokenId};

/// Remembers issued and revoked tokens for the rest of their lives.
///
/// What every implementation guarantees:
/// - A record is found by its digest from the moment `record` returned until its `expires_at`, and
///   not after.
/// - A record is never dropped before its time to make room; when there is none, `record` and
///   `revoke` fail.
/// - After `revoke` returned, every token with that id reads as [`Lookup::Revoked`] until `until`,
///   whether a record existed or not, and whatever is recorded later. Revoking again only ever
///   extends.
/// - All operations are idempotent: repeating one after a timeout does no harm.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Remembers a token; says where.
    async fn record(&self, digest: TokenDigest, record: Record) -> Result<Backend, StoreError>;

    /// Remembers a token that says of itself that it was issued while [`Self::record`] was
    /// unavailable.
    async fn record_offline(&self, digest: TokenDigest, record: Record) -> Result<Backend, StoreError> {
        self.record(digest, record).await
    }

    /// What is known about a token that was issued at `issued_after` or later.
    async fn lookup(&self, digest: TokenDigest, issued_after: UnixMillis) -> Result<Lookup, StoreError>;

    /// Leaves a tombstone for every token with this id until `until`; says who knows of it.
    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<RevocationScope, StoreError>;

    /// Figures, by bounded work however many tokens live.
    async fn statistics(&self) -> Result<StoreStatistics, StoreError>;

    /// Which backend answers.
    fn backend(&self) -> Backend;
}

/// What a store knows about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Recorded and alive.
    Active(Record),
    /// A tombstone.
    Revoked,
    /// Neither. Not the same as revoked, which leaves a tombstone.
    Absent {
        /// The store certainly holds every record made since the token can have been issued. If
        /// not, the token may be missing without having been revoked.
        complete: bool,
    },
}

/// Who knows of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevocationScope {
    /// Every instance, within a second.
    Cluster,
    /// This instance; the others as soon as they can be reached.
    Instance,
}

impl RevocationScope {
    /// The word for it, as clients see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Instance => "instance",
        }
    }
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
    /// The store cannot be asked at present. A write may have happened all the same.
    #[error("the token store cannot be asked at present")]
    Unavailable,
}

/// Figures of a store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoreStatistics {
    /// Live records, of all instances that share the store.
    pub live: u64,
    /// A few ids of live tokens.
    pub sample: Vec<TokenId>,
    /// The instances that share the store and were heard of lately.
    pub members: Vec<Member>,
    /// Those of them that contradict this instance.
    pub mismatches: Vec<Mismatch>,
    /// Of Redis, where one is configured and was reached.
    pub redis: Option<RedisFigures>,
    /// Of the standby, where there is one.
    pub standby: Option<StandbyFigures>,
}

/// How a store that can fail over is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyFigures {
    /// Records and tombstones that wait for the primary.
    pub entries: u64,
    /// State of the breaker before the primary.
    pub breaker: BreakerState,
    /// Since when the standby has been in use; `None` while it is not.
    pub degraded_since: Option<UnixMillis>,
}

/// An instance as its heartbeat shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub instance_id: String,
    /// Age of these figures.
    pub seen: Duration,
    /// What it says of itself.
    pub figures: Figures,
    /// Its release; `None` for releases that do not tell.
    pub version: Option<String>,
}

/// An instance that contradicts the one that tells of it, although all of a deployment should
/// agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// Its name.
    pub instance_id: String,
    /// In what.
    pub kind: MismatchKind,
}

/// In what an instance contradicts another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// It accepts other signing keys: each may refuse tokens that the other issues. Expected during
    /// a rotation.
    OtherSigningKeys,
    /// It gives tokens another life.
    OtherTokenLife,
    /// Two instances that run have this name.
    InstanceIdUsedTwice,
}

/// The backend that answers, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// No Redis is configured: the memory of this process.
    Memory,
    /// Redis.
    Redis,
    /// Redis is configured but cannot be asked: the memory of this process, until it can.
    FallbackMemory,
}

impl Backend {
    /// The name as clients and metrics see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::FallbackMemory => "fallback-memory",
        }
    }
}
