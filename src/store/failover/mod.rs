//! The store of an instance with Redis. It asks the primary, which is Redis, and keeps in the
//! standby, the memory of this process, what the primary does not have yet.
//!
//! There is no separate mode for outages. If the primary does not answer, a call continues without
//! its answer: a token is accepted by its tag, and a record or tombstone waits in the standby.
//! [`HealthCheck`] writes these entries to the primary before the breaker closes. With
//! [`WhenLost::Refuse`] no token is issued without the primary, so that only tombstones wait.

mod health_check;
mod reconcile;
mod unannounced;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use health_check::{HealthCheck, HealthCheckDeps};

use self::unannounced::Unannounced;
use super::memory::{Entries, MemoryStore};
use super::shared_breaker::SharedBreaker;
use super::{
    Backend, Lookup, Recorded, RevocationScope, StandbyFigures, StoreError, StoreStatistics, TokenStore,
    WhenLost,
};
use crate::clock::{Clock, UnixMillis};
use crate::metrics::Metrics;
use crate::redis::Fault;
use crate::token::{Draft, TokenDigest, TokenId};

/// Interval between two warnings about forgotten revocations.
const BETWEEN_WARNINGS: Duration = Duration::from_mins(1);

/// A store that all instances share and that may be unavailable.
#[async_trait]
pub trait Primary: TokenStore {
    /// Checks the primary, independent of the breaker: writes and reads, compares the clocks, and
    /// finds out whether data was lost since the last check. Also exchanges member records.
    ///
    /// # Errors
    /// The primary cannot be used.
    async fn check_health(&self, figures: Figures) -> Result<HealthReport, Fault>;

    /// Writes the records and tombstones of `entries`, without announcing revocations. Independent
    /// of the breaker, and idempotent. Returns the number of entries that the primary refuses for
    /// their content; such an entry stops no other.
    ///
    /// # Errors
    /// The primary cannot be used; some entries may have been written.
    async fn restore(&self, entries: &Entries) -> Result<u64, Fault>;
}

/// Figures of an instance in its member record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Live tokens that it issued.
    pub active: u64,
    /// Open streams.
    pub streams: u64,
}

/// Result of a health check.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HealthReport {
    /// Whether records and tombstones were lost since the last check, by a restart, a failover or
    /// an administrator.
    pub lost_data: bool,
    /// Lead of this instance's clock over the primary's, in milliseconds.
    pub skew_millis: i64,
}

/// Dependencies of a failover store.
pub struct FailoverStoreDeps {
    /// The store that all instances share.
    pub primary: Arc<dyn Primary>,
    /// The circuit breaker before the primary.
    pub breaker: Arc<SharedBreaker>,
    /// The standby: records and tombstones that the primary does not have yet. Empty at the start.
    pub standby: MemoryStore,
    /// Known revocations of all instances, empty at the start. They are applied before the primary
    /// is asked, and written to it again after it has lost its data.
    pub revoked: MemoryStore,
    /// Policy for tokens while the primary is unavailable.
    pub when_lost: WhenLost,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The primary with its standby.
pub struct FailoverStore {
    primary: Arc<dyn Primary>,
    breaker: Arc<SharedBreaker>,
    standby: MemoryStore,
    revoked: MemoryStore,
    when_lost: WhenLost,
    unannounced: Unannounced,
    /// Number of losses of data that were noticed.
    losses: AtomicU64,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Time of the last warning about forgotten revocations.
    warned_at: Mutex<Option<Instant>>,
}

impl FailoverStore {
    /// Creates the store.
    #[must_use]
    pub fn new(parts: FailoverStoreDeps) -> Self {
        let FailoverStoreDeps { primary, breaker, standby, revoked, when_lost, clock, metrics } = parts;
        let (unannounced, losses) = (Unannounced::default(), AtomicU64::new(0));
        let warned_at = Mutex::default();
        Self { primary, breaker, standby, revoked, when_lost, unannounced, losses, clock, metrics, warned_at }
    }

