//! Subjects are revoked and blocked, and their streams ended, before and during a fault. The
//! commands hold where they were given, everywhere after the fault, and on an instance that starts
//! after a loss of data.

use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until};

use super::Length;
use super::drilling::Drilling;
use super::faults::Fault;
use super::grants::wide;
use super::subjects::{BLOCK, EVERYWHERE, Streams, look, open_many};
use super::table::DOWN_AFTER;
use crate::history::{CommandKind, Endpoint, Subject};
use crate::load::{Pass, Stage, Wish};

const FAULTS: [Fault; 8] = [
    Fault::RedisKilled,
    // The instance that is cut off is asked.
    Fault::OneCut(1),
    Fault::RedisStopped,
    Fault::AllCut,
    // Another instance than the one that is cut off is asked.
    Fault::OneCut(2),
    Fault::RedisFlushed,
    Fault::RedisFlaps,
    Fault::RedisRestarted,
];
const FAULTS_IN_BRIEF: usize = 2;
/// Failovers with Sentinel: in turn, the master is killed and demoted.
const FAILOVERS: usize = 4;
/// A fault is shorter than in other drills, because there are many of them.
const SHORTER: f64 = 1.0 / 3.0;
/// Time until the commands, as a part of a fault.
const UNTIL_COMMANDS: f64 = 0.5;
/// The instance that is asked.
const ASKED: usize = 1;
/// Streams of a subject on each instance.
const STREAMS: usize = 2;

/// Length of the drill with one Redis.
pub(super) fn length(length: Length) -> Length {
    rounds(length, FAULTS.len())
}

/// Length of the drill with Sentinel.
pub(super) fn length_with_sentinel(length: Length) -> Length {
    rounds(length, FAILOVERS)
}

fn rounds(length: Length, faults: usize) -> Length {
    let rounds = if length.is_full { faults } else { FAULTS_IN_BRIEF };
    Length { rounds: wide(rounds), fault: length.part(SHORTER), ..length }
}

/// One of the faults of one Redis.
pub(super) async fn during_faults(drilling: &mut Drilling, round: usize) {
    let fault = FAULTS[round % FAULTS.len()];
    let barred = Barred::begin(drilling, round).await;
    drilling.begin_fault().await;
    fault.strike(drilling).await;
    fault.last(drilling, UNTIL_COMMANDS).await;
    barred.command().await;
    fault.last(drilling, 1.0 - UNTIL_COMMANDS).await;
    fault.repair(drilling).await;
    drilling.recover().await;
    barred.end(drilling, fault.loses_data()).await;
}

/// A failover. Commands are given before the Sentinels have decided.
pub(super) async fn during_failovers(drilling: &mut Drilling, round: usize) {
    let barred = Barred::begin(drilling, round).await;
    drilling.begin_fault().await;
    if round.is_multiple_of(2) {
        let old = drilling.cluster.sentinel().kill_master().await;
        let decided = Instant::now() + DOWN_AFTER;
        barred.command().await;
        sleep_until(decided).await;
        drilling.fault_run.recorder().repaired();
        drilling.cluster.sentinel().await_master_other_than(old).await;
        drilling.settle().await;
        drilling.cluster.sentinel().restart_killed().await;
    } else {
        let old = drilling.cluster.sentinel().demote_leaving_sockets_open().await;
        barred.command().await;
        drilling.cluster.sentinel().await_master_other_than(old).await;
        drilling.recover().await;
        drilling.cluster.sentinel().await_healthy().await;
    }
    // The new master may not have everything that the old one had.
    barred.end(drilling, true).await;
}

/// Subjects of a round: some barred before the fault, others with streams that commands end during
/// it, and one without a command.
struct Barred {
    stage: Arc<Stage>,
    instances: usize,
    /// The instance that is started after the fault.
    next: usize,
    blocked: [Subject; 2],
    before: Vec<Pass>,
    during: Vec<(CommandKind, Streams)>,
    others: Streams,
}

impl Barred {
    async fn begin(drilling: &Drilling, round: usize) -> Self {
        let stage = Arc::clone(drilling.fault_run.stage());
        let instances = drilling.cluster.instances.len();
        // A round has subjects with other first digits than the rounds before.
        let subject = |number: usize| 10 * (round + 1) + number;
        let mut before = Vec::new();
        for (number, kind) in [(0, BLOCK), (1, CommandKind::Revoke)] {
            before.extend(stage.issue_for(subject(number), Endpoint::Balancer, Wish::Any).await);
            stage.command(kind, subject(number), Endpoint::Instance(ASKED)).await;
        }
        let others = open_many(&stage, subject(5), instances, instances).await;
        let mut during = Vec::new();
        for (number, kind) in [(2, BLOCK), (3, CommandKind::Revoke), (4, CommandKind::End)] {
            during.push((kind, open_many(&stage, subject(number), STREAMS * instances, instances).await));
        }
        sleep(EVERYWHERE).await;
        let (next, blocked) = ((ASKED + round) % instances, [subject(0), subject(2)]);
        Self { stage, instances, next, blocked, before, during, others }
    }

    /// Gives the commands during a fault. They, and those from before, hold where they were given.
    async fn command(&self) {
        let asked = Endpoint::Instance(ASKED);
        for (kind, streams) in &self.during {
            self.stage.command(*kind, streams.subject, asked).await;
            look(&self.stage, &streams.passes, [asked]).await;
        }
        look(&self.stage, &self.before, [asked]).await;
    }

    /// The commands hold everywhere, also on an instance that starts after a loss of data. Then the
    /// blocks are ended.
    async fn end(self, drilling: &mut Drilling, has_lost_data: bool) {
        let Self { stage, instances, next, blocked, before: mut passes, during, others } = self;
        let everywhere = || (0..instances).map(Endpoint::Instance);
        for (_, streams) in &during {
            passes.extend(streams.passes.iter().cloned());
        }
        look(&stage, &passes, everywhere()).await;
        for (_, streams) in during {
            streams.ended().await;
        }
        others.close().await;
        if has_lost_data {
            // It knows what the others brought back, and nothing else.
            drilling.begin_fault().await;
            drilling.kill(next);
            drilling.boot(next).await;
            drilling.recover().await;
            look(&stage, &passes, [Endpoint::Instance(next)]).await;
        }
        for subject in blocked {
            stage.command(CommandKind::Unblock, subject, Endpoint::Instance(next)).await;
        }
        sleep(EVERYWHERE).await;
        look(&stage, &passes, everywhere()).await;
    }
}
