//! The network to Redis fails. It is imitated: see [`FaultProxy`].

use std::time::Duration;

use vx11_kit::FaultProxy;

use super::drilling::Drilling;

/// Between a question and its answer.
const SLOW: Duration = Duration::from_millis(80);
/// Of a hundred answers, so many stall for so long.
const STALLS: f64 = 0.01;
/// Shorter than what Redis is waited for, with the delay.
const STALL: Duration = Duration::from_millis(200);

pub(super) async fn all_cut_off(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    drilling.cluster.detours.to_redis.iter().for_each(FaultProxy::black_hole);
    drilling.last(1.0).await;
    drilling.cluster.detours.to_redis.iter().for_each(FaultProxy::pass);
    drilling.recover().await;
}

pub(super) async fn one_cut_off(drilling: &mut Drilling, round: usize) {
    let instance = round % drilling.cluster.detours.to_redis.len();
    drilling.begin_fault().await;
    drilling.cluster.detours.to_redis[instance].black_hole();
    drilling.last(1.0).await;
    drilling.cluster.detours.to_redis[instance].pass();
    drilling.recover().await;
}

pub(super) async fn slow(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    for way in &drilling.cluster.detours.to_redis {
        way.delay(SLOW);
        way.stall(STALLS, STALL);
    }
    drilling.last(1.0).await;
    drilling.cluster.detours.to_redis.iter().for_each(FaultProxy::pass);
    drilling.recover().await;
}
