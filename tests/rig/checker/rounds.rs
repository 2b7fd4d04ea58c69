//! What a fault did to the instances, round by round, as seen from outside.

use std::collections::HashMap;
use std::time::Duration;

use super::{Starvation, Targets};
use crate::history::{History, Moment, Observation, Round};

/// An instance that uses Redis for so long uses it again; before that it may just not have noticed
/// yet.
const STAYS: Duration = Duration::from_millis(600);

/// Between a famine and what it causes.
const CAUSE: Duration = Duration::from_secs(2);

/// What became of all rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recoveries {
    /// From the fault until an instance no longer used Redis, where that happened.
    pub(crate) detected: Vec<Duration>,
    /// From Redis being back until all instances were well, where they were, without famines.
    pub(crate) took: Vec<Duration>,
    /// In words; what took longer.
    pub(crate) late: Vec<String>,
    /// In words; rounds after which not all instances were well again, however long that was waited
    /// for.
    pub(crate) never: Vec<String>,
}

pub(super) fn judge(history: &History, targets: Targets) -> Recoveries {
    let mut found = Recoveries::default();
    let starvation = Starvation::of(history);
    for (number, round) in (1..).zip(&history.rounds) {
        let took = detected(history, round).map(|at| at.saturating_sub(round.from));
        found.detected.extend(took);
        let by_all = detected_by(history, round, targets.detectors).map(|at| at.saturating_sub(round.from));
        if let Some(target) = targets.detection
            && by_all.is_none_or(|took| {
                took.saturating_sub(starvation.within(round.from, round.from + took)) > target
            })
        {
            found.late.push(format!("round {number} (from {:?}) was detected after {by_all:?}", round.from));
        }
        let took = round
            .back
            .zip(recovered(history, round))
            .map(|(back, well)| well.saturating_sub(back).saturating_sub(starvation.within(back, well)));
        found.took.extend(took);
        match took {
            Some(took) if took <= targets.recovery => {}
            Some(took) => found.late.push(format!("round {number} (from {:?}) took {took:?}", round.from)),
            None => found.never.push(format!("round {number} (from {:?}) never recovered", round.from)),
        }
    }
    for fall in falls(history).filter(|it| !is_within_a_round(history, it.at)) {
        if starvation.within(fall.at.saturating_sub(CAUSE), fall.at).is_zero() {
            found
                .late
                .push(format!("instance {} left Redis at {:?} without a fault", fall.instance, fall.at));
        }
    }
    found
}

/// The moments at which instances that used Redis no longer did.
fn falls(history: &History) -> impl Iterator<Item = &Observation> {
    let mut on_redis = HashMap::new();
    history.observations.iter().filter(move |it| {
        let before = on_redis.insert(it.instance, it.standing.on_redis);
        !it.standing.on_redis && before == Some(true)
    })
}

/// When the first instance stopped using Redis, if one did.
fn detected(history: &History, round: &Round) -> Option<Moment> {
    let end = end_of(history, round);
    let seen = history.observations.iter().filter(|it| it.at >= round.from && it.at < end);
    seen.filter(|it| !it.standing.on_redis).map(|it| it.at).min()
}

/// When so many instances had stopped using Redis, if they did.
fn detected_by(history: &History, round: &Round, instances: usize) -> Option<Moment> {
    let end = end_of(history, round);
    let mut first = HashMap::new();
    for seen in history.observations.iter().filter(|it| it.at >= round.from && it.at < end) {
        if !seen.standing.on_redis {
            first.entry(seen.instance).or_insert(seen.at);
        }
    }
    let mut moments: Vec<_> = first.into_values().collect();
    moments.sort_unstable();
    moments.get(instances.checked_sub(1)?).copied()
}

/// When all instances were well and stayed so.
pub(crate) fn recovered(history: &History, round: &Round) -> Option<Moment> {
    let back = round.back?;
    let end = end_of(history, round);
    let instances = history.observations.iter().map(|it| it.instance).max()?;
    let mut latest = back;
    for instance in 0..=instances {
        let own = history.observations.iter().filter(|it| it.instance == instance && it.at <= end);
        let own: Vec<_> = own.collect();
        // The last time it stopped using Redis, and the first after that at which it was well.
        let fell = own.iter().rev().find(|it| !it.standing.on_redis).map_or(back, |it| it.at.max(back));
        let well = own.iter().rev().find(|it| it.at <= fell).is_some_and(|it| it.standing.is_well());
        let rose = own.iter().find(|it| it.at >= fell && it.standing.is_well()).map(|it| it.at);
        latest = latest.max(if well { fell } else { rose? });
    }
    Some(latest)
}

/// Whether everything is over by `now`: all instances have been well for long enough.
pub(crate) fn is_settled(history: &History, now: Moment) -> bool {
    history.rounds.last().and_then(|round| recovered(history, round)).is_some_and(|at| at + STAYS <= now)
}

/// The times at which something was broken, or had not been well again for as long as `calm`.
pub(crate) struct Troubles(Vec<(Moment, Moment)>);

impl Troubles {
    pub(crate) fn of(history: &History, calm: Duration) -> Self {
        let windows = history.rounds.iter().map(|round| {
            let until = recovered(history, round).map(|well| well + calm);
            // Whoever has not recovered is in trouble for good, or until the next.
            (round.from, until.or(next_after(history, round)).unwrap_or(history.length))
        });
        Self(windows.collect())
    }

    pub(crate) fn overlap(&self, begin: Moment, end: Moment) -> bool {
        self.0.iter().any(|(from, until)| *from <= end && begin <= *until)
    }

    pub(crate) fn contain(&self, at: Moment) -> bool {
        self.0.iter().any(|(from, until)| (from..=until).contains(&&at))
    }
}

/// What is seen after that has another reason.
fn end_of(history: &History, round: &Round) -> Moment {
    round.over.or(next_after(history, round)).unwrap_or(Moment::MAX)
}

/// When what is seen after a round has another reason.
pub(crate) fn window(history: &History, round: &Round) -> (Moment, Moment) {
    (round.from, end_of(history, round))
}

/// When the next round begins.
fn next_after(history: &History, round: &Round) -> Option<Moment> {
    history.rounds.iter().map(|other| other.from).filter(|from| *from > round.from).min()
}

/// Whether something was broken or being waited for.
fn is_within_a_round(history: &History, at: Moment) -> bool {
    history.rounds.iter().any(|round| (round.from..=end_of(history, round)).contains(&at))
}
