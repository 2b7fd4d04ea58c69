//! JWTs that were verified, by their SHA-256, so that each costs one verification. Bounded: the
//! oldest entry leaves first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::clock::UnixMillis;
use crate::principal::Principal;
use crate::topic::Pattern;

/// Bound of the entries.
const MOST_ENTRIES: usize = 10_000;
/// Bound of the entries' size, in bytes.
const MOST_BYTES: usize = 16 << 20;
/// Size of an entry without its texts, in bytes, with its places in both tables.
const ENTRY_BYTES: usize = 320;
/// Size of a pattern beside its text, in bytes.
const PATTERN_BYTES: usize = 32;

/// SHA-256 of a JWT.
pub(super) type Digest = [u8; 32];

struct Entry {
    principal: Arc<Principal>,
    until: UnixMillis,
    /// The version of issuers and keys that it was verified with.
    version: u64,
    bytes: usize,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Digest, Entry>,
    order: VecDeque<Digest>,
    bytes: usize,
}

/// The cache.
#[derive(Default)]
pub(super) struct Cache(RwLock<Table>);

impl Cache {
    /// The principal of a JWT that was verified with these issuers and keys, and has not expired.
    pub(super) fn get(&self, digest: &Digest, now: UnixMillis, version: u64) -> Option<Arc<Principal>> {
        let Self(table) = self;
        let table = table.read();
        let entry = table.entries.get(digest)?;
        (entry.version == version && now < entry.until).then(|| Arc::clone(&entry.principal))
    }

    /// Remembers the principal of a JWT.
    pub(super) fn insert(&self, digest: Digest, principal: Arc<Principal>, until: UnixMillis, version: u64) {
        let bytes = bytes_of(&principal);
        let Self(table) = self;
        let mut table = table.write();
        match table.entries.insert(digest, Entry { principal, until, version, bytes }) {
            Some(before) => table.bytes -= before.bytes,
            None => table.order.push_back(digest),
        }
        table.bytes += bytes;
        while table.entries.len() > MOST_ENTRIES || table.bytes > MOST_BYTES {
            let oldest = table.order.pop_front().and_then(|oldest| table.entries.remove(&oldest));
            let Some(oldest) = oldest else { break };
            table.bytes -= oldest.bytes;
        }
    }
}

fn bytes_of(principal: &Principal) -> usize {
    let patterns = principal.topics().iter().map(Pattern::as_str);
    let patterns: usize = patterns.map(|pattern| pattern.len() + PATTERN_BYTES).sum();
    let subject = principal.user().map_or(0, |user| user.subject.as_str().len());
    ENTRY_BYTES + patterns + subject
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::{PrincipalId, Rights};
    use crate::topic::Patterns;

    const NOW: UnixMillis = UnixMillis(1000);
    const LATER: UnixMillis = UnixMillis(2000);

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn principal(topics: &[String]) -> Arc<Principal> {
        let topics = Patterns::new(topics.iter().map(String::as_str)).unwrap();
        Arc::new(Principal::new(PrincipalId::parse("issuer").unwrap(), Rights::all(), topics))
    }

    #[test]
    fn a_jwt_is_remembered_until_it_expires_or_the_keys_change() {
        let cache = Cache::default();
        let someone = principal(&["a".to_owned()]);
        cache.insert(digest(1), Arc::clone(&someone), LATER, 7);
        assert!(cache.get(&digest(1), NOW, 7).is_some_and(|found| Arc::ptr_eq(&found, &someone)));
        assert!(cache.get(&digest(2), NOW, 7).is_none());
        assert!(cache.get(&digest(1), LATER, 7).is_none(), "expired");
        assert!(cache.get(&digest(1), NOW, 8).is_none(), "other keys");
        cache.insert(digest(1), someone, LATER, 8);
        assert!(cache.get(&digest(1), NOW, 8).is_some());
        assert_eq!(cache.0.read().order.len(), 1);
    }

    #[test]
    fn the_cache_is_bounded_in_entries_and_bytes_and_forgets_the_oldest() {
        let small = principal(&["a".to_owned()]);
        let large: Vec<_> = (0..16).map(|n| format!("{n:0>128}")).collect();
        let large = principal(&large);
        for (someone, bound) in [(small, MOST_ENTRIES), (large, MOST_BYTES / (ENTRY_BYTES + 16 * 160))] {
            let cache = Cache::default();
            for number in 0..bound + 10 {
                cache.insert(digest(number), Arc::clone(&someone), LATER, 0);
            }
            assert!(cache.get(&digest(9), NOW, 0).is_none());
            assert!(cache.get(&digest(10), NOW, 0).is_some());
            assert!(cache.get(&digest(bound + 9), NOW, 0).is_some());
            let table = cache.0.read();
            assert_eq!((table.entries.len(), table.order.len()), (bound, bound));
            assert_eq!(table.bytes, bound * bytes_of(&someone));
        }
    }
}
