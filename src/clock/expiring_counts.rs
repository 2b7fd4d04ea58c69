//! Counts of things with a known expiry, without keeping the things.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of slots: the longest lifetime in seconds, with room for rounding.
const SLOTS: usize = 1024;
/// Slots that nothing live can occupy.
const SPARE: u64 = 100;

/// Number of things that expire in each second to come. Bounded, because nothing lives longer than
/// the slots cover.
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

    /// Counts a thing that expires in `second`.
    pub fn add(&self, second: u64) {
        self.slot(second).fetch_add(1, Ordering::Relaxed);
    }

    /// Empties the slots up to and including `now`. Returns how many things they held. If the clock
    /// was set back, seconds that come twice are emptied twice.
    pub fn take_until(&self, now: u64) -> u64 {
        let settled = self.settled_until.swap(now, Ordering::Relaxed);
        if settled >= now + SLOTS as u64 {
            // The clock was far ahead when all slots were emptied. Their content was counted by
            // that clock, and its seconds will not come.
            return self.slots.iter().map(|slot| slot.swap(0, Ordering::Relaxed)).sum();
        }
        // The first call has no start, and slots further back belong to the future.
        let back = if settled == 0 { SPARE } else { SLOTS as u64 };
        let first = (settled + 1).max((now + 1).saturating_sub(back));
        (first..=now).map(|second| self.slot(second).swap(0, Ordering::Relaxed)).sum()
    }

    /// Number of things that expire in each second after `now`. Slots up to `now` must be empty.
    pub fn after(&self, now: u64) -> impl Iterator<Item = u64> {
        (now + 1..now + SLOTS as u64).map(|second| self.slot(second).load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_470_400;
    const LIFE: u64 = 2;
    const STAY: u64 = 3;

    /// Counts ten things a second, each with a lifetime of two, by the seconds of `clock`. Returns
    /// the live ones at the end of each second.
    fn counted(clock: impl Iterator<Item = u64>) -> Vec<u64> {
        let counts = ExpiringCounts::default();
        let mut there = 0;
        clock
            .map(|now| {
                there -= counts.take_until(now);
                (0..10).for_each(|_| counts.add(now + LIFE));
                there += 10;
                there
            })
            .collect()
    }

    #[test]
    fn after_a_clock_was_ahead_for_some_seconds_what_is_over_leaves_again() {
        for ahead in [1, 5, 60, 600, 1000, 3600, 86_400] {
            let before = NOW..NOW + 10;
            let jump = (before.end..before.end + STAY).map(|now| now + ahead);
            let after = before.end + STAY..before.end + STAY + 100;
            let there = counted(before.clone().chain(jump).chain(after));
            assert_eq!(there[9], 10 * LIFE, "before");
            let last = there.last().copied().unwrap();
            // Things that were counted by the wrong clock may live longer by the difference.
            let by_that_clock = if (100..=1000).contains(&ahead) { 10 * STAY } else { 0 };
            assert!((10 * LIFE..=10 * LIFE + by_that_clock).contains(&last), "{ahead}: {there:?}");
        }
    }

    #[test]
    fn a_second_in_the_past_takes_only_what_has_expired_until_then() {
        let counts = ExpiringCounts::default();
        counts.take_until(NOW);
        counts.add(NOW + 2);
        assert_eq!(
            (counts.take_until(NOW + 1), counts.take_until(NOW), counts.take_until(NOW + 1)),
            (0, 0, 0)
        );
        assert_eq!(counts.take_until(NOW + 2), 1);
    }
}
