//! Revocations that were not announced yet. Each waits here until this instance announces it, or
//! reads it among the announcements of the others.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::clock::UnixMillis;
use crate::token::TokenId;

/// A revocation: token id and end.
type Revocation = (TokenId, UnixMillis);

/// Revocations without an announcement. Bounded by the two stores that they come from.
#[derive(Default)]
pub(super) struct Unannounced(Mutex<BTreeMap<TokenId, UnixMillis>>);

impl Unannounced {
    /// Adds revocations.
    pub(super) fn add(&self, revocations: &[Revocation]) {
        let mut all = self.0.lock();
        for (id, until) in revocations {
            let waiting = all.entry(*id).or_insert(*until);
            *waiting = (*waiting).max(*until);
        }
    }

    /// Up to `count` of them.
    pub(super) fn peek_batch(&self, count: usize) -> Vec<Revocation> {
        self.0.lock().iter().take(count).map(|(id, until)| (*id, *until)).collect()
    }

    /// Removes announced revocations. One that was extended since then stays.
    pub(super) fn remove(&self, revocations: &[Revocation]) {
        let mut all = self.0.lock();
        for (id, until) in revocations {
            if all.get(id).is_some_and(|waiting| waiting <= until) {
                all.remove(id);
            }
        }
    }

    /// Removes expired ones.
    pub(super) fn sweep(&self, now: UnixMillis) {
        self.0.lock().retain(|_, until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(number: u64, until: u64) -> Revocation {
        (TokenId::parse(&format!("{number:016x}")).unwrap(), UnixMillis(until))
    }

    #[test]
    fn a_revocation_waits_until_its_latest_end_is_announced() {
        let waiting = Unannounced::default();
        waiting.add(&[revocation(1, 10), revocation(2, 10)]);
        waiting.add(&[revocation(1, 20), revocation(2, 5)]);
        assert_eq!(waiting.peek_batch(9), [revocation(1, 20), revocation(2, 10)]);
        waiting.remove(&[revocation(1, 10), revocation(2, 10), revocation(3, 10)]);
        assert_eq!(waiting.peek_batch(9), [revocation(1, 20)]);
        waiting.remove(&[revocation(1, 20)]);
        assert_eq!(waiting.peek_batch(9), []);
    }

    #[test]
    fn a_revocation_that_is_over_waits_no_longer() {
        let waiting = Unannounced::default();
        waiting.add(&[revocation(1, 10), revocation(2, 11)]);
        waiting.sweep(UnixMillis(10));
        assert_eq!(waiting.peek_batch(9), [revocation(2, 11)]);
    }
}
