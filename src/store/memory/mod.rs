//! The store in this process's memory: bounded, sharded, expiring by time.
//!
//! It never makes room by dropping live records. Expired ones are swept a few at a time by the
//! inserts that follow them and by [`MemoryStore::sweep`], so that no single call pays for a whole
//! second's worth.

mod expiring;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::expiring::{Expires, ExpiringMap};
use super::{Backend, Lookup, RevocationScope, StoreError, StoreStatistics, TokenStore};
use crate::clock::{Clock, UnixMillis};
use crate::token::{Record, TokenDigest, TokenId};

/// Many, so that their trees stay shallow.
const SHARDS: usize = 256;
/// Expired entries each insert removes; more than one, so that sweeping outpaces inserting.
const SWEEP_PER_INSERT: usize = 4;
/// Expired entries one shard removes in a background sweep, or when the store seems full.
const SWEEP_PER_SHARD: usize = 1024;
const SAMPLE: usize = 5;
/// Revocations of unknown tokens may exceed the bound by this fraction: a full store can still take
/// tokens back.
const TOMBSTONE_RESERVE: u64 = 8;
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

/// Some of what a store holds.
#[derive(Debug, Default)]
pub struct Entries {
    /// Tokens taken back, and until when that has to be remembered.
    pub tombstones: Vec<(TokenId, UnixMillis)>,
    /// Tokens.
    pub records: Vec<(TokenDigest, Record)>,
}

impl Entries {
    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tombstones.len() + self.records.len()
    }

    /// Whether there are none.
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
    /// An empty store, complete from now on.
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

    /// Records and tombstones held, some of which may be over but not yet swept.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Up to about `count` of what is held and not over, tombstones of a shard before its records.
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

    /// Lets go of what is held as it is in `entries`; what has changed since stays.
    pub fn remove_if_unchanged(&self, entries: &Entries) {
        for (id, until) in &entries.tombstones {
            let mut shard = self.shard(*id).lock();
            let gone = shard.tombstones.remove_if(id, |standing| standing.0 == *until);
            self.release(gone.into());
        }
        for (digest, record) in &entries.records {
            let mut shard = self.shard(digest.id()).lock();
            let gone = shard.records.remove_if(digest, |standing| standing == record);
            self.release(gone.into());
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
        let before = shard.len();
        shard.records.sweep(now, budget);
        shard.tombstones.sweep(now, budget);
        self.release(before - shard.len());
    }

    /// Lets `insert` put one entry with this id into its shard, in a place taken for it below
    /// `bound` unless it `replaces` another. A store that seems full first sheds what has expired
    /// everywhere.
    fn place(
        &self,
        id: TokenId,
        bound: u64,
        replaces: impl Fn(&Shard) -> bool,
        insert: impl FnOnce(&mut Shard),
    ) -> Result<(), StoreError> {
        for last_attempt in [false, true] {
            let mut shard = self.shard(id).lock();
            // Swept first, so that nothing leaves between looking and inserting.
            self.sweep_shard(&mut shard, self.clock.now(), SWEEP_PER_INSERT);
            let takes = u64::from(!replaces(&shard));
            if self.try_reserve(takes, bound) {
                // What is counted is what is there, whatever `insert` removed or replaced.
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

    /// How long until the first entry expires; a second at least, so that nobody is told to come
    /// back at once.
    fn until_next_expiry(&self) -> Duration {
        let now = self.clock.now().seconds();
        let next = self.shards.iter().filter_map(|shard| shard.lock().next_second()).min();
        Duration::from_secs(next.unwrap_or(now).saturating_sub(now).max(1))
    }

    /// The count is one cache line that all workers share: nothing is written for nothing.
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
    async fn record(&self, digest: TokenDigest, record: Record) -> Result<Backend, StoreError> {
        self.place(
            digest.id(),
            self.most_entries,
            |shard| shard.records.holds(&digest),
            |shard| shard.records.insert(digest, record),
        )?;
        Ok(Backend::Memory)
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
                let stands =
                    shard.tombstones.get(&id, UnixMillis(0)).is_some_and(|standing| standing.0 >= until);
                if !stands {
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
                        let _ = runtime.block_on(store.record(digest(token), record));
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
