//! The store of an instance in a cluster: the primary while it can be asked, this process's memory
//! while it cannot.
//!
//! An outage removes a step instead of switching code: a token that the primary cannot vouch for is
//! judged by its signature, here as everywhere. What is written meanwhile waits in the standby, and
//! the [`Pulse`] brings it to the primary before the breaker closes.

mod pulse;
mod unannounced;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use pulse::{Pulse, PulseDeps};

use self::unannounced::Unannounced;
use super::memory::{Entries, MemoryStore};
use super::shared_breaker::SharedBreaker;
use super::{Backend, Lookup, RevocationScope, StandbyFigures, StoreError, StoreStatistics, TokenStore};
use crate::clock::{Clock, UnixMillis};
use crate::metrics::Metrics;
use crate::redis::Fault;
use crate::token::{Record, TokenDigest, TokenId};

/// Between two warnings that revocations are forgotten.
const BETWEEN_WARNINGS: Duration = Duration::from_mins(1);

/// A store that may be out of reach, shared by all instances.
#[async_trait]
pub trait Primary: TokenStore {
    /// One round of all that shows it is well (a write, a read, its time), with the news since the
    /// last one. Works whatever the breaker says.
    async fn beat(&self, figures: Figures) -> Result<Beat, Fault>;

    /// Records and revokes what `entries` holds, whatever the breaker says, and announces nothing;
    /// repeating it does no harm. Says how many of them it refuses for what they say, which no
    /// repetition would change; those stop no other.
    async fn restore(&self, entries: &Entries) -> Result<u64, Fault>;
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
    /// Records and tombstones were lost since the last beat: by a restart, a failover or an
    /// administrator.
    pub lost_data: bool,
    /// How far this instance's clock is ahead of the primary's, in milliseconds.
    pub skew_millis: i64,
}

/// What a failover store is made of.
pub struct FailoverStoreDeps {
    /// Shared by all instances.
    pub primary: Arc<dyn Primary>,
    /// The breaker before it.
    pub breaker: Arc<SharedBreaker>,
    /// What the primary does not have yet; empty.
    pub standby: MemoryStore,
    /// Revocations by any instance, as far as they were heard of: they hold while the primary
    /// cannot be asked, and are brought to it again where it has lost them. Empty.
    pub revoked: MemoryStore,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where it reports.
    pub metrics: Arc<Metrics>,
}

/// The primary with its standby.
pub struct FailoverStore {
    primary: Arc<dyn Primary>,
    breaker: Arc<SharedBreaker>,
    standby: MemoryStore,
    revoked: MemoryStore,
    unannounced: Unannounced,
    /// How often the primary was found to have lost data.
    losses: AtomicU64,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// When a warning last said that a revocation was forgotten for want of room.
    warned_at: Mutex<Option<Instant>>,
}

impl FailoverStore {
    /// Puts the two together.
    #[must_use]
    pub fn new(parts: FailoverStoreDeps) -> Self {
        let FailoverStoreDeps { primary, breaker, standby, revoked, clock, metrics } = parts;
        let (unannounced, losses) = (Unannounced::default(), AtomicU64::new(0));
        let warned_at = Mutex::default();
        Self { primary, breaker, standby, revoked, unannounced, losses, clock, metrics, warned_at }
    }

    /// Frees the memory of expired entries; called about once a second.
    pub fn sweep(&self) {
        self.standby.sweep();
        self.revoked.sweep();
        self.unannounced.sweep(self.clock.now());
    }

    /// Notes a revocation that was announced to all instances.
    pub async fn apply_revocation(&self, id: TokenId, until: UnixMillis) {
        self.unannounced.remove(&[(id, until)]);
        self.remember(id, until).await;
    }

    /// Up to `count` revocations that other instances may not have heard of.
    #[must_use]
    pub fn unannounced(&self, count: usize) -> Vec<(TokenId, UnixMillis)> {
        self.unannounced.peek_batch(count)
    }

    /// These were announced.
    pub fn announced(&self, revocations: &[(TokenId, UnixMillis)]) {
        self.unannounced.remove(revocations);
    }

    /// Announcements may be missing: all revocations that were heard of are unannounced until they
    /// are heard of again.
    pub fn announce_all(&self) {
        self.unannounced.add(&self.revoked.peek_batch(usize::MAX).tombstones);
    }

    /// How often the primary was found to have lost data.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// The primary has lost data. All revocations that were heard of, which it has to be given
    /// again.
    fn lose(&self) -> Vec<(TokenId, UnixMillis)> {
        self.losses.fetch_add(1, Ordering::Relaxed);
        self.revoked.peek_batch(usize::MAX).tombstones
    }

    /// Without room for it, it holds as long as the primary can be asked.
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
                "there is no room for further revocations: those not remembered hold only while Redis can be asked. Raise memory.max_entries or memory.max_bytes"
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
