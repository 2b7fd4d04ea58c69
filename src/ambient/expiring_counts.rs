//! Counting things that are over at a known second, without keeping them.

use std::sync::atomic::{AtomicU64, Ordering};

/// One more than the longest life of what is counted, in seconds, with room for rounding.
const SLOTS: usize = 1024;
/// Slots that no living thing can fill.
const SPARE: u64 = 100;

/// How many things are over in each second to come; bounded, because nothing counted lives longer than the ring.
pub struct ExpiringCounts {
    slots: Box<[AtomicU64]>,
    settled_until: AtomicU64,
}

impl Default for ExpiringCounts {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), settled_until: AtomicU64::new(0) }
    }
}

impl ExpiringCounts {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below the number of slots")]
    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.slots[(second % SLOTS as u64) as usize]
    }

    /// Counts one more that is over with `second`.
    pub fn add(&self, second: u64) {
        self.slot(second).fetch_add(1, Ordering::Relaxed);
    }

    /// Empties the slots of all seconds up to and including `now` that were not yet emptied; says how many things
    /// they held.
    pub fn take_until(&self, now: u64) -> u64 {
        let settled = self.settled_until.fetch_max(now, Ordering::Relaxed);
        // The first time there is nothing settled to go on from, and further back the slots are those of the future.
        let back = if settled == 0 { SPARE } else { SLOTS as u64 };
        let first = (settled + 1).max((now + 1).saturating_sub(back));
        (first..=now).map(|second| self.slot(second).swap(0, Ordering::Relaxed)).sum()
    }

    /// How many things are over in each of the seconds after `now`. Slots up to `now` must have been emptied.
    pub fn after(&self, now: u64) -> impl Iterator<Item = u64> {
        (now + 1..now + SLOTS as u64).map(|second| self.slot(second).load(Ordering::Relaxed))
    }
}
