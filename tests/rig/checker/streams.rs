//! Whether subscribers lost their streams, and how soon they had them again.

use std::time::Duration;

use super::Targets;
use super::rounds::window;
use crate::history::{History, IN_ORDER, Moment, Round, StreamMoment, StreamTurn};

/// From which moment the time until a stream is open again is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// It was lost.
    Loss,
    /// Something was broken.
    Fault,
    /// It worked again.
    Repair,
}

/// Bound until lost streams are open again.
#[derive(Debug, Clone, Copy)]
pub struct Resumption {
    /// Of a hundred, so many.
    pub hundredths: usize,
    /// This soon.
    pub within: Duration,
    /// Counted from there.
    pub since: Since,
}

/// Results of the subscribers' streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reconnects {
    /// Number of lost streams.
    pub(crate) lost: usize,
    /// The most that one subscriber lost in one round.
    pub(crate) most: usize,
    /// Until they were open again; nothing where they were not.
    pub(crate) took: Vec<Option<Duration>>,
    /// Violations as text.
    pub(crate) violations: Vec<String>,
    /// Violation as text: too few streams were open again in time.
    pub(crate) late: Option<String>,
}

pub(super) fn judge(history: &History, targets: Targets) -> Reconnects {
    let mut found = Reconnects::default();
    let since = targets.resumption.map_or(Since::Loss, |resumption| resumption.since);
    for (number, moments) in (0..).zip(&by_subscriber(history)) {
        for (index, moment) in moments.iter().enumerate() {
            let StreamTurn::Lost(words) = &moment.turn else { continue };
            found.lost += 1;
            let is_old = targets.ages && words.strip_prefix(IN_ORDER) == Some(": max_age");
            if targets.in_order && !words.starts_with(IN_ORDER) {
                found
                    .violations
                    .push(format!("subscriber {number} at {:?}, not in order: {words}", moment.at));
            }
            let round = round_of(history, moment.at);
            if round.is_none() && !is_old {
                let at = moment.at;
                found.violations.push(format!("subscriber {number} at {at:?} without a fault: {words}"));
                continue;
            }
            let from = match (since, round) {
                (Since::Fault, Some(round)) => round.from,
                (Since::Repair, Some(round)) => round.back.unwrap_or(moment.at),
                (Since::Loss, _) | (_, None) => moment.at,
            };
            found.took.push(moments.get(index + 1).map(|opened| opened.at.saturating_sub(from)));
        }
        for round in &history.rounds {
            let (from, until) = window(history, round);
            let in_round = moments.iter().filter(|it| it.at >= from && it.at < until);
            let lost: Vec<_> = in_round.filter_map(|it| words_of_loss(it)).collect();
            found.most = found.most.max(lost.len());
            if lost.len() > targets.reconnects {
                let (count, from) = (lost.len(), round.from);
                found.violations.push(format!(
                    "subscriber {number} lost {count} streams in the round from {from:?}: {}",
                    lost.join(", ")
                ));
            }
        }
    }
    let is_lost = |it: &&StreamMoment| matches!(it.turn, StreamTurn::Lost(_));
    for round in history.rounds.iter().filter(|_| targets.losses) {
        let (from, until) = window(history, round);
        if !history.streams.iter().filter(is_lost).any(|it| it.at >= from && it.at < until) {
            found.violations.push(format!("none was lost in the round from {from:?}: nothing was broken"));
        }
    }
    found.late = targets.resumption.and_then(|target| late(&found.took, target));
    found
}

/// Violation as text, if too many took too long.
fn late(took: &[Option<Duration>], target: Resumption) -> Option<String> {
    let late = took.iter().filter(|took| took.is_none_or(|took| took > target.within)).count();
    let Resumption { hundredths, within, since } = target;
    (late * 100 > took.len() * (100 - hundredths)).then(|| {
        let all = took.len();
        format!("{late} of {all} not open again within {within:?} of the {since:?}, for {hundredths} %")
    })
}

fn words_of_loss(moment: &StreamMoment) -> Option<String> {
    let StreamTurn::Lost(words) = &moment.turn else { return None };
    Some(format!("{words} at {:?}", moment.at))
}

/// The round that a loss belongs to: the last that began before.
fn round_of(history: &History, at: Moment) -> Option<&Round> {
    history.rounds.iter().rev().find(|round| {
        let (from, until) = window(history, round);
        (from..until).contains(&at)
    })
}

fn by_subscriber(history: &History) -> Vec<Vec<&StreamMoment>> {
    let mut all: Vec<Vec<&StreamMoment>> = Vec::new();
    for moment in &history.streams {
        if all.len() <= moment.subscriber {
            all.resize(moment.subscriber + 1, Vec::new());
        }
        all[moment.subscriber].push(moment);
    }
    all
}

/// Whether every subscriber has a stream, or has left it to open another one.
pub(crate) fn all_open(history: &History) -> bool {
    by_subscriber(history)
        .iter()
        .all(|moments| moments.last().is_some_and(|last| !matches!(last.turn, StreamTurn::Lost(_))))
}
