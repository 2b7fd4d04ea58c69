//! Ways in which the master changes.

use super::SentinelSet;
use crate::patience::until;

impl SentinelSet {
    /// Kills the master without warning and returns its port. The Sentinels notice by themselves.
    pub async fn kill_master(&mut self) -> u16 {
        let master = self.master_index().await;
        self.nodes[master].kill();
        self.nodes[master].port()
    }

    /// Kills the replica without warning: what the master takes from now on is nowhere else.
    pub async fn kill_replica(&mut self) {
        let replica = 1 - self.master_index().await;
        self.nodes[replica].kill();
    }

    /// Waits until all Sentinels that live agree on another master than `old`, which says so
    /// itself; returns its port.
    pub async fn await_master_other_than(&self, old: u16) -> u16 {
        let new = self.nodes.iter().find(|node| node.port() != old).expect("there are two servers");
        until("another master", async || {
            for watcher in &self.watchers {
                if watcher.master_port().await.is_some_and(|port| port != new.port()) {
                    return false;
                }
            }
            new.info("replication").await.get("role").is_some_and(|role| role == "master")
        })
        .await;
        new.port()
    }

    /// Starts the server again that was killed. It comes back as a master without data, until the
    /// Sentinels make it the other's replica; returns when they have, and all is well again.
    pub async fn restart_killed(&mut self) {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.restart().await;
            }
        }
        self.await_healthy().await;
    }

    /// Has the Sentinels exchange master and replica, in order: they close the clients' connections
    /// to both. Returns the port of the new master, when all is well again.
    pub async fn failover(&self) -> u16 {
        let old = self.master_port().await;
        // It is refused while another one is under way.
        until("a sentinel to obey", async || self.watchers[0].fail_over().await).await;
        let new = self.await_master_other_than(old).await;
        self.await_healthy().await;
        new
    }

    /// Exchanges master and replica behind the Sentinels' back: the old master refuses writes with
    /// `READONLY` when this returns, while connections to it stay open, except those that wait in a
    /// blocking command. The Sentinels still name the old master; they notice that it has become a
    /// replica, and then make the other the master
    /// ([`await_master_other_than`](Self::await_master_other_than)). Returns the port of the old
    /// master.
    pub async fn demote_leaving_sockets_open(&self) -> u16 {
        let (old, new) = (self.master().await, self.replica().await);
        new.command(&["REPLICAOF", "NO", "ONE"]).await;
        old.command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).await;
        old.port()
    }
}
