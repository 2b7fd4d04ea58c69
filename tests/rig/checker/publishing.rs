//! Outcomes of publishing: acknowledged, `log_unavailable`, or unknown.

use std::time::Duration;

use vx11_kit::Answer;

use super::rounds::Troubles;
use super::{Findings, Starvation, Targets, is_excused};
use crate::history::{Attempt, History, Moment, Publication};

/// Time after recovery in which the outcome of a publish may still be unknown.
const CALM: Duration = Duration::from_secs(1);
/// An instance waits so long for the log. What took longer by the machine's fault says nothing
/// about it.
const DEADLINE: Duration = Duration::from_millis(150);

/// Results of publishing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publishing {
    /// Events that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Attempts with the answer `log_unavailable`.
    pub(crate) refused: usize,
    /// Attempts of which nobody knew what became.
    pub(crate) unknown: usize,
    /// The longest time from such an answer to the next acknowledgement; unknown where none came.
    pub(crate) unavailable: Option<Duration>,
    /// Attempts that were not answered, or refused where nothing is broken that would be a reason.
    pub(super) unanswered: Vec<String>,
    /// Attempts whose outcome was not known in time, where nothing is broken that would be a
    /// reason.
    pub(super) overdue: Findings,
    /// Events that were acknowledged once more as something else.
    pub(super) doubled: Findings,
    /// Events that never were.
    pub(super) given_up: Findings,
}

pub(super) fn judge(history: &History, targets: Targets) -> Publishing {
    let mut found = Publishing { unavailable: unavailable(history), ..Publishing::default() };
    let circumstances = Circumstances::of(history, targets);
    for (number, publication) in history.publications.iter().enumerate() {
        match publication.acknowledged() {
            Some(_) => found.acknowledged += 1,
            None => found.given_up.note(|| format!("number {number}, due at {:?}", publication.due)),
        }
        for words in doubled(publication) {
            found.doubled.note(|| format!("number {number} {words}"));
        }
        for attempt in &publication.attempts {
            found.refused += usize::from(attempt.answer == Answer::Refused);
            found.unknown += usize::from(attempt.answer == Answer::Unknown);
            if !circumstances.explain(attempt) {
                let Attempt { endpoint, sent, answer, .. } = attempt;
                let words = format!("number {number} published on {endpoint} at {sent:?}: {answer:?}");
                match answer {
                    Answer::Unknown => found.overdue.note(|| words),
                    _ => found.unanswered.push(words),
                }
            }
        }
    }
    found
}

/// Faults that excuse a publish without an acknowledgement.
struct Circumstances<'a> {
    history: &'a History,
    troubles: Troubles,
    starvation: Starvation,
    refusals: bool,
}

impl<'a> Circumstances<'a> {
    fn of(history: &'a History, targets: Targets) -> Self {
        let troubles = Troubles::of(history, targets.refusals.unwrap_or(CALM));
        Self { history, troubles, starvation: Starvation::of(history), refusals: targets.refusals.is_some() }
    }

    fn explain(&self, attempt: &Attempt) -> bool {
        let Attempt { endpoint, sent, answered, .. } = *attempt;
        let in_trouble = self.troubles.contain(answered) || self.troubles.contain(sent);
        match attempt.answer {
            Answer::Acknowledged { .. } => true,
            Answer::Refused => in_trouble && self.refusals,
            Answer::Unknown => in_trouble || self.were_starved(sent, answered),
            Answer::Unanswered(_) => is_excused(self.history, endpoint, sent, answered),
        }
    }

    /// Whether an instance would have been in time, had it been given a processor.
    fn were_starved(&self, sent: Moment, answered: Moment) -> bool {
        let took = answered.saturating_sub(sent);
        took >= DEADLINE && took.saturating_sub(self.starvation.within(sent, answered)) < DEADLINE
    }
}

/// Violations as text: an acknowledged event has to stay in the log, under its id.
fn doubled(publication: &Publication) -> Vec<String> {
    let mut first = None;
    let mut found = Vec::new();
    for attempt in &publication.attempts {
        let Answer::Acknowledged { id, replayed } = attempt.answer else { continue };
        match first {
            None => first = Some(id),
            Some(known) if known != id => found.push(format!("was {known} and then {id}")),
            Some(_) if !replayed => found.push(format!("was not known to be {id}")),
            Some(_) => {}
        }
    }
    found
}

fn unavailable(history: &History) -> Option<Duration> {
    let attempts = history.publications.iter().flat_map(|publication| &publication.attempts);
    let mut answers: Vec<(Moment, bool)> = attempts
        .filter_map(|attempt| match attempt.answer {
            Answer::Acknowledged { .. } => Some((attempt.answered, true)),
            Answer::Refused | Answer::Unknown => Some((attempt.answered, false)),
            Answer::Unanswered(_) => None,
        })
        .collect();
    answers.sort_unstable();
    let (mut longest, mut since) = (Duration::ZERO, None);
    for (at, is_available) in answers {
        if is_available {
            longest = longest.max(since.take().map_or(Duration::ZERO, |since| at.saturating_sub(since)));
        } else {
            since.get_or_insert(at);
        }
    }
    since.is_none().then_some(longest)
}
