//! Lists of the open streams during faults, and after each of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Length;
use super::drilling::Drilling;
use super::faults::Fault;
use super::grants::wide;
use crate::history::Endpoint;
use crate::load::{Stage, Wish};

const FAULTS: [Fault; 6] = [
    Fault::OneCut(1),
    Fault::Killed(2),
    Fault::Stopped(0),
    Fault::AllCut,
    Fault::RedisKilled,
    Fault::RedisStopped,
];
const FAULTS_IN_BRIEF: usize = 2;
/// Duration of a fault as a part of that of other drills.
const SHORTER: f64 = 1.0 / 2.0;
/// Between two lists of an instance.
const BETWEEN: Duration = Duration::from_millis(200);
/// Streams of subjects on each instance.
const STREAMS: usize = 4;

/// Length of the drill.
pub(super) fn length(length: Length) -> Length {
    let rounds = if length.is_full { FAULTS.len() } else { FAULTS_IN_BRIEF };
    Length { rounds: wide(rounds), fault: length.part(SHORTER), ..length }
}

pub(super) async fn during_faults(drilling: &mut Drilling, round: usize) {
    let fault = FAULTS[round % FAULTS.len()];
    let stage = Arc::clone(drilling.fault_run.stage());
    let instances = drilling.cluster.instances.len();
    let mut streams = Vec::new();
    for number in 0..STREAMS * instances {
        let subject = 100 * (round + 1) + number;
        if let Some(pass) = stage.issue_for(subject, Endpoint::Balancer, Wish::Any).await {
            streams.extend(stage.hold(&pass, Endpoint::Instance(number % instances)).await);
        }
    }
    drilling.list_everywhere().await;
    drilling.begin_fault().await;
    fault.strike(drilling).await;
    let until = Instant::now() + drilling.length.fault;
    let mut listing = JoinSet::new();
    for instance in 0..instances {
        if fault != Fault::Killed(instance) && fault != Fault::Stopped(instance) {
            listing.spawn(list_until(Arc::clone(&stage), Endpoint::Instance(instance), until));
        }
    }
    listing.join_all().await;
    fault.repair(drilling).await;
    drilling.recover().await;
    drilling.list_everywhere().await;
    for stream in streams {
        stream.close().await;
    }
}

async fn list_until(stage: Arc<Stage>, endpoint: Endpoint, until: Instant) {
    while Instant::now() < until {
        stage.list(endpoint).await;
        sleep(BETWEEN).await;
    }
}
