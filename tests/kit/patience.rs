//! Waiting for something to become true, rather than for some time.

use std::time::{Duration, Instant};

/// Limit of every wait. Generous, because both cores may be busy with something else; what takes
/// longer has failed.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Looks again and again until there is something to see, and returns it.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    eventually(what, async || condition().await.then_some(())).await;
}
