//! A master and its replica under Sentinels. Redis is back when the Sentinels agree on another
//! master.

use std::time::Duration;

use vx11_kit::{FaultProxy, SentinelSet};
use vx11_rig::{FaultRun, Targets};

use crate::instances::together;
use crate::{rounds, targets};

/// Failovers that are ordered; each takes the sentinels seconds.
const ORDERED: u64 = 5;
/// Longer than any memory of a sentinel's answer.
const SILENT_FOR: Duration = Duration::from_secs(5);

async fn begin(fault: &str, set: &SentinelSet) -> FaultRun {
    let sentinels = set.sentinels().join(",");
    together(fault, &[("REDIS_SENTINELS", &sentinels), ("REDIS_SENTINEL_MASTER", set.name())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_killed() {
    let mut set = SentinelSet::start().await;
    let mut fault_run = begin("Sentinel: master killed", &set).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        let old = set.kill_master().await;
        set.await_master_other_than(old).await;
        fault_run.recover().await;
        set.restart_killed().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_demoted_with_sockets_left_open() {
    let set = SentinelSet::start().await;
    let mut fault_run = begin("Sentinel: master demoted", &set).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        let old = set.demote_leaving_sockets_open().await;
        set.await_master_other_than(old).await;
        fault_run.recover().await;
        set.await_healthy().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_orders_a_failover() {
    let set = SentinelSet::start().await;
    let mut fault_run = begin("Sentinel: failover ordered", &set).await;
    for _ in 0..ORDERED {
        fault_run.begin_fault().await;
        set.failover().await;
        fault_run.recover().await;
        set.await_healthy().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_does_not_answer_and_nobody_notices() {
    let set = SentinelSet::start().await;
    let mut sentinels = set.sentinels();
    let way = FaultProxy::start(sentinels[0].clone());
    sentinels[0] = way.address();
    let sentinels = sentinels.join(",");
    let environment = [("REDIS_SENTINELS", &*sentinels), ("REDIS_SENTINEL_MASTER", set.name())];
    let mut fault_run = together("Sentinel: one is silent", &environment).await;
    fault_run.begin_fault().await;
    way.black_hole();
    tokio::time::sleep(SILENT_FOR).await;
    way.pass();
    fault_run.recover().await;
    fault_run.judge(Targets { openings: 0, ..targets() }).await;
}
