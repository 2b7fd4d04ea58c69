//! A master and its replica under Sentinels. Redis is back when the Sentinels agree on another master.

use std::time::Duration;

use vx11_rig::{FaultProxy, SentinelSet, Targets, Trial, Turn};

use crate::instances::together;
use crate::{rounds, targets};

/// Failovers that are ordered; each takes the sentinels seconds.
const ORDERED: u64 = 5;
/// Longer than anything that is remembered of a sentinel's word.
const SILENT_FOR: Duration = Duration::from_secs(5);

async fn begin(turn: Turn, fault: &str, set: &SentinelSet) -> Trial {
    let sentinels = set.sentinels().join(",");
    together(turn, fault, &[("REDIS_SENTINELS", &sentinels), ("REDIS_SENTINEL_MASTER", set.name())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_killed() {
    let (turn, mut set) = (Turn::wait().await, SentinelSet::start().await);
    let mut trial = begin(turn, "Sentinel: master killed", &set).await;
    for _ in 0..rounds() {
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
    for _ in 0..rounds() {
        trial.strike().await;
        let old = set.demote_leaving_sockets_open().await;
        set.await_master_other_than(old).await;
        trial.recover().await;
        set.await_healthy().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_orders_a_failover() {
    let (turn, set) = (Turn::wait().await, SentinelSet::start().await);
    let mut trial = begin(turn, "Sentinel: failover ordered", &set).await;
    for _ in 0..ORDERED {
        trial.strike().await;
        set.failover().await;
        trial.recover().await;
        set.await_healthy().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_does_not_answer_and_nobody_notices() {
    let (turn, set) = (Turn::wait().await, SentinelSet::start().await);
    let mut sentinels = set.sentinels();
    let way = FaultProxy::start(sentinels[0].clone());
    sentinels[0] = way.address();
    let sentinels = sentinels.join(",");
    let environment = [("REDIS_SENTINELS", &*sentinels), ("REDIS_SENTINEL_MASTER", set.name())];
    let mut trial = together(turn, "Sentinel: one is silent", &environment).await;
    trial.strike().await;
    way.black_hole();
    tokio::time::sleep(SILENT_FOR).await;
    way.pass();
    trial.recover().await;
    trial.judge(Targets { openings: 0, ..targets() }).await;
}
