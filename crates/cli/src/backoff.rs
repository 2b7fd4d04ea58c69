//! Backoff by the rules of the browser client: full jitter under a bound that doubles. It starts
//! again after a connection has opened, unless connections keep ending at once.

use std::time::Duration;

use fastrand::Rng;

/// Shortest life of a connection that does not count as short-lived.
const STABLE: Duration = Duration::from_secs(2);
/// Bound of the wait after consecutive short-lived connections.
const MOST_FLAPS: u32 = 2;
/// Life of a connection after which an end for its token's sake does not count as one more.
const LASTING: Duration = Duration::from_mins(1);
/// Longest wait that a server may ask for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(5);

pub(super) struct Backoff {
    rng: Rng,
    least: Duration,
    most: Duration,
    failures: u32,
    flaps: u32,
    /// Consecutive connections that ended for a reason about their token.
    access_ends: u32,
}

impl Backoff {
    /// Creates a backoff whose bound grows from `least` to `most`.
    pub(super) const fn new(rng: Rng, (least, most): (Duration, Duration)) -> Self {
        Self { rng, least, most, failures: 0, flaps: 0, access_ends: 0 }
    }

    /// The wait after one more failure: random, up to the bound.
    pub(super) fn next(&mut self) -> Duration {
        let bound = self.least.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(self.rng.f64())
    }

    /// The wait after one more failure, at least as long as the server asks for. Jitter is added,
    /// because all clients get the same value.
    pub(super) fn next_after(&mut self, retry_after: Option<Duration>) -> Duration {
        retry_after.unwrap_or_default().min(LONGEST_WAIT) + self.next()
    }

    /// The wait after a connection that ended for a reason about its token. The stream of the next
    /// token may end in the same way.
    pub(super) fn next_after_access_end(&mut self, asked: Option<Duration>) -> Duration {
        self.failures = self.failures.max(self.access_ends);
        self.access_ends = self.access_ends.saturating_add(1);
        self.next_after(asked)
    }

    /// Notes the end of a connection that had opened.
    pub(super) fn settle(&mut self, stayed: Duration) {
        if stayed >= LASTING {
            self.access_ends = 0;
        }
        if stayed >= STABLE {
            self.flaps = 0;
        }
        self.failures = self.flaps;
        self.flaps = (self.flaps + 1).min(MOST_FLAPS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(3);

    /// The largest of many waits, each drawn after `before` was applied to a new backoff.
    fn bound(before: impl Fn(&mut Backoff)) -> Duration {
        let waits = (0..500).map(|seed| {
            let mut backoff = Backoff::new(Rng::with_seed(seed), (LEAST, MOST));
            before(&mut backoff);
            backoff.next()
        });
        let waits: Vec<_> = waits.collect();
        let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*shortest < *longest / 20, "full jitter begins at nothing, not at {shortest:?}");
        *longest
    }

    fn is_about(bound: Duration, expected: Duration) -> bool {
        bound <= expected && bound > expected.mul_f64(0.95)
    }

    /// A number of consecutive failures.
    fn fail(backoff: &mut Backoff, times: usize) {
        for _ in 0..times {
            backoff.next();
        }
    }

    #[test]
    fn the_bound_doubles_with_each_failure_up_to_the_longest() {
        for (failures, expected) in [(0, LEAST), (1, LEAST * 2), (2, LEAST * 4), (3, MOST), (100, MOST)] {
            let bound = bound(|backoff| fail(backoff, failures));
            assert!(is_about(bound, expected), "{failures}: {bound:?}");
        }
    }

    #[test]
    fn a_connection_that_stayed_starts_over_and_those_that_do_not_slow_down_to_seconds() {
        let settled = |stays: &[u64]| {
            bound(|backoff| {
                fail(backoff, 10);
                for stayed in stays {
                    backoff.settle(Duration::from_secs(*stayed));
                }
            })
        };
        assert!(is_about(settled(&[60]), LEAST));
        assert!(is_about(settled(&[0]), LEAST));
        assert!(is_about(settled(&[0, 0]), LEAST * 2));
        assert!(is_about(settled(&[0, 0, 0, 0, 0]), LEAST * 4));
        assert!(is_about(settled(&[0, 0, 0, 60]), LEAST));
    }

    #[test]
    fn connections_that_end_again_for_the_sake_of_their_token_wait_ever_longer() {
        // The longest of many waits after connections that stayed this many seconds.
        let longest = |stays: &[u64]| {
            let last = |seed| {
                let mut backoff = Backoff::new(Rng::with_seed(seed), (LEAST, MOST));
                let waits = stays.iter().map(|stayed| {
                    backoff.settle(Duration::from_secs(*stayed));
                    backoff.next_after_access_end(None)
                });
                waits.last().unwrap()
            };
            (0..500).map(last).max().unwrap()
        };
        for (stays, expected) in [
            ([5].as_slice(), LEAST),
            (&[5, 59], LEAST * 2),
            (&[5, 5, 5], LEAST * 4),
            (&[5; 9], MOST),
            (&[5, 5, 5, 60], LEAST),
        ] {
            assert!(is_about(longest(stays), expected), "{stays:?}");
        }
    }

    #[test]
    fn what_the_server_asks_for_comes_first_within_reason() {
        let mut backoff = Backoff::new(Rng::with_seed(1), (LEAST, MOST));
        let retry_after = Duration::from_secs(7);
        let wait = backoff.next_after(Some(retry_after));
        assert!((retry_after..=retry_after + LEAST).contains(&wait), "{wait:?}");
        assert!(backoff.next_after(Some(Duration::MAX)) <= LONGEST_WAIT + MOST);
    }
}
