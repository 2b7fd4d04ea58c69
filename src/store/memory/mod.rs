//! The store in this process's memory: bounded, sharded, expiring by time.
//!
//! It never makes room by dropping live records. Expired ones are swept a few at a time by the inserts that
//! follow them and by [`MemoryStore::sweep`], so that no single call pays for a whole second's worth.

mod expiring;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::expiring::{Expires, ExpiringMap};
use super::{Backend, Lookup, StoreError, StoreStatistics, TokenStore};
use crate::ambient::{Clock, UnixMillis};
use crate::token::{Record, TokenDigest, TokenId};

const SHARDS: usize = 16;
/// Expired entries each insert removes; more than one, so that sweeping outpaces inserting.
const SWEEP_PER_INSERT: usize = 4;
/// Expired entries one shard removes in a background sweep, or when the store seems full.
const SWEEP_PER_SHARD: usize = 4096;
const SAMPLE: usize = 5;
/// Resident bytes of one entry, rounded up; `cargo bench --bench store` measures it.
pub const ENTRY_BYTES: u64 = 160;

/// Bounds of the memory store.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Most records and tombstones held at once.
    pub entries: u64,
    /// Most bytes they may take, by the measured size of an entry.
    pub bytes: u64,
}

impl MemoryLimits {
    fn most_entries(self) -> u64 {
        self.entries.min(self.bytes / ENTRY_BYTES)
    }
}

/// Tokens in this process's memory.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    most_entries: u64,
    /// Entries held, live or not yet swept.
    entries: AtomicU64,
    started_at: UnixMillis,
    /// Picked by token id, so that a token's record and its tombstone share a lock.
    shards: [Mutex<Shard>; SHARDS],
}

struct Shard {
    records: ExpiringMap<TokenDigest, Record>,
    tombstones: ExpiringMap<TokenId, Tombstone>,
}

struct Tombstone(UnixMillis);

impl Shard {
    fn next_second(&self) -> Option<u64> {
        let (records, tombstones) = (self.records.next_second(), self.tombstones.next_second());
        records.into_iter().chain(tombstones).min()
    }
}

impl Expires for Record {
    fn expires_at(&self) -> UnixMillis {
        self.expires_at
    }
}

impl Expires for Tombstone {
    fn expires_at(&self) -> UnixMillis {
        self.0
    }
}

impl MemoryStore {
    /// An empty store, complete from now on.
    #[must_use]
    pub fn new(limits: MemoryLimits, clock: Arc<dyn Clock>) -> Self {
        Self {
            started_at: clock.now(),
            clock,
            most_entries: limits.most_entries(),
            entries: AtomicU64::new(0),
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    records: ExpiringMap::new(),
                    tombstones: ExpiringMap::new(),
                })
            }),
        }
    }

    /// Frees the memory of expired entries; called about once a second.
    pub fn sweep(&self) {
        let now = self.clock.now();
        for shard in &self.shards {
            self.sweep_shard(&mut shard.lock(), now, SWEEP_PER_SHARD);
        }
    }

    fn sweep_shard(&self, shard: &mut Shard, now: UnixMillis, budget: usize) {
        let removed = shard.records.sweep(now, budget) + shard.tombstones.sweep(now, budget);
        self.entries.fetch_sub(removed as u64, Ordering::Relaxed);
    }

    /// Lets `insert` put an entry with this id into its shard, in a place taken for it unless `holds` says that it
    /// has one. A store that seems full first sheds what has expired everywhere.
    fn place(
        &self,
        id: TokenId,
        holds: impl Fn(&Shard) -> bool,
        insert: impl FnOnce(&mut Shard),
    ) -> Result<(), StoreError> {
        for last_attempt in [false, true] {
            let mut shard = self.shard(id).lock();
            if holds(&shard) || self.try_reserve() {
                self.sweep_shard(&mut shard, self.clock.now(), SWEEP_PER_INSERT);
                insert(&mut shard);
                return Ok(());
            }
            drop(shard);
            if !last_attempt {
                self.sweep();
            }
        }
        Err(StoreError::Full {
            retry_after: self.until_next_expiry(),
        })
    }

    /// How long until the first entry expires; a second at least, so that nobody is told to come back at once.
    fn until_next_expiry(&self) -> Duration {
        let now = self.clock.now().seconds();
        let next = self
            .shards
            .iter()
            .filter_map(|shard| shard.lock().next_second())
            .min();
        Duration::from_secs(next.unwrap_or(now).saturating_sub(now).max(1))
    }

    fn try_reserve(&self) -> bool {
        let taken = self.entries.fetch_add(1, Ordering::Relaxed);
        if taken >= self.most_entries {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        taken < self.most_entries
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below the number of shards"
    )]
    fn shard(&self, id: TokenId) -> &Mutex<Shard> {
        &self.shards[(id.as_u64() % SHARDS as u64) as usize]
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn record(&self, digest: TokenDigest, record: Record) -> Result<(), StoreError> {
        self.place(
            digest.id(),
            |shard| shard.records.holds(&digest),
            |shard| shard.records.insert(digest, record),
        )
    }

    async fn lookup(&self, digest: TokenDigest) -> Result<Lookup, StoreError> {
        let now = self.clock.now();
        let shard = self.shard(digest.id()).lock();
        if shard.tombstones.get(&digest.id(), now).is_some() {
            return Ok(Lookup::Revoked);
        }
        Ok(shard
            .records
            .get(&digest, now)
            .map_or(Lookup::Absent, |record| Lookup::Active(record.clone())))
    }

    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<(), StoreError> {
        self.place(
            id,
            |shard| shard.tombstones.holds(&id),
            |shard| {
                let stands = shard
                    .tombstones
                    .get(&id, UnixMillis(0))
                    .is_some_and(|standing| standing.0 >= until);
                if !stands {
                    shard.tombstones.insert(id, Tombstone(until));
                }
                let taken_back = shard.records.remove_range(TokenDigest::with_id(id));
                self.entries.fetch_sub(taken_back as u64, Ordering::Relaxed);
            },
        )
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        let now = self.clock.now();
        let mut live = 0;
        let mut sample = Vec::with_capacity(SAMPLE);
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.sweep_shard(&mut shard, now, SWEEP_PER_SHARD);
            live += shard.records.len() as u64;
            let room = SAMPLE - sample.len();
            sample.extend(shard.records.sample(now, room).map(|digest| digest.id()));
        }
        Ok(StoreStatistics { live, sample })
    }

    fn complete_since(&self) -> UnixMillis {
        self.started_at
    }

    fn backend(&self) -> Backend {
        Backend::Memory
    }
}
