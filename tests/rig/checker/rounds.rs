//! Effects of a fault on the instances, per round, seen from outside.

use std::collections::HashMap;
use std::time::Duration;

use super::{Starvation, Targets};
use crate::history::{History, Moment, Observation, Round};

/// Time after which an instance counts as recovered; before that it may not have noticed the fault.
const STAYS: Duration = Duration::from_millis(600);

/// Time between starvation and its effects.
const CAUSE: Duration = Duration::from_secs(2);

/// Results of all rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recoveries {
    /// Times from a fault until an instance stopped using Redis.
    pub(crate) detected: Vec<Duration>,
    /// Times from the repair until all instances were healthy, without starved time.
    pub(crate) took: Vec<Duration>,
    /// Bounds that were exceeded, as text.
    pub(crate) late: Vec<String>,
    /// Rounds without recovery, as text.
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

/// Times at which instances stopped using Redis.
fn falls(history: &History) -> impl Iterator<Item = &Observation> {
    let mut on_redis = HashMap::new();
    history.observations.iter().filter(move |it| {
        let before = on_redis.insert(it.instance, it.standing.on_redis);
        !it.standing.on_redis && before == Some(true)
    })
}

/// Time at which the first instance stopped using Redis.
fn detected(history: &History, round: &Round) -> Option<Moment> {
    let end = end_of(history, round);
    let seen = history.observations.iter().filter(|it| it.at >= round.from && it.at < end);
    seen.filter(|it| !it.standing.on_redis).map(|it| it.at).min()
}

/// Time at which so many instances had stopped using Redis.
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

/// Time from which all instances were healthy.
pub(crate) fn recovered(history: &History, round: &Round) -> Option<Moment> {
    let back = round.back?;
    let end = end_of(history, round);
    let instances = history.observations.iter().map(|it| it.instance).max()?;
    let mut latest = back;
    for instance in 0..=instances {
        let own = history.observations.iter().filter(|it| it.instance == instance && it.at <= end);
        let own: Vec<_> = own.collect();
        // The last time it stopped using Redis, and the first healthy state after that.
        let fell = own.iter().rev().find(|it| !it.standing.on_redis).map_or(back, |it| it.at.max(back));
        let well = own.iter().rev().find(|it| it.at <= fell).is_some_and(|it| it.standing.is_well());
        let rose = own.iter().find(|it| it.at >= fell && it.standing.is_well()).map(|it| it.at);
        latest = latest.max(if well { fell } else { rose? });
    }
    Some(latest)
}

/// Whether all instances are healthy for long enough at `now`.
pub(crate) fn is_settled(history: &History, now: Moment) -> bool {
    history.rounds.last().and_then(|round| recovered(history, round)).is_some_and(|at| at + STAYS <= now)
}

/// Periods of faults and recovery, plus `calm`.
pub(crate) struct Troubles(Vec<(Moment, Moment)>);

impl Troubles {
    pub(crate) fn of(history: &History, calm: Duration) -> Self {
        let windows = history.rounds.iter().map(|round| {
            let until = recovered(history, round).map(|well| well + calm);
            // Without recovery the period lasts until the next round.
            (round.from, until.or(next_after(history, round)).unwrap_or(history.length))
        });
        Self(windows.collect())
    }

    pub(crate) fn overlap(&self, begin: Moment, end: Moment) -> bool {
        self.0.iter().any(|(from, until)| *from <= end && begin <= *until)
    }

    pub(crate) fn contain(&self, at: Moment) -> bool {
        self.end_around(at).is_some()
    }

    /// End of the period that contains this time.
    pub(crate) fn end_around(&self, at: Moment) -> Option<Moment> {
        self.0.iter().find(|(from, until)| (from..=until).contains(&&at)).map(|(_, until)| *until)
    }
}

/// Effects after that have another cause.
fn end_of(history: &History, round: &Round) -> Moment {
    round.over.or(next_after(history, round)).unwrap_or(Moment::MAX)
}

/// Time from which effects have another cause than this round.
pub(crate) fn window(history: &History, round: &Round) -> (Moment, Moment) {
    (round.from, end_of(history, round))
}

/// Start of the next round.
fn next_after(history: &History, round: &Round) -> Option<Moment> {
    history.rounds.iter().map(|other| other.from).filter(|from| *from > round.from).min()
}

/// Whether a time is within such a period.
fn is_within_a_round(history: &History, at: Moment) -> bool {
    history.rounds.iter().any(|round| (round.from..=end_of(history, round)).contains(&at))
}
