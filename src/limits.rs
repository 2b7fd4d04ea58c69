//! Limits that several parts share, and what follows from them.

use std::time::Duration;

/// Longest life that an instance may be configured to give a token, in seconds.
pub const LONGEST_LIFE_SECONDS: u32 = 900;

/// Difference of two instances' clocks for which no valid token is refused while no store answers.
/// If a store answers, an instance whose clock is ahead refuses a token early, by its lead.
pub const CLOCK_SKEW: Duration = Duration::from_secs(2);

/// A token's expiry is rounded up to the next second, by less than this.
const ROUNDING: Duration = Duration::from_secs(1);

/// Uncertainty of the time of issue, which is computed from a token's expiry.
pub const ISSUE_TIME_TOLERANCE: Duration = CLOCK_SKEW.saturating_add(ROUNDING);

/// A tombstone outlives its token by this much. A token is accepted for [`CLOCK_SKEW`] after its
/// expiry, by an instance whose clock may be late by as much.
pub const TOMBSTONE_MARGIN: Duration = CLOCK_SKEW.saturating_mul(2);

/// Longest block of a subject, in seconds.
pub const LONGEST_BLOCK_SECONDS: u32 = 86_400;

/// Bound of the orders of each kind that an instance remembers: revocations of subjects, blocks,
/// ends of streams. The bounds of the streams of orders in Redis follow from it.
pub const MOST_ORDERS: usize = 100_000;

/// Deadline for Redis while a request waits, dialling and a second try included.
pub const REDIS_DEADLINE: Duration = Duration::from_millis(150);

/// Deadline of a question to all instances.
pub const QUESTION_DEADLINE: Duration = Duration::from_secs(1);

/// Longest duration of an effect, such as a revocation: ending streams announces an order, and then
/// asks how many streams have ended, and removes the answers.
pub const LONGEST_EFFECT: Duration = REDIS_DEADLINE.saturating_mul(2).saturating_add(QUESTION_DEADLINE);

/// Largest body of a request, in bytes. No published event is larger.
pub const LARGEST_BODY: usize = 64 * 1024;

/// Bound of an event's data in a frame, in bytes. Only data of very short lines exceeds it, because
/// each line begins with `data: `.
pub const LONGEST_DATA: usize = 2 * LARGEST_BODY;

/// Longest idempotency key, in characters.
pub const LONGEST_KEY: usize = 128;
