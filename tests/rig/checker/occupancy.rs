//! Number of streams that are open at once: at most so many of a subject, and one of a ticket.
//! While instances cannot use Redis, each of them counts alone.

use std::time::Duration;

use super::rounds::recovered;
use crate::history::{Endpoint, History, LoggedStream, Moment, Partition};

/// Time after all instances recovered in which they agree which streams stay.
const AGREED: Duration = Duration::from_secs(3);

/// A period in which a stream was open, and its instance where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Moment,
    pub(super) until: Moment,
    pub(super) instance: Option<usize>,
}

/// A period in which instances may disagree, and the instances that are alone in it.
pub(super) struct Apart<'a> {
    from: Moment,
    until: Moment,
    cut: &'a [usize],
}

impl Apart<'_> {
    pub(super) fn of(history: &History) -> Vec<Apart<'_>> {
        let end = |partition: &Partition| {
            let round = history.rounds.iter().rev().find(|round| round.from <= partition.from)?;
            Some(recovered(history, round)?.max(partition.until?) + AGREED)
        };
        let apart = history.partitions.iter().map(|partition| Apart {
            // An instance may be cut off before it is certain.
            from: partition.from.saturating_sub(AGREED / 10),
            until: end(partition).unwrap_or(history.length),
            cut: &partition.cut,
        });
        apart.collect()
    }

    fn contains(&self, at: Moment) -> bool {
        (self.from..=self.until).contains(&at)
    }

    /// Side of an instance: alone, or with the others.
    fn side(&self, instance: Option<usize>) -> Option<usize> {
        instance.filter(|instance| self.cut.contains(instance))
    }
}

/// Whether instances may disagree at some time of a period.
pub(super) fn are_apart(apart: &[Apart], from: Moment, until: Moment) -> bool {
    apart.iter().any(|it| it.from <= until && from <= it.until)
}

/// Whether nobody may know any more at a time what these instances knew, each since a moment: all
/// of them died since then, and Redis failed.
pub(super) fn is_forgotten(
    history: &History,
    known_by: impl Iterator<Item = (usize, Moment)>,
    at: Moment,
) -> bool {
    let known_by: Vec<_> = known_by.collect();
    let Some(first) = known_by.iter().map(|(_, since)| *since).min() else { return false };
    let is_between = |it: &Partition| it.from <= at && it.until.is_none_or(|until| until >= first);
    let died = |(instance, since): &(usize, Moment)| {
        let own = Endpoint::Instance(*instance);
        history.outages.iter().any(|it| it.endpoint == own && (*since..=at).contains(&it.from))
    };
    history.partitions.iter().any(is_between) && known_by.iter().all(died)
}

/// The first time at which more than `most` are open on one side, and how many. Where instances are
/// not known, times at which they may disagree are left out.
pub(super) fn too_many(spans: &[Span], most: usize, apart: &[Apart]) -> Option<(Moment, usize)> {
    // The number rises when a stream opens and when instances agree again.
    let mut moments: Vec<_> = spans.iter().map(|span| span.from).collect();
    moments.extend(apart.iter().map(|it| it.until + Duration::from_millis(1)));
    moments.sort_unstable();
    moments.into_iter().find_map(|at| {
        let open = at_side(spans, at, apart)?;
        (open > most).then_some((at, open))
    })
}

/// The most that are open on one side at a time; `None`: that is not known.
fn at_side(spans: &[Span], at: Moment, apart: &[Apart]) -> Option<usize> {
    let open = spans.iter().filter(|span| span.from <= at && at < span.until);
    let Some(apart) = apart.iter().find(|it| it.contains(at)) else { return Some(open.count()) };
    let mut sides = Vec::new();
    for span in open {
        sides.push(apart.side(Some(span.instance?)));
    }
    sides.iter().map(|side| sides.iter().filter(|other| *other == side).count()).max().or(Some(0))
}

/// The most that were open within a period. Streams of all sides count: when a cut begins and ends,
/// an instance counts those of the others.
pub(super) fn most_within(spans: &[Span], from: Moment, until: Moment) -> usize {
    let starts = spans.iter().map(|span| span.from).filter(|at| (from..=until).contains(at));
    let moments = starts.chain([from]);
    moments.filter_map(|at| at_side(spans, at, &[])).max().unwrap_or(0)
}

/// The period of a stream in a log. One without an end was cut when its instance was killed.
pub(super) fn span_of(history: &History, stream: &LoggedStream) -> Span {
    let own = Endpoint::Instance(stream.instance);
    let killed = || {
        let mut outages = history.outages.iter().filter(|it| it.endpoint == own && it.from >= stream.opened);
        outages.next().map_or(history.length, |it| it.from)
    };
    let until = stream.ended.unwrap_or_else(killed);
    Span { from: stream.opened, until, instance: Some(stream.instance) }
}
