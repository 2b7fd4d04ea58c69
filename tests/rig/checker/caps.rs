//! Caps of subjects: never more streams open at once, and no refusal while there is a place.

use std::collections::HashMap;
use std::time::Duration;

use super::occupancy::{Apart, Span, most_within, span_of, too_many};
use super::{Control, Findings};
use crate::history::{History, Kind, Moment, Outcome, Subject};

/// Time after which a place that became free can be taken again.
const FREE_AFTER: Duration = Duration::from_secs(3);
/// Begin and code of the answer to a stream beyond a cap.
const REFUSED: (&str, &str) = ("429", "subject_streams_full");

/// Bounds of the streams of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Bound of the open streams of a subject.
    pub cap: u8,
    /// At least so many openings have to be judged.
    pub openings: u16,
}

/// Results of openings of subjects with a cap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Occupied {
    /// Number of openings.
    pub(crate) openings: usize,
    /// Number of openings that were refused because of the cap.
    pub(crate) refused: usize,
    /// Number of subjects that had as many streams as they may.
    pub(crate) full: usize,
    /// Subjects with more streams than they may have.
    pub(super) over: Findings,
    /// Refusals although there was a place.
    pub(super) wrong: Findings,
    /// Violation as text: nothing was shown.
    pub(super) void: Option<String>,
}

/// Whether an answer says that the subject has as many streams as it may.
pub(super) fn is_full(outcome: &Outcome) -> bool {
    let (status, code) = REFUSED;
    matches!(outcome, Outcome::Unanswered(words) if words.starts_with(status) && words.contains(code))
}

/// Judges the streams in the logs of the instances, those that clients had, and the refusals.
pub(super) fn judge(history: &History, control: Control) -> Occupied {
    let caps = match control {
        Control::Caps(Caps { cap, openings }) => Some((usize::from(cap), usize::from(openings))),
        _ => None,
    };
    let mut found = Occupied::default();
    let apart = Apart::of(history);
    let mut logged: HashMap<Subject, Vec<Span>> = HashMap::new();
    for stream in &history.logged_streams {
        if let Some(subject) = history.subjects.get(&stream.token) {
            logged.entry(*subject).or_default().push(span_of(history, stream));
        }
    }
    let mut held: HashMap<Subject, Vec<Span>> = HashMap::new();
    for stream in &history.client_streams {
        if let Some(subject) = history.subjects.get(&stream.token) {
            let until = stream.end.as_ref().map_or(history.length, |end| end.at);
            held.entry(*subject).or_default().push(Span { from: stream.opened, until, instance: None });
        }
    }
    let attempts = || history.operations.iter().filter(|it| it.kind == Kind::OpenStream);
    // A place is taken at some time between the request and the log line. Where many race, others
    // are refused before that line.
    let mut sent: HashMap<_, Vec<Moment>> = HashMap::new();
    for attempt in attempts() {
        sent.entry(attempt.token).or_default().push(attempt.sent);
    }
    let mut taken = logged.clone();
    for stream in &history.logged_streams {
        let Some(subject) = history.subjects.get(&stream.token) else { continue };
        let requests = sent.get(&stream.token).into_iter().flatten();
        if let Some(&from) = requests.filter(|sent| **sent < stream.opened).max() {
            let opening = Span { from, until: stream.opened, instance: Some(stream.instance) };
            taken.entry(*subject).or_default().push(opening);
        }
    }
    for attempt in attempts() {
        let Some(subject) = history.subjects.get(&attempt.token) else { continue };
        found.openings += 1;
        if !is_full(&attempt.outcome) {
            continue;
        }
        found.refused += 1;
        let own = taken.get(subject).map(Vec::as_slice).unwrap_or_default();
        let most = most_within(own, attempt.sent.saturating_sub(FREE_AFTER), attempt.answered);
        if caps.is_none_or(|(cap, _)| most < cap) {
            let at = attempt.sent;
            found.wrong.note(|| {
                format!(
                    "subject {subject} at {at:?}, with at most {most} streams since {FREE_AFTER:?} before"
                )
            });
        }
    }
    let Some((cap, needed)) = caps else { return found };
    for (whose, all) in [("by the logs", &logged), ("by its clients", &held)] {
        for (subject, spans) in all {
            if let Some((at, open)) = too_many(spans, cap, &apart) {
                found.over.note(|| format!("subject {subject} at {at:?} with {open} {whose}"));
            }
        }
    }
    let is_full = |spans: &&Vec<Span>| too_many(spans, cap - 1, &[]).is_some();
    found.full = logged.values().filter(is_full).count();
    found.void = (found.openings < needed || found.refused == 0 || found.full == 0).then(|| {
        let Occupied { openings, refused, full, .. } = &found;
        format!("{openings} of at least {needed}, {refused} refused, {full} subjects with {cap} streams")
    });
    found
}
