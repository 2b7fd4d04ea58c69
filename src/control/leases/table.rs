//! The streams of an instance that have a lease or wait for one, and the leases to be released.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::events::StreamId;
use crate::store::{ALIVE, SubjectKey};

/// Time in which a call without an answer may still be carried out, with a margin for clocks that
/// run at different speeds.
const MAY_ARRIVE: Duration = ALIVE.saturating_add(Duration::from_millis(100));
/// Bound of leases that wait for their release, about 60 bytes each. Beyond it the instance gives
/// up all its leases, and takes those of its streams again.
const MOST_RELEASES: usize = 100_000;

/// A stream that has a lease, or waits for it.
pub(super) struct Holder {
    stream: StreamId,
    since: Instant,
    /// Whether its lease was granted, by Redis or by this instance.
    is_open: bool,
    /// Whether Redis was asked for the lease.
    was_asked: bool,
    /// Time until which a call without an answer may take the lease.
    uncertain_until: Option<Instant>,
}

/// A lease to be released.
struct Release {
    subject: SubjectKey,
    stream: StreamId,
    /// Time at which it has to be released once more.
    again_at: Option<Instant>,
}

/// The leases of an instance.
#[derive(Default)]
pub(super) struct Table {
    /// Streams of each subject, the oldest first.
    subjects: HashMap<SubjectKey, Vec<Holder>>,
    /// Subject of each stream.
    by_stream: HashMap<StreamId, SubjectKey>,
    releases: VecDeque<Release>,
    /// Leases to be released once more, about in the order of their times.
    later: VecDeque<Release>,
    has_overflowed: bool,
    /// Subjects whose leases Redis may not have.
    unconfirmed: BTreeSet<SubjectKey>,
    /// Number of times at which Redis may have lost leases.
    losses: u64,
}

impl Table {
    /// Enters a stream that wants a lease.
    pub(super) fn enter(&mut self, subject: SubjectKey, stream: StreamId) {
        let holder =
            Holder { stream, since: Instant::now(), is_open: false, was_asked: false, uncertain_until: None };
        self.subjects.entry(subject).or_default().push(holder);
        self.by_stream.insert(stream, subject);
    }

    fn holder(&mut self, stream: StreamId) -> Option<&mut Holder> {
        let subject = self.by_stream.get(&stream)?;
        self.subjects.get_mut(subject)?.iter_mut().find(|holder| holder.stream == stream)
    }

    /// The other open streams of the same subject, the oldest first. Those that wait for an answer
    /// do not count: it may be a refusal.
    pub(super) fn open_beside(&self, stream: StreamId) -> Vec<StreamId> {
        let subject = self.by_stream.get(&stream);
        let holders = subject.and_then(|subject| self.subjects.get(subject)).into_iter().flatten();
        let open = holders.filter(|holder| holder.is_open && holder.stream != stream);
        open.map(|holder| holder.stream).collect()
    }

    /// Notes that Redis is asked for the lease of a new stream.
    pub(super) fn asks(&mut self, stream: StreamId) {
        if let Some(holder) = self.holder(stream) {
            (holder.was_asked, holder.uncertain_until) = (true, Some(Instant::now() + MAY_ARRIVE));
        }
    }

    /// Notes that Redis has answered.
    pub(super) fn answered(&mut self, stream: StreamId, is_taken: bool) {
        if let Some(holder) = self.holder(stream) {
            (holder.was_asked, holder.uncertain_until) = (is_taken, None);
        }
    }

    /// Notes that the lease is granted.
    pub(super) fn open(&mut self, stream: StreamId) {
        if let Some(holder) = self.holder(stream) {
            holder.is_open = true;
        }
    }

    /// Removes a stream whose lease needs no release.
    pub(super) fn remove(&mut self, stream: StreamId) -> Option<(SubjectKey, Holder)> {
        let subject = self.by_stream.remove(&stream)?;
        let holders = self.subjects.get_mut(&subject)?;
        let place = holders.iter().position(|holder| holder.stream == stream)?;
        let holder = holders.remove(place);
        if holders.is_empty() {
            self.subjects.remove(&subject);
        }
        Some((subject, holder))
    }

    /// Removes a stream. Returns whether its lease has to be released.
    pub(super) fn leave(&mut self, stream: StreamId) -> bool {
        let Some((subject, holder)) = self.remove(stream) else { return false };
        if !holder.was_asked {
            return false;
        }
        if self.releases.len() >= MOST_RELEASES {
            self.releases.clear();
            self.has_overflowed = true;
        }
        let again_at = holder.uncertain_until.filter(|until| *until > Instant::now());
        self.releases.push_back(Release { subject, stream, again_at });
        true
    }

