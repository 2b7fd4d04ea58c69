//! Clients race for the streams of subjects that may have only a few.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Length;
use super::drilling::Drilling;
use super::faults::Fault;
use super::grants::wide;
use crate::checker::Caps;
use crate::history::Endpoint;
use crate::load::{Pass, Stage, Wish};

/// Bound of the streams of a subject.
pub(super) const CAP: u8 = 5;
/// Subjects, and clients of each of them.
const SUBJECTS: usize = 100;
const SUBJECTS_IN_BRIEF: usize = 20;
const CLIENTS: usize = 8;
/// Openings that have to be judged.
const OPENINGS: u16 = 10_000;
const OPENINGS_IN_BRIEF: u16 = 600;
/// The longest time, in ms, for which a client keeps its stream, and waits after it was refused.
const LONGEST_STAY: u64 = 4000;
const LONGEST_WAIT: u64 = 800;
/// Time of racing without a fault, before and after it.
const CALM: Duration = Duration::from_secs(1);
/// A dead instance stays dead for so long: its places are free after three seconds.
const DEAD: Duration = Duration::from_millis(3500);
/// Tokens that are issued at the same time.
const AT_ONCE: usize = 16;

/// The faults of each round, one after the other.
const ROUNDS: [&[Fault]; 5] = [
    &[Fault::Killed(1), Fault::OneCut(2)],
    &[Fault::OneCut(0)],
    &[Fault::Killed(0)],
    &[Fault::RedisKilled],
    &[Fault::AllCut],
];
const ROUNDS_IN_BRIEF: usize = 1;
/// Duration of a fault as a part of that of other drills.
const SHORTER: f64 = 1.0 / 3.0;

/// Length of the drill.
pub(super) fn length(length: Length) -> Length {
    let rounds = if length.is_full { ROUNDS.len() } else { ROUNDS_IN_BRIEF };
    Length { rounds: wide(rounds), fault: length.part(SHORTER), ..length }
}

/// Bounds that are judged.
pub(super) fn caps(length: Length, replaces: bool) -> Caps {
    Caps { cap: CAP, openings: if length.is_full { OPENINGS } else { OPENINGS_IN_BRIEF }, replaces }
}

pub(super) async fn raced_for(drilling: &mut Drilling, round: usize) {
    let stage = Arc::clone(drilling.fault_run.stage());
    let subjects = if drilling.length.is_full { SUBJECTS } else { SUBJECTS_IN_BRIEF };
    let passes = passes(&stage, subjects).await;
    let (stop, stopped) = watch::channel(false);
    let mut racing = JoinSet::new();
    for pass in passes {
        let rng = drilling.fault_run.rng().fork();
        racing.spawn(race(Arc::clone(&stage), pass, rng, stopped.clone()));
    }
    sleep(CALM).await;
    drilling.begin_fault().await;
    for fault in ROUNDS[round % ROUNDS.len()] {
        fault.strike(drilling).await;
        match fault {
            Fault::Killed(_) => sleep(DEAD).await,
            _ => drilling.last(1.0).await,
        }
        fault.repair(drilling).await;
    }
    drilling.recover().await;
    sleep(CALM).await;
    stop.send_replace(true);
    racing.join_all().await;
}

/// Tokens for all clients of all subjects.
async fn passes(stage: &Arc<Stage>, subjects: usize) -> Vec<Pass> {
    let (mut passes, mut issuing) = (Vec::new(), JoinSet::new());
    for number in 0..subjects * CLIENTS {
        let stage = Arc::clone(stage);
        issuing.spawn(async move { stage.issue_for(number % subjects, Endpoint::Balancer, Wish::Any).await });
        if issuing.len() >= AT_ONCE {
            passes.extend(issuing.join_next().await.and_then(|issued| issued.expect("no reason to panic")));
        }
    }
    passes.extend(issuing.join_all().await.into_iter().flatten());
    passes
}

/// Opens a stream, keeps it for a while, and opens another one, until all is to end.
async fn race(stage: Arc<Stage>, pass: Pass, mut rng: Rng, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let stream = stage.hold(&pass, Endpoint::Balancer).await;
        let longest = if stream.is_some() { LONGEST_STAY } else { LONGEST_WAIT };
        let wait = Duration::from_millis(rng.u64(longest / 10..longest));
        // Returns early when all is to end.
        let _ = timeout(wait, stopped.wait_for(|stopped| *stopped)).await;
        if let Some(stream) = stream {
            stream.close().await;
        }
    }
}
