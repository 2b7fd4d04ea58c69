//! A master and its replica under Sentinels. Redis is back when the Sentinels agree on another master.

use vx11_rig::{SentinelSet, Trial, Turn};

use crate::instances::together;
use crate::{ROUNDS, targets};

async fn begin(turn: Turn, fault: &str, set: &SentinelSet) -> Trial {
    let sentinels = set.sentinels().join(",");
    together(turn, fault, &[("REDIS_SENTINELS", &sentinels), ("REDIS_SENTINEL_MASTER", set.name())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_killed() {
    let (turn, mut set) = (Turn::wait().await, SentinelSet::start().await);
    let mut trial = begin(turn, "Sentinel: master killed", &set).await;
    for _ in 0..ROUNDS {
        trial.strike().await;
        let old = set.kill_master().await;
        set.await_master_other_than(old).await;
        trial.recover().await;
        set.restart_killed().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_demoted_with_sockets_left_open() {
    let (turn, set) = (Turn::wait().await, SentinelSet::start().await);
    let mut trial = begin(turn, "Sentinel: master demoted", &set).await;
    for _ in 0..ROUNDS {
        trial.strike().await;
        let old = set.demote_leaving_sockets_open().await;
        set.await_master_other_than(old).await;
        trial.recover().await;
        set.await_healthy().await;
    }
    trial.judge(targets()).await;
}
