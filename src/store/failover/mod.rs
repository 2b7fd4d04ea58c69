//! The store of an instance in a cluster: the primary while it can be asked, this process's memory while it cannot.
//!
//! An outage removes a step instead of switching code: a token that the primary cannot vouch for is judged by its
//! signature, here as everywhere. What is written meanwhile waits in the standby, and the [`Pulse`] brings it to the
//! primary before the breaker closes.

mod pulse;

use std::sync::Arc;

use async_trait::async_trait;

pub use pulse::{Pulse, PulseSettings};

use super::gate::Gate;
use super::memory::{Entries, MemoryStore};
use super::{Backend, Lookup, Reach, StandbyFigures, StoreError, StoreStatistics, TokenStore};
use crate::ambient::UnixMillis;
use crate::redis::Fault;
use crate::token::{Record, TokenDigest, TokenId};

/// A store that may be out of reach, shared by all instances.
#[async_trait]
pub trait Primary: TokenStore {
    /// One round of all that shows it is well (a write, a read, its time), with the news since the last one.
    /// Works whatever the breaker says.
    async fn beat(&self, figures: Figures) -> Result<Beat, Fault>;

    /// Records and revokes what `entries` holds, whatever the breaker says; repeating it does no harm.
    async fn restore(&self, entries: &Entries) -> Result<(), Fault>;
}

/// What an instance tells the others about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Tokens it issued that have not expired.
    pub active: u64,
    /// Streams open on it.
    pub streams: u64,
}

/// What a primary tells when it is asked how it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Beat {
    /// Records and tombstones were lost since the last beat: by a restart, a failover or an administrator.
    pub lost_data: bool,
    /// How far this instance's clock is ahead of the primary's, in milliseconds.
    pub skew_millis: i64,
}

/// The primary with its standby.
pub struct FailoverStore {
    primary: Arc<dyn Primary>,
    gate: Arc<Gate>,
    /// What the primary does not have yet.
    standby: MemoryStore,
    /// Revocations by any instance, as far as they were heard of: they hold while the primary cannot be asked, and
    /// are brought to it again where it has lost them.
    revoked: MemoryStore,
}

impl FailoverStore {
    /// Puts the two together. `standby` and `revoked` are empty.
    #[must_use]
    pub fn new(
        primary: Arc<dyn Primary>,
        gate: Arc<Gate>,
        standby: MemoryStore,
        revoked: MemoryStore,
    ) -> Self {
        Self { primary, gate, standby, revoked }
    }

    /// Frees the memory of expired entries; called about once a second.
    pub fn sweep(&self) {
        self.standby.sweep();
        self.revoked.sweep();
    }

    /// Notes a revocation by any instance.
    pub async fn hear(&self, id: TokenId, until: UnixMillis) {
        // With no room left the primary still knows of it.
        let _ = self.revoked.revoke(id, until).await;
    }

    async fn is_revoked_here(&self, digest: TokenDigest) -> bool {
        for store in [&self.revoked, &self.standby] {
            let known = store.entries() > 0;
            if known && store.lookup(digest, UnixMillis(0)).await == Ok(Lookup::Revoked) {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl TokenStore for FailoverStore {
    async fn record(&self, digest: TokenDigest, record: Record) -> Result<Backend, StoreError> {
        self.primary.record(digest, record).await
    }

    async fn record_offline(&self, digest: TokenDigest, record: Record) -> Result<Backend, StoreError> {
        self.standby.record(digest, record).await?;
        Ok(Backend::FallbackMemory)
    }

    async fn lookup(&self, digest: TokenDigest, issued_after: UnixMillis) -> Result<Lookup, StoreError> {
        if self.is_revoked_here(digest).await {
            return Ok(Lookup::Revoked);
        }
        let found = self.primary.lookup(digest, issued_after).await;
        if matches!(found, Err(_) | Ok(Lookup::Absent { .. })) && self.standby.entries() > 0 {
            let waiting = self.standby.lookup(digest, issued_after).await?;
            if matches!(waiting, Lookup::Active(_)) {
                return Ok(waiting);
            }
        }
        found
    }

    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<Reach, StoreError> {
        self.hear(id, until).await;
        match self.primary.revoke(id, until).await {
            Err(StoreError::Unavailable) => {
                self.standby.revoke(id, until).await?;
                Ok(Reach::Instance)
            }
            answer => answer,
        }
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        let mut figures = self.primary.statistics().await?;
        let waiting = self.standby.statistics().await?;
        figures.live += waiting.live;
        if figures.sample.is_empty() {
            figures.sample = waiting.sample;
        }
        let standby = StandbyFigures {
            entries: self.standby.entries(),
            breaker: self.gate.state(),
            degraded_since: self.gate.degraded_since(),
        };
        Ok(StoreStatistics { standby: Some(standby), ..figures })
    }

    fn backend(&self) -> Backend {
        if self.gate.is_closed() { Backend::Redis } else { Backend::FallbackMemory }
    }
}
