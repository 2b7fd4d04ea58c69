//! Subjects are revoked and blocked, and their streams ended, while nothing is broken.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::drilling::Drilling;
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
pub(super) const BLOCK: CommandKind = CommandKind::Block(Duration::from_hours(1));
/// Bound of the wait for the end of streams: longer than a late one takes.
const PATIENCE: Duration = Duration::from_secs(8);
/// Time after which a command holds on all instances.
pub(super) const EVERYWHERE: Duration = Duration::from_millis(1020);

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

/// Asks these endpoints to accept tokens, open streams with them and issue others for their
/// subjects.
pub(super) async fn look(stage: &Arc<Stage>, passes: &[Pass], endpoints: impl IntoIterator<Item = Endpoint>) {
    for endpoint in endpoints {
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
pub(super) struct Streams {
    pub(super) subject: Subject,
    pub(super) passes: Vec<Pass>,
    held: Vec<Held>,
}

impl Streams {
    /// Waits until all have ended, and closes those that do not.
    pub(super) async fn ended(mut self) {
        let ended = timeout(PATIENCE, async {
            while let Some(stream) = self.held.last_mut() {
                stream.ended().await;
                self.held.pop();
            }
        });
        // The checker finds those that are open.
        if ended.await.is_err() {
            self.close().await;
        }
    }

    pub(super) async fn close(self) {
        for stream in self.held {
            stream.close().await;
        }
    }
}

/// Opens so many streams of a subject, on one instance after the other.
pub(super) async fn open_many(
    stage: &Arc<Stage>,
    subject: Subject,
    number: usize,
    instances: usize,
) -> Streams {
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
