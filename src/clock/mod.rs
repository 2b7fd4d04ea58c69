//! The clock and randomness, and counts that expire.
//!
//! Both are passed as values, so that a test can stop the clock and repeat random choices.
//! Monotonic time (heartbeats, ages of streams) is tokio's, which tests pause.

mod expiring_counts;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

pub use expiring_counts::ExpiringCounts;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The whole second this moment lies in.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The first whole second that is not before this moment.
    #[must_use]
    pub const fn seconds_rounded_up(self) -> u64 {
        self.0.div_ceil(1000)
    }

    /// This moment moved into the future; saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This moment moved into the past; saturates at the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// RFC 3339 in UTC with milliseconds, for example `2026-01-03T20:00:00.000Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        format!("{moment:.3}")
    }
}

/// A clock: the time of day.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> UnixMillis;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that tests move.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock at `start`.
    #[must_use]
    pub const fn at(start: UnixMillis) -> Self {
        Self(AtomicU64::new(start.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

/// Random numbers for spreading actions in time. Not for secrets.
#[derive(Debug)]
pub struct Jitter(Mutex<fastrand::Rng>);

impl Jitter {
    /// A source that repeats itself for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A duration drawn evenly from `low..=high`.
    #[must_use]
    pub fn between(&self, low: Duration, high: Duration) -> Duration {
        low + high.saturating_sub(low).mul_f64(self.0.lock().f64())
    }

    /// An arbitrary 64-bit number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.lock().u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_rfc3339_in_utc() {
        assert_eq!(UnixMillis(1_767_470_400_123).rfc3339(), "2026-01-03T20:00:00.123Z");
        assert_eq!(UnixMillis(1_767_470_400_000).rfc3339(), "2026-01-03T20:00:00.000Z");
    }

    #[test]
    fn jitter_stays_between_its_bounds_and_repeats_for_a_seed() {
        let (low, high) = (Duration::from_millis(100), Duration::from_millis(200));
        let draws = |seed| {
            let jitter = Jitter::seeded(seed);
            (0..100).map(|_| jitter.between(low, high)).collect::<Vec<_>>()
        };
        assert!(draws(7).iter().all(|drawn| (low..=high).contains(drawn)));
        assert_eq!(draws(7), draws(7));
    }
}
