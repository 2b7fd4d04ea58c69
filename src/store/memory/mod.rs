//! The store in this process's memory: bounded, sharded, with expiry.
//!
//! It never drops live records to make room. Expired ones are removed a few at a time, by later
//! inserts and by [`MemoryStore::sweep`], so that no call removes a whole second's worth.

mod expiring;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::expiring::{Expires, ExpiringMap};
use super::{Backend, Lookup, Recorded, RevocationScope, StoreError, StoreStatistics, TokenStore};
use crate::clock::{Clock, UnixMillis};
use crate::token::{Draft, Record, TokenDigest, TokenId};

/// Number of shards: many, so that their trees stay shallow.
const SHARDS: usize = 256;
/// Expired entries that an insert removes: more than one, so that removal outpaces insertion.
const SWEEP_PER_INSERT: usize = 4;
/// Expired entries that a shard removes in a background sweep, or when the store seems full.
const SWEEP_PER_SHARD: usize = 1024;
const SAMPLE: usize = 5;
/// Tombstones may exceed the bound by this fraction (an eighth): a full store can still revoke.
const TOMBSTONE_RESERVE: u64 = 8;
/// Resident bytes of an entry, rounded up, measured by `cargo bench --bench store`.
pub const ENTRY_BYTES: u64 = 160;

/// Bounds of the memory store.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Bound of records and tombstones.
    pub entries: u64,
    /// Bound of their bytes, by [`ENTRY_BYTES`].
    pub bytes: u64,
}

impl MemoryLimits {
    fn most_entries(self) -> u64 {
        self.entries.min(self.bytes / ENTRY_BYTES)
    }
}

/// Records and tombstones in this process's memory.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    most_entries: u64,
    /// Number of entries, expired ones that were not removed yet included.
    entries: AtomicU64,
    started_at: UnixMillis,
    /// Shards by token id, so that record and tombstone of a token share a lock.
    shards: [Mutex<Shard>; SHARDS],
}

/// A batch of records and tombstones.
#[derive(Debug, Default)]
pub struct Entries {
    /// Revoked token ids with the end of each tombstone.
    pub tombstones: Vec<(TokenId, UnixMillis)>,
    /// Records of tokens.
    pub records: Vec<(TokenDigest, Record)>,
}

impl Entries {
    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tombstones.len() + self.records.len()
    }

    /// Whether the batch is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct Shard {
    records: ExpiringMap<TokenDigest, Record>,
    tombstones: ExpiringMap<TokenId, Tombstone>,
}

struct Tombstone(UnixMillis);

