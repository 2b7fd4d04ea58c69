//! The clock and randomness, and counts that expire.
//!
//! Both are passed as values, so that a test can stop the clock and repeat random choices.
//! Monotonic time (heartbeats, ages of streams) is tokio's, which tests pause.

mod expiring_counts;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use jiff::civil::DateTime;
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

    /// Reads RFC 3339, with any offset; digits below a millisecond are cut off. `None` for anything
    /// else, and for a moment before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
        let (local, offset) = local_time_and_offset(text)?;
        // The library's type of moments ends a day before the last of RFC 3339, which some backends
        // use as "never".
        let local: DateTime = local.parse().ok()?;
        u64::try_from((local.duration_since(EPOCH) - offset).as_millis()).ok().map(Self)
    }
}

/// Parts of a text in the form of RFC 3339 §5.6 with at most nine digits after the second: date and
/// time, whose ranges are not checked, and the offset. The library also reads other forms.
fn local_time_and_offset(text: &str) -> Option<(&str, SignedDuration)> {
    const DATE_AND_TIME: &str = "0000-00-00T00:00:00";
    const OFFSET: &str = "00:00";
    let fits = |text: &str, form: &str| {
        let is_like = |(byte, form): (u8, u8)| {
            if form == b'0' { byte.is_ascii_digit() } else { byte.eq_ignore_ascii_case(&form) }
        };
        text.len() == form.len() && text.bytes().zip(form.bytes()).all(is_like)
    };
    let (to_second, rest) = text.split_at_checked(DATE_AND_TIME.len())?;
    let digits = rest.strip_prefix('.').map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if !fits(to_second, DATE_AND_TIME) || digits.is_some_and(|digits| !(1..=9).contains(&digits)) {
        return None;
    }
    let (local, offset) = text.split_at(to_second.len() + digits.map_or(0, |digits| 1 + digits));
    if offset.eq_ignore_ascii_case("z") {
        return Some((local, SignedDuration::ZERO));
    }
    let (sign, ahead) = match offset.split_at_checked(1)? {
        ("+", ahead) => (1, ahead),
        ("-", offset) => (-1, offset),
        _ => return None,
    };
    let (hours, minutes) = ahead.split_once(':').filter(|_| fits(ahead, OFFSET))?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then(|| (local, SignedDuration::from_mins(sign * (60 * hours + minutes))))
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
    fn rfc3339_is_read_in_every_form_and_nothing_else_is() {
        for (text, moment) in [
            ("2026-01-03T20:00:00Z", 1_767_470_400_000),
            ("2026-01-03t20:00:00z", 1_767_470_400_000),
            ("2026-01-03T20:00:00.1239Z", 1_767_470_400_123),
            ("2026-01-03T20:00:00.123456789Z", 1_767_470_400_123),
            ("2026-01-03T21:30:00+01:30", 1_767_470_400_000),
            ("2026-01-03T12:00:00-08:00", 1_767_470_400_000),
            ("2026-01-03T20:00:00-00:00", 1_767_470_400_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            ("9999-12-31T23:59:59-23:59", 253_402_387_139_000),
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(text), Some(UnixMillis(moment)), "{text}");
        }
        for text in [
            "",
            "2026-01-03",
            "2026-01-03T20:00:00",
            "2026-01-03 20:00:00Z",
            "2026-01-03T20:00Z",
            "2026-01-03T20:00:00.Z",
            "2026-01-03T20:00:00,5Z",
            "2026-01-03T20:00:00.1234567890Z",
            "2026-01-03T20:00:00+01",
            "2026-01-03T20:00:00+0100",
            "2026-01-03T20:00:00+24:00",
            "2026-01-03T20:00:00",
            "2026-01-03T20:00:00*01:00",
            "2026-01-03T20:00:00+01:00[Europe/Berlin]",
            "20260103T200000Z",
            "+002026-01-03T20:00:00Z",
            "2026-02-29T20:00:00Z",
            "2026-01-03T24:00:00Z",
            "1969-12-31T23:59:59Z",
            " 2026-01-03T20:00:00Z",
            "2026-01-03T20:00:00Z ",
            "٢026-01-03T20:00:00Z",
            "1767470400",
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_that_was_written_is_read_again() {
        for moment in [0, 1, 1_767_470_400_123, 253_402_207_200_999] {
            assert_eq!(UnixMillis::parse_rfc3339(&UnixMillis(moment).rfc3339()), Some(UnixMillis(moment)));
        }
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
