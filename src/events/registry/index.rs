//! Index of streams: the numbers of the streams of each token or subject, in the order of their
//! registration. No locks, no time.

use std::collections::HashMap;
use std::hash::Hash;

/// Numbers of streams by what they have in common. Nothing is kept of one without streams.
pub(super) struct Index<K>(HashMap<K, Vec<u64>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Index<K> {
    /// Adds a stream, whose number is higher than all before.
    pub(super) fn add(&mut self, of: K, number: u64) {
        // Most have one stream.
        self.0.entry(of).or_insert_with(|| Vec::with_capacity(1)).push(number);
    }

    /// Removes a stream.
    pub(super) fn remove(&mut self, of: &K, number: u64) {
        let Some(numbers) = self.0.get_mut(of) else { return };
        // The numbers are sorted: a subject may have as many streams as the instance.
        if let Ok(place) = numbers.binary_search(&number) {
            numbers.remove(place);
        }
        if numbers.is_empty() {
            self.0.remove(of);
        }
    }

    /// The streams, the oldest first.
    pub(super) fn of(&self, of: &K) -> &[u64] {
        self.0.get(of).map_or(&[], Vec::as_slice)
    }

    /// The key of the index that is equal to this one, to share its memory.
    pub(super) fn shared(&self, of: &K) -> Option<&K> {
        self.0.get_key_value(of).map(|(key, _)| key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
