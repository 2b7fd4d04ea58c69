//! A map with expiry: each key is also filed under the second after which it may be removed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;

use crate::clock::UnixMillis;

/// Keys that a sample examines for each key it returns, at most.
const CANDIDATES: usize = 64;

/// A value with a known expiry.
pub(super) trait Expires {
    /// First moment at which it is expired.
    fn expires_at(&self) -> UnixMillis;
}

/// Entries by key, and keys by second of expiry. A B-tree grows without copying all of itself,
/// unlike a hash table, which would do so during a request (docs/adr/0004).
pub(super) struct ExpiringMap<K, V> {
    entries: BTreeMap<K, V>,
    by_second: BTreeMap<u64, Vec<K>>,
}

impl<K: Copy + Ord, V: Expires> ExpiringMap<K, V> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), by_second: BTreeMap::new() }
    }

    /// The entry, unless it is expired at `now`.
    pub(super) fn get(&self, key: &K, now: UnixMillis) -> Option<&V> {
        self.entries.get(key).filter(|value| value.expires_at() > now)
    }

    /// Whether there is an entry, possibly expired.
    pub(super) fn holds(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether there is an entry with a key in `range`, possibly expired.
    pub(super) fn holds_any(&self, range: RangeInclusive<K>) -> bool {
        self.entries.range(range).next().is_some()
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let second = value.expires_at().seconds_rounded_up();
        let replaced = self.entries.insert(key, value);
        let already_filed = replaced.is_some_and(|old| old.expires_at().seconds_rounded_up() == second);
        if !already_filed {
            self.by_second.entry(second).or_default().push(key);
        }
    }

    /// Removes all entries with keys in `range`. Returns their number.
    pub(super) fn remove_range(&mut self, range: RangeInclusive<K>) -> usize {
        let keys: Vec<K> = self.entries.range(range).map(|(key, _)| *key).collect();
        // Their keys stay in `by_second` until their second; a sweep finds no entry for them.
        keys.iter().filter(|key| self.entries.remove(key).is_some()).count()
    }

    /// Removes the entry if it exists and is `unwanted`. Returns whether it was removed. Its key
    /// stays in `by_second` until its second.
    pub(super) fn remove_if(&mut self, key: &K, unwanted: impl FnOnce(&V) -> bool) -> bool {
        self.entries.get(key).is_some_and(unwanted) && self.entries.remove(key).is_some()
    }

    /// The entries that are not expired at `now`.
    pub(super) fn iter(&self, now: UnixMillis) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().filter(move |(_, value)| value.expires_at() > now)
    }

    /// Removes up to `budget` expired entries. Returns their number.
    pub(super) fn sweep(&mut self, now: UnixMillis, budget: usize) -> usize {
        let mut removed = 0;
        for _ in 0..budget {
            let Some(mut bucket) = self.by_second.first_entry() else {
                break;
            };
            if *bucket.key() > now.seconds() {
                break;
            }
            let Some(key) = bucket.get_mut().pop() else {
                bucket.remove();
                continue;
            };
            // An entry that was replaced by a longer-lived one is also filed under a later second.
            if let Entry::Occupied(entry) = self.entries.entry(key)
                && entry.get().expires_at() <= now
            {
                entry.remove();
                removed += 1;
            }
        }
        removed
    }

    /// Number of entries, expired ones that were not removed yet included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Up to `count` keys that are not expired at `now`, the longest-lived first. Examines a
    /// bounded number of keys, because keys of removed entries stay filed until their second.
    pub(super) fn sample(&self, now: UnixMillis, count: usize) -> impl Iterator<Item = &K> {
        self.by_second
            .range(now.seconds() + 1..)
            .rev()
            .flat_map(|(_, keys)| keys.iter().rev())
            .take(count * CANDIDATES)
            .filter(move |key| self.get(key, now).is_some())
            .take(count)
    }

    /// Second of the next expiry.
    pub(super) fn next_second(&self) -> Option<u64> {
        self.by_second.first_key_value().map(|(second, _)| *second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Expires for UnixMillis {
        fn expires_at(&self) -> UnixMillis {
            *self
        }
    }

    #[test]
    fn a_sweep_takes_no_more_than_its_budget_and_nothing_alive() {
        let mut map = ExpiringMap::new();
        for key in 0..10_u64 {
            map.insert(key, UnixMillis(1000 + key * 1000));
        }
        assert_eq!(map.sweep(UnixMillis(5000), 3), 2, "one step of the budget went to an emptied second");
        assert_eq!(map.sweep(UnixMillis(5000), 100), 3);
        assert_eq!(map.sweep(UnixMillis(5000), 100), 0);
        assert_eq!(map.len(), 5);
        assert_eq!(map.next_second(), Some(6));
    }

    #[test]
    fn an_entry_replaced_by_a_longer_lived_one_survives_the_sweep_of_the_first() {
        let mut map = ExpiringMap::new();
        map.insert("key", UnixMillis(1000));
        map.insert("key", UnixMillis(9000));
        map.sweep(UnixMillis(5000), 100);
        assert!(map.get(&"key", UnixMillis(5000)).is_some());
        map.sweep(UnixMillis(9000), 100);
        assert!(!map.holds(&"key"));
    }

    #[test]
    fn removing_a_range_takes_the_whole_range_and_nothing_else() {
        let mut map = ExpiringMap::new();
        for key in 0..10_u64 {
            map.insert(key, UnixMillis(1000));
        }
        assert_eq!(map.remove_range(3..=5), 3);
        assert_eq!(map.remove_range(3..=5), 0);
        assert!(map.holds(&2) && map.holds(&6) && !map.holds(&4));
        assert_eq!(map.sweep(UnixMillis(5000), 100), 7);
    }

    #[test]
    fn an_entry_is_not_returned_from_the_millisecond_of_its_expiry() {
        let mut map = ExpiringMap::new();
        map.insert("key", UnixMillis(1500));
        assert!(map.get(&"key", UnixMillis(1499)).is_some());
        assert!(map.get(&"key", UnixMillis(1500)).is_none());
    }
}
