//! Decision whether an event needs a copy on a replica before it is acknowledged. Under Sentinel a
//! failover loses writes that only the master has.
//!
//! While a replica is in step, an event counts as published when one replica has it (`WAIT`). If
//! the last replica is lost, a failover may be under way. Only if the sentinels still name this
//! master after [`ALONE_AFTER`], events are acknowledged without a copy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Cmd;
use tokio::time::Instant;

/// Longer than the sentinels take to name a replica that they promoted.
const ALONE_AFTER: Duration = Duration::from_secs(2);
/// Deadline of `WAIT`.
const PATIENCE: Duration = Duration::from_millis(100);

/// State of the replicas of one master.
pub(super) struct Replicas {
    /// Whether a replica may replace the master, as under Sentinel. Otherwise no event needs a
    /// copy.
    matter: bool,
    last_in_step: Mutex<Instant>,
    needed: AtomicBool,
}

impl Replicas {
    /// `matter`: whether a replica may replace the master, as under Sentinel.
    pub(super) fn new(matter: bool) -> Self {
        Self { matter, last_in_step: Mutex::new(Instant::now()), needed: AtomicBool::new(matter) }
    }

    /// Whether an event needs a copy.
    pub(super) fn are_needed(&self) -> bool {
        self.needed.load(Ordering::Relaxed)
    }

    /// Command that waits until one replica has the writes before it.
    pub(super) fn wait() -> Cmd {
        let mut command = redis::cmd("WAIT");
        command.arg(1).arg(PATIENCE.as_millis().to_string());
        command
    }

    /// Notes how many replicas are in step. Returns whether none was for [`ALONE_AFTER`]: the
    /// caller then calls [`Self::alone`] if the sentinels still name this master.
    pub(super) fn found(&self, in_step: usize) -> bool {
        if !self.matter {
            return false;
        }
        let mut last = self.last_in_step.lock();
        if in_step > 0 {
            *last = Instant::now();
            self.needed.store(true, Ordering::Relaxed);
        }
        self.are_needed() && last.elapsed() >= ALONE_AFTER
    }

    /// Notes that the master has no replica and is still the master: events need no copy.
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

    /// A server with a replica, or a Redis Cluster: nobody would say that the master is still the
    /// master, so a lost replica would stop publishing for good.
    #[tokio::test(start_paused = true)]
    async fn no_event_needs_a_copy_where_no_sentinel_replaces_the_master() {
        let replicas = Replicas::new(false);
        for in_step in [1, 0] {
            tokio::time::advance(ALONE_AFTER).await;
            assert!(!replicas.found(in_step));
            assert!(!replicas.are_needed(), "{in_step} in step");
        }
    }
}
