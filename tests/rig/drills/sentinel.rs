//! The master of a pair under Sentinels fails.

use tokio::time::sleep;

use super::drilling::Drilling;
use super::table::DOWN_AFTER;

/// Redis is reckoned to be back when the Sentinels may know that the master is gone: what they take
/// longer is the instances' time, too.
pub(super) async fn master_killed(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    let old = drilling.cluster.sentinel().kill_master().await;
    sleep(DOWN_AFTER).await;
    drilling.fault_run.recorder().repaired();
    drilling.cluster.sentinel().await_master_other_than(old).await;
    drilling.settle().await;
    drilling.cluster.sentinel().restart_killed().await;
}

/// Redis is back when the Sentinels agree that the other is the master.
pub(super) async fn master_demoted(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    let old = drilling.cluster.sentinel().demote_leaving_sockets_open().await;
    drilling.cluster.sentinel().await_master_other_than(old).await;
    drilling.recover().await;
    drilling.cluster.sentinel().await_healthy().await;
}
