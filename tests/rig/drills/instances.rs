//! An instance fails, or all are replaced.

use std::time::Duration;

use tokio::time::sleep;

use super::drilling::Drilling;
use crate::checker::Times;
use crate::history::Endpoint;

/// Time for which an instance is suspended: longer than nginx waits on a silent stream.
const STANDSTILL: Duration = Duration::from_secs(24);
/// So soon an instance is ready, with Redis or without.
const READY: Duration = Duration::from_secs(2);

fn instance_of(drilling: &Drilling, round: usize) -> usize {
    round % drilling.cluster.instances.len()
}

pub(super) async fn killed(drilling: &mut Drilling, round: usize) {
    let instance = instance_of(drilling, round);
    drilling.begin_fault().await;
    drilling.kill(instance);
    drilling.last(1.0).await;
    drilling.boot(instance).await;
    drilling.recover().await;
}

pub(super) async fn restarted_one_by_one(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    drilling.restart_one_by_one().await;
    drilling.recover().await;
}

pub(super) async fn stopped(drilling: &mut Drilling, round: usize) {
    let instance = instance_of(drilling, round);
    drilling.begin_fault().await;
    drilling.fault_run.recorder().down(Endpoint::Instance(instance));
    drilling.cluster.instances[instance].stop().await;
    sleep(STANDSTILL).await;
    drilling.cluster.instances[instance].cont();
    drilling.fault_run.recorder().repaired();
    drilling.cluster.instances[instance].await_well().await;
    drilling.fault_run.recorder().up(Endpoint::Instance(instance));
    drilling.settle().await;
}

/// Tokens from before are known to nobody but their issuer, and then to nobody.
pub(super) async fn killed_while_redis_is_down(drilling: &mut Drilling, round: usize) {
    let instance = instance_of(drilling, round);
    drilling.begin_fault().await;
    drilling.cluster.redis().kill();
    drilling.last(0.4).await;
    drilling.kill(instance);
    drilling.last(0.6).await;
    drilling.boot(instance).await;
    drilling.cluster.redis().restart().await;
    drilling.recover().await;
}

pub(super) async fn booted_while_redis_is_down(drilling: &mut Drilling, round: usize) {
    let instance = instance_of(drilling, round);
    drilling.begin_fault().await;
    drilling.cluster.redis().kill();
    sleep(Duration::from_secs(1)).await;
    drilling.kill(instance);
    let took = drilling.boot(instance).await;
    if took > READY && drilling.length.times == Times::Count {
        drilling.fault_run.complain(format!("instance {instance} was ready after {took:?}"));
    }
    drilling.last(1.0).await;
    drilling.cluster.redis().restart().await;
    drilling.recover().await;
}
