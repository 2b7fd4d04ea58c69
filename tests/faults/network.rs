//! The network between instances and Redis.

use std::time::Duration;

use tokio::time::sleep;
use vx11_kit::{FaultProxy, RedisServer};
use vx11_rig::Targets;

use crate::instances::apart;
use crate::{rounds, targets};

/// Ups and downs of a flapping network in one round.
const FLAPS: u64 = 6;
/// Half of each.
const FLAP: Duration = Duration::from_secs(1);
/// A flapping network is tried so often.
const FLAPPING_ROUNDS: u64 = 2;

/// A slow network is tried so often.
const SLOW_ROUNDS: u64 = 3;
/// Between a question and its answer.
const SLOW: Duration = Duration::from_millis(80);
const SLOW_FOR: Duration = Duration::from_secs(3);

/// A separate fault proxy for each instance.
fn ways(redis: &RedisServer) -> [FaultProxy; 2] {
    [(); 2].map(|()| FaultProxy::start(redis.address()))
}

async fn begin(fault: &str, ways: &[FaultProxy; 2]) -> vx11_rig::FaultRun {
    let ports = [0, 1].map(|way: usize| ways[way].port().to_string());
    let environments = [0, 1].map(|way: usize| [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &*ports[way])]);
    apart(fault, [&environments[0], &environments[1]]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_instances_send_vanishes() {
    let redis = RedisServer::start().await;
    let ways = ways(&redis);
    let mut fault_run = begin("black hole, all instances", &ways).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        ways.iter().for_each(FaultProxy::black_hole);
        fault_run.last().await;
        ways.iter().for_each(FaultProxy::pass);
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_instance_sends_vanishes() {
    let redis = RedisServer::start().await;
    let ways = ways(&redis);
    let mut fault_run = begin("black hole, one instance", &ways).await;
    for round in 0..rounds() {
        let way = &ways[usize::from(round % 2 == 1)];
        fault_run.begin_fault().await;
        way.black_hole();
        fault_run.last().await;
        way.pass();
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_slow_and_nothing_opens() {
    let redis = RedisServer::start().await;
    let ways = ways(&redis);
    let mut fault_run = begin("80 ms there and back", &ways).await;
    for _ in 0..SLOW_ROUNDS {
        fault_run.begin_fault().await;
        for way in &ways {
            way.delay(SLOW);
        }
        sleep(SLOW_FOR).await;
        ways.iter().for_each(FaultProxy::pass);
        fault_run.recover().await;
    }
    fault_run.judge(Targets { openings: 0, ..targets() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_comes_and_goes() {
    let redis = RedisServer::start().await;
    let ways = ways(&redis);
    let mut fault_run = begin("flapping, 6 x 1 s up, 1 s down", &ways).await;
    for round in 0..FLAPPING_ROUNDS {
        let fail = if round % 2 == 0 { FaultProxy::refuse } else { FaultProxy::black_hole };
        fault_run.begin_fault().await;
        for flap in 0..FLAPS {
            ways.iter().for_each(fail);
            sleep(FLAP).await;
            ways.iter().for_each(FaultProxy::pass);
            if flap + 1 < FLAPS {
                sleep(FLAP).await;
            }
        }
        fault_run.recover().await;
    }
    fault_run.judge(Targets { openings: FLAPPING_ROUNDS * FLAPS, ..targets() }).await;
}
