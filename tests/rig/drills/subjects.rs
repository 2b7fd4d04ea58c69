//! Subjects are revoked and blocked, and their streams ended, with and without faults.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Length;
use super::drilling::Drilling;
use super::faults::Fault;
use super::grants::wide;
use crate::history::{CommandKind, Endpoint, Subject};
use crate::load::{Held, Pass, Stage, Wish};

/// Commands of a round, and streams of the subject.
const TRIES: usize = 10;
const TRIES_IN_BRIEF: usize = 6;
const CROWD: usize = 500;
const CROWD_IN_BRIEF: usize = 60;
/// Streams that one token opens, on all instances together.
const STREAMS_OF_A_TOKEN: usize = 12;
/// Streams that are opened at the same time.
const AT_ONCE: usize = 32;
/// The commands in turn.
const KINDS: [CommandKind; 4] = [BLOCK, CommandKind::Revoke, CommandKind::End, CommandKind::EndTopic];
/// Longer than a drill.
const BLOCK: CommandKind = CommandKind::Block(Duration::from_hours(1));
/// Bound of the wait for the end of streams: longer than a late one takes.
const PATIENCE: Duration = Duration::from_secs(8);
/// Time after which a command holds on all instances.
const EVERYWHERE: Duration = Duration::from_millis(1020);

/// A fault is shorter than in other drills, because there are many of them.
const FAULTS: [Fault; 6] = [
    Fault::RedisKilled,
    // The instance that is cut off is asked.
    Fault::OneCut(1),
    Fault::RedisStopped,
    Fault::AllCut,
    // Another instance than the one that is cut off is asked.
    Fault::OneCut(2),
    Fault::RedisFlushed,
];
const FAULTS_IN_BRIEF: usize = 2;
/// Duration of a fault as a part of that of other drills.
const SHORTER: f64 = 1.0 / 3.0;
/// Time until the commands, as a part of a fault.
const UNTIL_COMMANDS: f64 = 0.5;
/// Streams of a subject on each instance during a fault.
const STREAMS: usize = 2;

/// Length of the drill with faults.
pub(super) fn length_of_faults(length: Length) -> Length {
    let rounds = if length.is_full { FAULTS.len() } else { FAULTS_IN_BRIEF };
    Length { rounds: wide(rounds), fault: length.part(SHORTER), ..length }
}

/// Commands to one subject after the other, each with many streams, while nothing is broken.
pub(super) async fn ended_again_and_again(drilling: &mut Drilling, round: usize) {
    let (tries, crowd) =
        if drilling.length.is_full { (TRIES, CROWD) } else { (TRIES_IN_BRIEF, CROWD_IN_BRIEF) };
    let stage = Arc::clone(drilling.fault_run.stage());
    let instances = drilling.cluster.instances.len();
    let mut later = JoinSet::new();
    for number in 0..tries {
        let turn = round * tries + number;
        let (kind, endpoint) = (KINDS[turn % KINDS.len()], Endpoint::Instance(turn % instances));
        // The name of the other one begins with that of the first.
        let subject = 100 + turn;
        let others = open_many(&stage, 10 * subject, instances, instances).await;
        let mut streams = open_many(&stage, subject, crowd, instances).await;
        if streams.held.len() < crowd {
            let opened = streams.held.len();
            drilling.fault_run.complain(format!("subject {subject} could open {opened} of {crowd} streams"));
        }
        stage.command(kind, subject, endpoint).await;
        // Some passes are enough to see whether they are accepted.
        streams.passes.truncate(2);
        let (passes, own) = (streams.passes.clone(), Arc::clone(&stage));
        later.spawn(async move {
            look(&own, &passes, [endpoint]).await;
            sleep(EVERYWHERE).await;
            look(&own, &passes, (0..instances).map(Endpoint::Instance)).await;
            if kind == BLOCK {
                own.command(CommandKind::Unblock, subject, endpoint).await;
            }
        });
        streams.ended().await;
        others.close().await;
    }
    later.join_all().await;
}

