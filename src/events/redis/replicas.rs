//! Whether an event needs a copy before it is acknowledged. Under Sentinel a failover loses what only the master has.
//!
//! While a replica is in step, an event counts as published when one has it (`WAIT`). A master whose last replica is gone
//! may be about to be replaced by it; only when the sentinels still name this master a while later is it taken to be
//! alone, and trusted alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Cmd;
use tokio::time::Instant;

/// Longer than it takes the sentinels to name a replica they have promoted.
const ALONE_AFTER: Duration = Duration::from_secs(2);
/// For a replica's word.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is known of the replicas of one master.
pub(super) struct Replicas {
    last_in_step: Mutex<Instant>,
    needed: AtomicBool,
}

impl Replicas {
    /// `matter`: whether one of them may take the master's place.
    pub(super) fn new(matter: bool) -> Self {
        Self { last_in_step: Mutex::new(Instant::now()), needed: AtomicBool::new(matter) }
    }

    /// Whether an event has to be copied.
    pub(super) fn are_needed(&self) -> bool {
        self.needed.load(Ordering::Relaxed)
    }

    /// Waits for a copy of what was written before.
    pub(super) fn wait() -> Cmd {
        let mut command = redis::cmd("WAIT");
        command.arg(1).arg(PATIENCE.as_millis().to_string());
        command
    }

    /// So many replicas were in step just now. Says whether the sentinels should be asked who is master, and
    /// [`Self::alone`] called if it is still this one.
    pub(super) fn found(&self, in_step: usize) -> bool {
        let mut last = self.last_in_step.lock();
        if in_step > 0 {
            *last = Instant::now();
            self.needed.store(true, Ordering::Relaxed);
        }
        self.are_needed() && last.elapsed() >= ALONE_AFTER
    }

    /// The master has no replica, and is master all the same.
    pub(super) fn alone(&self) {
        self.needed.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_master_is_trusted_alone_only_after_a_while_and_no_longer_when_a_replica_is_back() {
        let replicas = Replicas::new(true);
        assert!(replicas.are_needed());
        assert!(!replicas.found(0), "it may be about to be replaced");
        tokio::time::advance(ALONE_AFTER).await;
        assert!(replicas.found(0));
        replicas.alone();
        assert!(!replicas.are_needed() && !replicas.found(0));
        assert!(!replicas.found(1));
        assert!(replicas.are_needed());
    }
}