    /// Whether leases to be released were dropped. The answer is given once.
    pub(super) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.has_overflowed)
    }

    /// Up to `most` leases to be released.
    pub(super) fn releases(&mut self, most: usize) -> Vec<(SubjectKey, String)> {
        let now = Instant::now();
        while self.later.front().is_some_and(|release| release.again_at <= Some(now)) {
            let due = self.later.pop_front();
            self.releases.extend(due.map(|due| Release { again_at: None, ..due }));
        }
        let due = self.releases.iter().take(most);
        due.map(|release| (release.subject, release.stream.to_string())).collect()
    }

    /// Notes that the first `count` leases were released.
    pub(super) fn released(&mut self, count: usize) {
        let count = count.min(self.releases.len());
        let released = self.releases.drain(..count);
        self.later.extend(released.filter(|release| release.again_at.is_some()));
        let surplus = self.later.len().saturating_sub(MOST_RELEASES);
        self.later.drain(..surplus);
    }

    /// Number of times at which Redis may have lost leases.
    pub(super) const fn losses(&self) -> u64 {
        self.losses
    }

    /// Notes that Redis may have lost all leases.
    pub(super) fn lose(&mut self) {
        self.losses += 1;
        self.unconfirmed = self.subjects.keys().copied().collect();
    }

    /// Notes that Redis may not have all leases of a subject.
    pub(super) fn unconfirm(&mut self, subject: SubjectKey) {
        self.unconfirmed.insert(subject);
    }

    /// A subject whose leases Redis may not have; ids and ages of its streams, the oldest first.
    /// They are uncertain until they are asked for again.
    pub(super) fn next_unconfirmed(&mut self) -> Option<(SubjectKey, Vec<(String, Duration)>)> {
        loop {
            let subject = self.unconfirmed.pop_first()?;
            let holders = self.subjects.get_mut(&subject).into_iter().flatten();
            // Those that are not open are being asked for.
            let streams = holders.filter(|holder| holder.is_open).map(|holder| {
                holder.was_asked = true;
                holder.uncertain_until = Some(Instant::now() + MAY_ARRIVE);
                (holder.stream.to_string(), holder.since.elapsed())
            });
            let streams: Vec<_> = streams.collect();
            if !streams.is_empty() {
                return Some((subject, streams));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Subject;

    fn subject(name: &str) -> SubjectKey {
        SubjectKey::of(&Subject::parse(name).unwrap())
    }

    fn stream(number: u64) -> StreamId {
        StreamId::new(number)
    }

    /// A table with streams of subject `a` that have leases.
    fn table(streams: std::ops::Range<u64>) -> Table {
        let mut table = Table::default();
        for number in streams {
            table.enter(subject("a"), stream(number));
            table.asks(stream(number));
            table.answered(stream(number), true);
            table.open(stream(number));
        }
        table
    }

    fn is_empty(table: &Table) -> bool {
        table.subjects.is_empty() && table.by_stream.is_empty()
    }

    #[test]
    fn a_lease_is_released_if_redis_was_asked_and_has_not_refused_it() {
        let mut table = table(1..2);
        for number in [2, 3, 4] {
            table.enter(subject("a"), stream(number));
        }
        for number in [3, 4] {
            table.asks(stream(number));
        }
        table.answered(stream(4), false);
        assert!(table.leave(stream(1)), "it was granted");
        assert!(!table.leave(stream(2)), "Redis was not asked");
        assert!(table.leave(stream(3)), "the outcome is unknown");
        assert!(!table.leave(stream(4)), "it was refused");
        assert!(!table.leave(stream(1)), "it has left");
        let released: Vec<_> = table.releases(10).into_iter().map(|(_, id)| id).collect();
        assert_eq!(released, [1, 3].map(|number| stream(number).to_string()));
        assert!(is_empty(&table));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_whose_call_was_not_answered_is_released_twice() {
        let mut table = table(1..2);
        table.enter(subject("a"), stream(2));
        table.asks(stream(2));
        table.leave(stream(2));
        table.leave(stream(1));
        let count = table.releases(10).len();
        table.released(count);
        assert!(table.releases(10).is_empty());
        tokio::time::advance(ALIVE).await;
        assert!(table.releases(10).is_empty(), "the call may still arrive");
        tokio::time::advance(MAY_ARRIVE.checked_sub(ALIVE).unwrap()).await;
        assert_eq!(table.releases(10), [(subject("a"), stream(2).to_string())]);
        table.released(1);
        assert!(table.releases(10).is_empty() && table.later.is_empty());
    }

    #[test]
    fn leases_that_were_not_released_stay_in_the_queue() {
        let mut table = table(1..4);
        for number in 1..4 {
            table.leave(stream(number));
        }
        assert_eq!(table.releases(2).len(), 2);
        assert_eq!(table.releases(10).len(), 3);
        table.released(2);
        assert_eq!(table.releases(10), [(subject("a"), stream(3).to_string())]);
    }

    #[test]
    fn open_streams_of_one_subject_are_counted_in_the_order_of_their_entry() {
        let mut table = table(1..4);
        table.enter(subject("a"), stream(4));
        table.enter(subject("b"), stream(9));
        let open = |table: &Table, number| table.open_beside(stream(number));
        assert_eq!(open(&table, 4), [1, 2, 3].map(stream));
        assert_eq!(open(&table, 2), [1, 3].map(stream), "the one that waits is not open");
        assert_eq!(open(&table, 9), []);
        table.leave(stream(1));
        assert_eq!(open(&table, 4), [2, 3].map(stream));
    }

    #[test]
    fn after_a_loss_the_leases_of_open_streams_are_unconfirmed() {
        let mut table = table(1..3);
        table.enter(subject("a"), stream(3));
        table.enter(subject("b"), stream(4));
        let losses = table.losses();
        table.lose();
        assert_ne!(table.losses(), losses);
        let (of, streams) = table.next_unconfirmed().unwrap();
        let ids: Vec<_> = streams.into_iter().map(|(id, _)| id).collect();
        assert_eq!((of, ids), (subject("a"), [1, 2].map(|number| stream(number).to_string()).to_vec()));
        assert_eq!(table.next_unconfirmed(), None);
    }

    #[test]
    fn beyond_the_bound_all_releases_are_dropped_and_the_instance_learns_it_once() {
        let most = MOST_RELEASES as u64;
        let mut table = table(0..0);
        for number in 0..=most {
            table.enter(subject("a"), stream(number));
            table.asks(stream(number));
            table.answered(stream(number), true);
            assert!(!table.take_overflow());
            table.leave(stream(number));
        }
        assert!(table.take_overflow() && !table.take_overflow());
        assert_eq!(table.releases.len(), 1);
    }
}