/// Subjects are blocked and revoked before and during a fault. It holds where the commands were
/// given, everywhere after the fault, and on an instance that starts after a loss of data.
pub(super) async fn during_faults(drilling: &mut Drilling, round: usize) {
    let fault = FAULTS[round % FAULTS.len()];
    let stage = Arc::clone(drilling.fault_run.stage());
    let instances = drilling.cluster.instances.len();
    let everywhere = || (0..instances).map(Endpoint::Instance);
    // A round has subjects with other first digits than the rounds before.
    let subject = |number: usize| 10 * (round + 1) + number;
    let (asked, next) = (1, (1 + round) % instances);
    let asked = Endpoint::Instance(asked);
    let mut before = Vec::new();
    for (number, kind) in [(0, BLOCK), (1, CommandKind::Revoke)] {
        before.extend(stage.issue_for(subject(number), Endpoint::Balancer, Wish::Any).await);
        stage.command(kind, subject(number), asked).await;
    }
    let others = open_many(&stage, subject(5), instances, instances).await;
    let mut during = Vec::new();
    for (number, kind) in [(2, BLOCK), (3, CommandKind::Revoke), (4, CommandKind::End)] {
        during.push((kind, open_many(&stage, subject(number), STREAMS * instances, instances).await));
    }
    sleep(EVERYWHERE).await;
    drilling.begin_fault().await;
    fault.strike(drilling).await;
    drilling.last(UNTIL_COMMANDS).await;
    for (kind, streams) in &during {
        stage.command(*kind, streams.subject, asked).await;
        look(&stage, &streams.passes, [asked]).await;
    }
    look(&stage, &before, [asked]).await;
    drilling.last(1.0 - UNTIL_COMMANDS).await;
    fault.repair(drilling).await;
    drilling.recover().await;
    let mut passes = before;
    for (_, streams) in &during {
        passes.extend(streams.passes.iter().cloned());
    }
    look(&stage, &passes, everywhere()).await;
    for (_, streams) in during.into_iter().filter(|(kind, _)| kind.reason().is_some()) {
        streams.ended().await;
    }
    others.close().await;
    if fault.loses_data() {
        // It knows what the others brought back, and nothing else.
        drilling.begin_fault().await;
        drilling.kill(next);
        drilling.boot(next).await;
        drilling.recover().await;
        look(&stage, &passes, [Endpoint::Instance(next)]).await;
    }
    for number in [0, 2] {
        stage.command(CommandKind::Unblock, subject(number), Endpoint::Instance(next)).await;
    }
    sleep(EVERYWHERE).await;
    look(&stage, &passes, everywhere()).await;
}

/// Asks these places to accept tokens, open streams with them and issue others for their subjects.
async fn look(stage: &Arc<Stage>, passes: &[Pass], places: impl IntoIterator<Item = Endpoint>) {
    for endpoint in places {
        for pass in passes {
            stage.present(pass, endpoint).await;
            if let Some(stream) = stage.hold(pass, endpoint).await {
                stream.close().await;
            }
            stage.issue_for(pass.subject, endpoint, Wish::Any).await;
        }
    }
}

/// Streams of a subject.
struct Streams {
    subject: Subject,
    passes: Vec<Pass>,
    held: Vec<Held>,
}

impl Streams {
    /// Waits until all have ended, and closes those that do not.
    async fn ended(mut self) {
        let ended = timeout(PATIENCE, async {
            for stream in &mut self.held {
                stream.ended().await;
            }
        });
        // The checker finds those that are open.
        if ended.await.is_err() {
            self.close().await;
        }
    }

    async fn close(self) {
        for stream in self.held {
            stream.close().await;
        }
    }
}

/// Opens so many streams of a subject, on one instance after the other.
async fn open_many(stage: &Arc<Stage>, subject: Subject, number: usize, instances: usize) -> Streams {
    let mut passes = Vec::new();
    for _ in 0..number.div_ceil(STREAMS_OF_A_TOKEN) {
        passes.extend(stage.issue_for(subject, Endpoint::Balancer, Wish::Any).await);
    }
    let (mut held, mut opening) = (Vec::new(), JoinSet::new());
    for number in 0..number {
        let Some(pass) = passes.get(number / STREAMS_OF_A_TOKEN).cloned() else { break };
        let stage = Arc::clone(stage);
        opening.spawn(async move { stage.hold(&pass, Endpoint::Instance(number % instances)).await });
        if opening.len() >= AT_ONCE {
            held.extend(opening.join_next().await.and_then(|opened| opened.expect("no reason to panic")));
        }
    }
    held.extend(opening.join_all().await.into_iter().flatten());
    Streams { subject, passes, held }
}
