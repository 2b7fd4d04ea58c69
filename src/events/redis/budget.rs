//! Budget of an instance for entries that its streams in catch-up step over.
//!
//! Events that a stream gets are paced by its client. Entries of other topics are not: streams of
//! rare topics would make Redis look at the log as fast as it can. One budget for the instance
//! bounds that, whatever the number of its streams.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Bytes of entries that may be stepped over in a second: about an eighth of what a Redis looks at.
const BYTES_PER_SECOND: u32 = 32 * 1024 * 1024;
/// Bytes that may be stepped over at once after a pause.
const BURST: u32 = 4 * 1024 * 1024;

/// The budget, as the time at which everything that was spent is paid.
pub(super) struct Budget(Mutex<Instant>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Waits until something is left.
    pub(super) async fn left(&self) {
        let paid = *self.0.lock();
        if let Some(at) = paid.checked_sub(time_of(BURST as usize)) {
            sleep_until(at).await;
        }
    }

    /// Notes that so many bytes were stepped over.
    pub(super) fn spend(&self, bytes: usize) {
        let mut paid = self.0.lock();
        *paid = (*paid).max(Instant::now()) + time_of(bytes);
    }
}

/// Time in which so many bytes may be stepped over.
fn time_of(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Duration::from_secs(1).mul_f64(f64::from(bytes) / f64::from(BYTES_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps over pages until `bytes` are spent; returns the time it took.
    async fn step_over(budget: &Budget, bytes: usize) -> Duration {
        const PAGE: usize = 256 * 1024;
        let began = Instant::now();
        for _ in 0..bytes / PAGE {
            budget.left().await;
            budget.spend(PAGE);
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_steps_over_as_much_as_it_may_whatever_the_number_of_its_streams() {
        let (budget, second) = (Budget::new(), BYTES_PER_SECOND as usize);
        assert_eq!(step_over(&budget, BURST as usize).await, Duration::ZERO);
        let streams = (0..8).map(|_| step_over(&budget, second));
        let took = futures_util::future::join_all(streams).await.into_iter().max().unwrap();
        // A page more for each stream that waits at the same time.
        assert!(took > Duration::from_secs(7) && took < Duration::from_secs(9), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_no_more_than_the_burst_is_left() {
        let budget = Budget::new();
        tokio::time::advance(Duration::from_mins(1)).await;
        let took = step_over(&budget, BURST as usize + BYTES_PER_SECOND as usize).await;
        assert!(took > Duration::from_millis(900), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_step_over_nothing_wait_for_nothing() {
        let (budget, began) = (Budget::new(), Instant::now());
        for _ in 0..1000 {
            budget.left().await;
            budget.spend(0);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