impl Shard {
    fn len(&self) -> u64 {
        (self.records.len() + self.tombstones.len()) as u64
    }

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
    /// Creates an empty store, which is complete from now on.
    #[must_use]
    pub fn new(limits: MemoryLimits, clock: Arc<dyn Clock>) -> Self {
        Self {
            started_at: clock.now(),
            clock,
            most_entries: limits.most_entries(),
            entries: AtomicU64::new(0),
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard { records: ExpiringMap::new(), tombstones: ExpiringMap::new() })
            }),
        }
    }

    /// Inserts the record of a token.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room.
    pub fn insert(&self, digest: TokenDigest, record: Record) -> Result<(), StoreError> {
        self.place(
            digest.id(),
            self.most_entries,
            |shard| shard.records.holds(&digest),
            |shard| shard.records.insert(digest, record),
        )
    }

    /// Number of records and tombstones, expired ones that were not removed yet included.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// About `count` live entries at most, tombstones of a shard before its records.
    #[must_use]
    pub fn peek_batch(&self, count: usize) -> Entries {
        let now = self.clock.now();
        let mut some = Entries::default();
        for shard in &self.shards {
            let shard = shard.lock();
            let room = count.saturating_sub(some.len());
            some.tombstones.extend(shard.tombstones.iter(now).take(room).map(|(id, it)| (*id, it.0)));
            let room = count.saturating_sub(some.len());
            some.records
                .extend(shard.records.iter(now).take(room).map(|(digest, record)| (*digest, *record)));
            if room == 0 {
                break;
            }
        }
        some
    }

    /// Removes the entries that are the same as in `entries`. An entry that has changed stays.
    pub fn remove_if_unchanged(&self, entries: &Entries) {
        for (id, until) in &entries.tombstones {
            let mut shard = self.shard(*id).lock();
            let gone = shard.tombstones.remove_if(id, |kept| kept.0 == *until);
            self.release(gone.into());
        }
        for (digest, record) in &entries.records {
            let mut shard = self.shard(digest.id()).lock();
            let gone = shard.records.remove_if(digest, |kept| kept == record);
            self.release(gone.into());
        }
    }

    /// Frees expired entries; called about once a second.
    pub fn sweep(&self) {
        let now = self.clock.now();
        for shard in &self.shards {
            self.sweep_shard(&mut shard.lock(), now, SWEEP_PER_SHARD);
        }
    }

    fn sweep_shard(&self, shard: &mut Shard, now: UnixMillis, budget: usize) {
        let before = shard.len();
        shard.records.sweep(now, budget);
        shard.tombstones.sweep(now, budget);
        self.release(before - shard.len());
    }

    /// Runs `insert`, which adds one entry with this id to its shard, if the store has less than
    /// `bound` entries or the entry `replaces` another. A store that seems full removes expired
    /// entries of all shards first.
    fn place(
        &self,
        id: TokenId,
        bound: u64,
        replaces: impl Fn(&Shard) -> bool,
        insert: impl FnOnce(&mut Shard),
    ) -> Result<(), StoreError> {
        for last_attempt in [false, true] {
            let mut shard = self.shard(id).lock();
            // Removed first, so that nothing leaves between the check and the insertion.
            self.sweep_shard(&mut shard, self.clock.now(), SWEEP_PER_INSERT);
            let takes = u64::from(!replaces(&shard));
            if self.try_reserve(takes, bound) {
                // The count follows the shard, whatever `insert` removed or replaced.
                let expected = shard.len() + takes;
                insert(&mut shard);
                self.release(expected - shard.len());
                return Ok(());
            }
            drop(shard);
            if !last_attempt {
                self.sweep();
            }
        }
        Err(StoreError::Full { retry_after: self.until_next_expiry() })
    }

    /// Time until the first entry expires, at least a second, so that clients do not retry at once.
    fn until_next_expiry(&self) -> Duration {
        let now = self.clock.now().seconds();
        let next = self.shards.iter().filter_map(|shard| shard.lock().next_second()).min();
        Duration::from_secs(next.unwrap_or(now).saturating_sub(now).max(1))
    }

    /// Releases places. All workers share the counter's cache line, so it is written only if
    /// needed.
    fn release(&self, places: u64) {
        if places > 0 {
            self.entries.fetch_sub(places, Ordering::Relaxed);
        }
    }

    fn try_reserve(&self, places: u64, bound: u64) -> bool {
        if places == 0 {
            return true;
        }
        let granted = self.entries.fetch_add(places, Ordering::Relaxed) < bound;
        if !granted {
            self.release(places);
        }
        granted
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below the number of shards")]
    fn shard(&self, id: TokenId) -> &Mutex<Shard> {
        &self.shards[(id.as_u64() % SHARDS as u64) as usize]
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError> {
        let token = draft.mint();
        self.insert(token.digest(), draft.record)?;
        Ok(Recorded { token, backend: Backend::Memory })
    }

    async fn lookup(&self, digest: TokenDigest, issued_after: UnixMillis) -> Result<Lookup, StoreError> {
        let now = self.clock.now();
        let shard = self.shard(digest.id()).lock();
        if shard.tombstones.get(&digest.id(), now).is_some() {
            return Ok(Lookup::Revoked);
        }
        let absent = Lookup::Absent { complete: issued_after >= self.started_at };
        Ok(shard.records.get(&digest, now).map_or(absent, |record| Lookup::Active(*record)))
    }

    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<RevocationScope, StoreError> {
        self.place(
            id,
            self.most_entries + self.most_entries / TOMBSTONE_RESERVE,
            |shard| shard.tombstones.holds(&id) || shard.records.holds_any(TokenDigest::with_id(id)),
            |shard| {
                shard.records.remove_range(TokenDigest::with_id(id));
                let is_kept = shard.tombstones.get(&id, UnixMillis(0)).is_some_and(|kept| kept.0 >= until);
                if !is_kept {
                    shard.tombstones.insert(id, Tombstone(until));
                }
            },
        )?;
        Ok(RevocationScope::Cluster)
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
        Ok(StoreStatistics { live, sample, ..StoreStatistics::default() })
    }

    fn backend(&self) -> Backend {
        Backend::Memory
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;
    use crate::token::Token;

    #[derive(Debug, Clone)]
    enum Step {
        Record(u8, u8),
        Revoke(u8, u8),
        Advance(u16),
        Sweep,
        Forget(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6_u8, 1..4_u8).prop_map(|(token, life)| Step::Record(token, life)),
            (0..6_u8, 1..4_u8).prop_map(|(token, life)| Step::Revoke(token, life)),
            (1..2500_u16).prop_map(Step::Advance),
            Just(Step::Sweep),
            (0..4_u8).prop_map(Step::Forget),
        ]
    }

    fn digest(token: u8) -> TokenDigest {
        Token::parse(&format!("{token:08x}-0000-8000-8000-000000000000")).unwrap().digest()
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_there_and_never_more_than_the_bound_allows(
            room in 1..5_u64, steps in prop::collection::vec(step(), 0..80),
        ) {
            let clock = Arc::new(ManualClock::at(UnixMillis(1_767_470_400_000)));
            let limits = MemoryLimits { entries: room, bytes: u64::MAX };
            let store = MemoryStore::new(limits, Arc::<ManualClock>::clone(&clock));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for step in steps {
                let issued_at = clock.now();
                let after = |seconds: u8| issued_at.plus(Duration::from_secs(seconds.into()));
                match step {
                    Step::Record(token, life) => {
                        let record = Record { issued_at, expires_at: after(life) };
                        let _ = store.insert(digest(token), record);
                    }
                    Step::Revoke(token, life) => {
                        let _ = runtime.block_on(store.revoke(digest(token).id(), after(life)));
                    }
                    Step::Advance(millis) => clock.advance(Duration::from_millis(millis.into())),
                    Step::Sweep => store.sweep(),
                    Step::Forget(count) => store.remove_if_unchanged(&store.peek_batch(count.into())),
                }
                let there: u64 = store.shards.iter().map(|shard| shard.lock().len()).sum();
                prop_assert_eq!(store.entries.load(Ordering::Relaxed), there);
                prop_assert!(there <= room + room / TOMBSTONE_RESERVE);
            }
        }
    }
}