    /// Frees expired entries; called about once a second.
    pub fn sweep(&self) {
        self.standby.sweep();
        self.revoked.sweep();
        self.unannounced.sweep(self.clock.now());
    }

    /// Applies a revocation that was read among the announcements.
    pub async fn apply_revocation(&self, id: TokenId, until: UnixMillis) {
        self.unannounced.remove(&[(id, until)]);
        self.remember(id, until).await;
    }

    /// Up to `count` revocations that were not announced yet.
    #[must_use]
    pub fn unannounced(&self, count: usize) -> Vec<(TokenId, UnixMillis)> {
        self.unannounced.peek_batch(count)
    }

    /// Notes that these revocations were announced.
    pub fn announced(&self, revocations: &[(TokenId, UnixMillis)]) {
        self.unannounced.remove(revocations);
    }

    /// Notes that announcements were lost with the data: every known revocation counts as not
    /// announced until it is read again.
    pub fn announce_all(&self) {
        self.unannounced.add(&self.revoked.peek_batch(usize::MAX).tombstones);
    }

    /// Number of losses of data that were noticed.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Counts a loss of data. Returns all known revocations, which the primary needs again.
    fn lose(&self) -> Vec<(TokenId, UnixMillis)> {
        self.losses.fetch_add(1, Ordering::Relaxed);
        self.revoked.peek_batch(usize::MAX).tombstones
    }

    /// Remembers a revocation. Without room for it, only the primary knows it.
    async fn remember(&self, id: TokenId, until: UnixMillis) {
        if self.revoked.revoke(id, until).await.is_ok() {
            return;
        }
        self.metrics.revocations.forgotten();
        let now = Instant::now();
        let mut warned_at = self.warned_at.lock();
        if warned_at.is_none_or(|last| now.duration_since(last) >= BETWEEN_WARNINGS) {
            *warned_at = Some(now);
            tracing::warn!(
                "this instance has no room for further revocations, so it applies those only while Redis answers. Raise memory.max_entries and memory.max_bytes"
            );
        }
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
    /// Without the primary, the token gets the offline bit and its record waits in the standby; or
    /// there is no token, with [`WhenLost::Refuse`].
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError> {
        match self.primary.record(draft).await {
            Err(StoreError::Unavailable) if self.when_lost == WhenLost::Accept => {
                let token = draft.mint_offline();
                self.standby.insert(token.digest(), draft.record)?;
                Ok(Recorded { token, backend: Backend::FallbackMemory })
            }
            recorded => recorded,
        }
    }

    async fn lookup(&self, digest: TokenDigest, issued_after: UnixMillis) -> Result<Lookup, StoreError> {
        if self.is_revoked_here(digest).await {
            return Ok(Lookup::Revoked);
        }
        let found = self.primary.lookup(digest, issued_after).await;
        // The standby has records that the primary lacks. They are from an outage, in which the
        // primary does not answer, or from single calls that failed, after which it answers without
        // them.
        if matches!(found, Err(_) | Ok(Lookup::Absent { .. })) && self.standby.entries() > 0 {
            let waiting = self.standby.lookup(digest, issued_after).await?;
            if matches!(waiting, Lookup::Active(_)) {
                return Ok(waiting);
            }
        }
        found
    }

    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<RevocationScope, StoreError> {
        self.remember(id, until).await;
        match self.primary.revoke(id, until).await {
            Err(StoreError::Unavailable) => {
                self.standby.revoke(id, until).await?;
                self.unannounced.add(&[(id, until)]);
                Ok(RevocationScope::Instance)
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
            breaker: self.breaker.state(),
            degraded_since: self.breaker.degraded_since(),
        };
        Ok(StoreStatistics { standby: Some(standby), ..figures })
    }

    fn backend(&self) -> Backend {
        if self.breaker.is_closed() { Backend::Redis } else { Backend::FallbackMemory }
    }
}
