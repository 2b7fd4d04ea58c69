//! Topics and grants: the faults of other drills, one after the other on one cluster, under a load
//! with 300 topics and a random grant for each subscriber.

use std::time::Duration;

use vx11_kit::eventually;

use super::Length;
use super::drilling::Drilling;
use crate::checker::Times;
use crate::load::TopicLoad;

/// A drill whose fault is tried, and the number of the round that it is tried as.
type Fault = (u8, usize);

/// Faults of a drill with grants.
pub(super) struct Series {
    drill: u8,
    faults: &'static [Fault],
    /// Number of these that are tried in brief.
    briefly: usize,
    /// Events that have to be judged at full length under the documented load.
    judged: usize,
}

const ALL: [Series; 2] = [
    Series {
        drill: 34,
        faults: &[
            // In brief: an instance misses events, the log comes back from the rings, and an
            // instance that boots reads what came back.
            (4, 0),
            (7, 0),
            (11, 1),
            (1, 0),
            (2, 0),
            (3, 0),
            (5, 0),
            (6, 0),
            (7, 1),
            (8, 0),
            (8, 1),
            (8, 2),
            (8, 3),
            (14, 2),
            (15, 0),
            (13, 1),
            (17, 0),
            (19, 0),
            (20, 0),
            // A rolling restart while some subscribers do not read (12, 18).
            (23, 0),
            // The clock goes on being wrong.
            (21, 0),
        ],
        briefly: 3,
        judged: 10_000_000,
    },
    Series { drill: 35, faults: &[(9, 0), (16, 0), (10, 0), (9, 1), (10, 1)], briefly: 2, judged: 1_000_000 },
];
/// Subscribers and events a second for which that is.
const LOAD: usize = 2000 * 50;
/// The same in brief.
const JUDGED_IN_BRIEF: usize = 10_000;
/// The drill whose fault is a loss of data only.
const DATA_LOST: u8 = 7;

/// In brief, so many times the subscribers of other drills.
const SUBSCRIBERS: usize = 3;
/// Duration of a fault, as a part of that of other drills.
const SHORTER: f64 = 1.0 / 3.0;
/// The longest drain in seconds, and ups and downs of a Redis that flaps.
const DRAIN: u64 = 3;
const FLAPS: u64 = 3;

/// Topics of the load.
const TOPICS: usize = 300;
/// Subscribers that leave their streams a second, and the least time that each stays on average, in
/// seconds.
const LEAVING: usize = 50;
const STAY: usize = 4;
/// Heartbeats a second on idle streams of all subscribers, and their shortest interval in seconds.
const HEARTBEATS: usize = 500;
const HEARTBEAT: usize = 2;
/// Ring of the first instance in seconds of events: more than a fault lasts, and so few that
/// streams resume there from the log. The others have far more, from which the log comes back.
const RING: u32 = 6;
const RING_IN_BRIEF: u32 = 2;

impl Series {
    /// The faults of a drill, if it is one with grants.
    pub(super) fn of(drill: u8) -> Option<&'static Self> {
        ALL.iter().find(|series| series.drill == drill)
    }

    /// Length of the drill. How long things take is judged in the drills of the faults.
    pub(super) fn length(&self, length: Length) -> Length {
        let (rounds, subscribers) = if length.is_full {
            (self.faults.len(), length.subscribers)
        } else {
            (self.briefly, SUBSCRIBERS * length.subscribers)
        };
        Length {
            rounds: wide(rounds),
            fault: length.part(SHORTER),
            drain: length.drain.min(DRAIN),
            subscribers,
            flaps: FLAPS,
            times: Times::AreReported,
            ..length
        }
    }

    /// Events in the ring of the first instance.
    pub(super) fn small_ring(length: Length) -> u32 {
        length.events * if length.is_full { RING } else { RING_IN_BRIEF }
    }

    /// The least number of judged events.
    pub(super) fn judged(&self, length: Length) -> usize {
        if !length.is_full {
            return JUDGED_IN_BRIEF;
        }
        let load = length.subscribers * usize::try_from(length.events).unwrap_or(usize::MAX);
        self.judged / LOAD * load
    }

    /// Tries the fault of a round.
    pub(super) async fn round(&self, drilling: &mut Drilling, round: usize) {
        let (drill, turn) = self.faults[round];
        let began = drilling.fault_run.recorder().now();
        drilling.fault_run.note(format!("round {} from {began:.0?} is one of drill {drill}", round + 1));
        let before = pages_read(drilling).await;
        super::round(drilling, drill, turn).await;
        if drill == DATA_LOST {
            let pages = pages_read(drilling).await.saturating_sub(before);
            drilling.fault_run.note(format!("streams read {pages} pages of the log around the loss"));
            // At full length no subscriber has left its stream yet at the first loss: the last one
            // counts.
            let mut later = (0..drilling.length.rounds).zip(self.faults).skip(round + 1);
            let is_last = !later.any(|(_, (drill, _))| *drill == DATA_LOST);
            if pages == 0 && is_last {
                drilling.fault_run.complain("no stream read the log around the loss of data".to_owned());
            }
        }
    }
}

/// Topics and grants of a load with so many subscribers.
pub(super) fn topics(subscribers: usize) -> TopicLoad {
    TopicLoad { topics: TOPICS, stays: Duration::from_secs(wide((subscribers / LEAVING).max(STAY))) }
}

/// Interval of heartbeats, in seconds.
pub(super) fn heartbeat(subscribers: usize) -> u64 {
    wide((subscribers / HEARTBEATS).max(HEARTBEAT))
}

/// Pages of the log that streams read, on all instances since their start.
async fn pages_read(drilling: &Drilling) -> u64 {
    let mut all = 0;
    for instance in &drilling.cluster.instances {
        let page = eventually("metrics", async || instance.metrics().await.ok()).await;
        let line = page.lines().find(|line| line.starts_with("vx11_operator_catch_up_pages_total{"));
        let pages = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        all += pages.expect("a number of pages");
    }
    all
}

pub(super) fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
