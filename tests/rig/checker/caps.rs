//! Caps of subjects: never more streams open at once, and no refusal while there is a place. Where
//! the oldest stream makes room, there is no refusal at all (`replaced`).

mod replaced;

use std::collections::HashMap;
use std::time::Duration;

use super::occupancy::{Apart, Span, most_within, span_of, too_many};
use super::{Control, Findings};
use crate::history::{History, Kind, Moment, Outcome, Subject};

/// Time after which a place that became free can be taken again.
const FREE_AFTER: Duration = Duration::from_secs(3);
/// Time in which the oldest stream ends that makes room.
const REPLACED_WITHIN: Duration = Duration::from_secs(1);
/// Begin and code of the answer to a stream beyond a cap.
const REFUSED: (&str, &str) = ("429", "subject_streams_full");

/// Bounds of the streams of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Bound of the open streams of a subject.
    pub cap: u8,
    /// At least so many openings have to be judged.
    pub openings: u16,
    /// Whether the oldest stream makes room for another one.
    pub replaces: bool,
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
    /// Number of streams that made room for another one.
    pub(crate) replaced: usize,
    /// Subjects with more streams than they may have.
    pub(super) over: Findings,
    /// Refusals although there was a place.
    pub(super) wrong: Findings,
    /// Streams that made room although they were not the oldest, or there was a place.
    pub(super) replaced_wrongly: Findings,
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
        Control::Caps(caps) => Some(caps),
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
        if caps.is_none_or(|caps| caps.replaces || most < usize::from(caps.cap)) {
            let at = attempt.sent;
            found.wrong.note(|| {
                format!(
                    "subject {subject} at {at:?}, with at most {most} streams since {FREE_AFTER:?} before"
                )
            });
        }
    }
    let Some(Caps { cap, openings: needed, replaces }) = caps else { return found };
    let (cap, needed) = (usize::from(cap), usize::from(needed));
    for (whose, all) in [("by the logs", &logged), ("by its clients", &held)] {
        for (subject, spans) in all {
            let counted = if replaces { replaced::without_last_second(spans) } else { spans.clone() };
            if let Some((at, open)) = too_many(&counted, cap, &apart) {
                found.over.note(|| format!("subject {subject} at {at:?} with {open} {whose}"));
            }
        }
    }
    if replaces {
        replaced::judge(history, cap, &taken, &apart, &mut found);
    }
    let is_full = |spans: &&Vec<Span>| too_many(spans, cap - 1, &[]).is_some();
    found.full = logged.values().filter(is_full).count();
    let is_tried = found.full > 0 && if replaces { found.replaced > 0 } else { found.refused > 0 };
    found.void = (found.openings < needed || !is_tried).then(|| {
        let Occupied { openings, refused, replaced, full, .. } = &found;
        format!(
            "{openings} of at least {needed}, {refused} refused, {replaced} made room, {full} subjects with \
             {cap} streams"
        )
    });
    found
}
