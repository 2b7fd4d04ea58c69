//! Instances that refuse what they cannot prove while they cannot use Redis.

use super::Length;
use super::drilling::Drilling;
use super::faults::Fault;
use super::grants::wide;

/// Redis keeps its data when it is killed: a token whose record is lost stays unproven.
pub(super) const KEEPS_DATA: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];
const FAULTS: [Fault; 8] = [
    Fault::RedisKilled,
    Fault::AllCut,
    Fault::RedisStopped,
    Fault::OneCut(1),
    Fault::RedisKilled,
    Fault::AllCut,
    Fault::RedisStopped,
    Fault::OneCut(2),
];
const FAULTS_IN_BRIEF: usize = 2;
/// Duration of a fault as a part of that of other drills.
const SHORTER: f64 = 1.0 / 3.0;

/// Length of the drill.
pub(super) fn length(length: Length) -> Length {
    let rounds = if length.is_full { FAULTS.len() } else { FAULTS_IN_BRIEF };
    Length { rounds: wide(rounds), fault: length.part(SHORTER), ..length }
}

pub(super) async fn refused(drilling: &mut Drilling, round: usize) {
    let fault = FAULTS[round % FAULTS.len()];
    drilling.begin_fault().await;
    fault.strike(drilling).await;
    drilling.last(1.0).await;
    fault.repair(drilling).await;
    drilling.recover().await;
}
