//! The stores of token records and tombstones. [`TokenStore`] is their contract.
//!
//! - `memory`: this process's memory, bounded. The store of an instance without Redis, and the
//!   standby of one with Redis.
//! - `redis`: one Redis, a Sentinel set or a Redis Cluster, shared by all instances.
//! - `failover`: the primary (Redis) with the standby beside it. `breaker` decides whether Redis is
//!   asked; `shared_breaker` makes that decision cheap to read and reports transitions.
//!
//! `admission` is the contract for leases of subjects and for tickets, which Redis keeps.
//!
//! A new backend implements the trait, passes the suite in `tests/store_contract.rs`, and is chosen
//! in `app.rs`. "Absent" is an answer; a store that cannot be asked is a [`StoreError`].

mod admission;
mod breaker;
mod failover;
mod memory;
mod redis;
mod shared_breaker;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};
use utoipa::ToSchema;

pub use admission::{
    ALIVE, AdmissionStore, AliveEntry, LeaseAnswer, ReleasedTicket, Renewal, Renewed, SubjectKey,
    SubjectLimit, SubjectPolicy, TICKET_WINDOW, TicketAnswer, TicketChange, TicketHolder, WantedLeases,
    WantedTicket,
};
pub use breaker::{Breaker, BreakerState, Failure};
pub use failover::{
    FailoverStore, FailoverStoreDeps, Figures, HealthCheck, HealthCheckDeps, HealthReport, Primary,
};
pub use memory::{ENTRY_BYTES, Entries, MemoryLimits, MemoryStore};
pub use redis::{RedisStore, RedisStoreDeps};
pub use shared_breaker::SharedBreaker;

use crate::clock::UnixMillis;
use crate::redis::RedisFigures;
use crate::token::{Draft, Record, Token, TokenDigest, TokenId};

/// Keeps records and tombstones of tokens until the tokens expire.
///
/// Every implementation guarantees:
/// - A record is found by its digest from the moment `record` returned until its `expires_at`, and
///   not after.
/// - A record is never dropped early to make room; without room, `record` and `revoke` fail.
/// - After `revoke` returned, every token with that id reads as [`Lookup::Revoked`] until `until`,
///   whether or not a record exists or follows. Revoking again can only extend that time.
/// - All operations are idempotent: each may be repeated after a timeout.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Mints the token of `draft` and records it.
    ///
    /// # Errors
    /// The store is full or unavailable; no token was issued.
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError>;

    /// Looks up a token that was issued at `issued_after` or later.
    ///
    /// # Errors
    /// The store is unavailable.
    async fn lookup(&self, digest: TokenDigest, issued_after: UnixMillis) -> Result<Lookup, StoreError>;

    /// Writes a tombstone for all tokens with this id until `until`. Returns the scope of the
    /// revocation.
    ///
    /// # Errors
    /// The store is full or unavailable.
    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<RevocationScope, StoreError>;

    /// Figures, by bounded work, independent of the number of tokens.
    ///
    /// # Errors
    /// The store is unavailable.
    async fn statistics(&self) -> Result<StoreStatistics, StoreError>;

    /// The backend in use.
    fn backend(&self) -> Backend;
}

/// A token that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The token.
    pub token: Token,
    /// Backend that has its record.
    pub backend: Backend,
}

/// Result of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// There is a record, and the token has not expired.
    Active(Record),
    /// There is a tombstone.
    Revoked,
    /// There is neither. A revoked token has a tombstone, so absent does not mean revoked.
    Absent {
        /// Whether the store certainly has every record since `issued_after`. If not, the record
        /// may have been lost or may not have arrived yet.
        complete: bool,
    },
}

/// Policy for tokens that cannot be proven while Redis is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenLost {
    /// They are accepted by their tag, and new ones are issued.
    #[default]
    Accept,
    /// They are answered with 503, and none is issued.
    Refuse,
}

/// Scope of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevocationScope {
    /// All instances apply it within a second.
    Cluster,
    /// This instance applies it now, the others when Redis is available again.
    Instance,
}

impl RevocationScope {
    /// Name in answers and in the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Instance => "instance",
        }
    }
}

/// Error of a store. Both kinds are transient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The bound of live records is reached. Tokens that expire make room.
    #[error("the token store is full; try again in {retry_after:?}")]
    Full {
        /// Time after which there is room again, about.
        retry_after: Duration,
    },
    /// The store cannot be asked or did not answer in time. A write may have happened.
    #[error("the token store is unavailable; try again later")]
    Unavailable,
}

/// Figures of a store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoreStatistics {
    /// Live records of all instances that share the store.
    pub live: u64,
    /// Ids of a few live tokens.
    pub sample: Vec<TokenId>,
    /// Instances with a recent member record.
    pub members: Vec<Member>,
    /// Contradictions between their configuration and this instance's.
    pub mismatches: Vec<Mismatch>,
    /// Figures of Redis, if one is configured and was reached.
    pub redis: Option<RedisFigures>,
    /// Figures of the standby, if there is one.
    pub standby: Option<StandbyFigures>,
}

/// State of a failover store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyFigures {
    /// Records and tombstones that the primary does not have yet.
    pub entries: u64,
    /// State of the circuit breaker.
    pub breaker: BreakerState,
    /// Time since which the standby is in use; `None` while the primary is.
    pub degraded_since: Option<UnixMillis>,
}

/// An instance, according to its member record.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub instance_id: String,
    /// Age of the record.
    pub seen: Duration,
    /// Its own figures.
    pub figures: Figures,
    /// Its release; `None` for releases that do not report it.
    pub version: Option<String>,
}

/// The other instances, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OtherInstances {
    /// Those with a recent member record.
    pub(crate) live: Vec<String>,
    /// Those with a member record in the last half minute before Redis last answered.
    pub(crate) seen: Vec<String>,
}

/// Contradiction between an instance and this one, in something that a deployment has to agree on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// Its name.
    pub instance_id: String,
    /// Kind of the contradiction.
    pub kind: MismatchKind,
}

/// Kind of a contradiction between two instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// Other signing keys: each may refuse tokens of the other. Expected during a rotation.
    OtherSigningKeys,
    /// Another lifetime of tokens.
    OtherTokenLife,
    /// Two running instances have the same name.
    InstanceIdUsedTwice,
}

/// The backend in use, as shown to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Backend {
    /// No Redis is configured: the memory of this process.
    Memory,
    /// Redis.
    Redis,
    /// Redis is configured and unavailable: the memory of this process.
    FallbackMemory,
}
