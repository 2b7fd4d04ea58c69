//! Streams that make room for another one of their subject (`replace_oldest`): only the oldest, and
//! only where the cap is reached.

use std::collections::HashMap;
use std::time::Duration;

use super::super::occupancy::{Apart, Span, are_apart, most_within, span_of};
use super::{FREE_AFTER, Occupied, REPLACED_WITHIN};
use crate::history::{History, LoggedStream, Subject};

/// Reason for the end of such a stream.
const REPLACED: &str = "replaced";
/// Streams that were opened within this time of each other may be logged in either order.
const ORDER: Duration = Duration::from_millis(500);

/// The same streams without their last second: a stream that makes room ends within it.
pub(super) fn without_last_second(spans: &[Span]) -> Vec<Span> {
    let shorter = |span: &Span| Span { until: span.until.saturating_sub(REPLACED_WITHIN), ..*span };
    spans.iter().map(shorter).collect()
}

/// Judges the streams that made room. `taken` are the places of each subject.
pub(super) fn judge(
    history: &History,
    cap: usize,
    taken: &HashMap<Subject, Vec<Span>>,
    apart: &[Apart],
    found: &mut Occupied,
) {
    let mut streams: HashMap<Subject, Vec<&LoggedStream>> = HashMap::new();
    for stream in &history.logged_streams {
        if let Some(subject) = history.subjects.get(&stream.token) {
            streams.entry(*subject).or_default().push(stream);
        }
    }
    for (subject, streams) in &streams {
        for stream in streams.iter().filter(|it| it.reason.as_deref() == Some(REPLACED)) {
            let Some(at) = stream.ended else { continue };
            found.replaced += 1;
            let places = taken.get(subject).map(Vec::as_slice).unwrap_or_default();
            let most = most_within(places, at.saturating_sub(FREE_AFTER), at);
            if most <= cap {
                found.replaced_wrongly.note(|| {
                    format!(
                        "subject {subject} at {at:?}, with at most {most} streams since {FREE_AFTER:?} before"
                    )
                });
            }
            // An instance without Redis ends the oldest of the streams that it has.
            let is_older = |other: &&&LoggedStream| {
                other.opened + ORDER < stream.opened && span_of(history, other).until > at + REPLACED_WITHIN
            };
            if let Some(older) = streams.iter().find(is_older)
                && !are_apart(apart, at.saturating_sub(REPLACED_WITHIN), at)
            {
                let (opened, other) = (stream.opened, older.opened);
                found.replaced_wrongly.note(|| {
                    format!("subject {subject} at {at:?}, opened at {opened:?}; one of {other:?} stayed")
                });
            }
        }
    }
}
