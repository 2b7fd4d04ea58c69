//! Leases: places of this instance's streams among the open streams of their subjects.
//!
//! Redis counts the streams of all instances while it answers. Without its answer, the streams of
//! this instance count, and [`Leases::unconfirmed`] takes their leases as soon as it answers again.
//!
//! # Calls without an answer
//!
//! A call that was not answered in time may still be on its way to Redis. The script carries out no
//! call that left more than [`ALIVE`] after the last renewal that its instance knew of. So a lease
//! is released at once when its stream ends, and once more when no call can take it any more.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::admission::Shared;
use crate::events::{StreamId, SubjectLimit, SubjectPolicy};
use crate::store::{ALIVE, LeaseAnswer, SubjectKey, WantedLeases};
use crate::token::Subject;

/// Time in which a call without an answer may still be carried out, with a margin for clocks that
/// run at different speeds.
const MAY_ARRIVE: Duration = ALIVE.saturating_add(Duration::from_millis(100));
/// Bound of leases that wait for their release, 64 bytes each. Beyond it the instance gives up all
/// its leases, and takes those of its streams again.
const MOST_RELEASES: usize = 100_000;

/// The limit of a subject is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitReached;

/// A stream that has a lease, or waits for it.
struct Holder {
    stream: StreamId,
    since: Instant,
    /// Whether it is open: its lease was granted by Redis or by this instance.
    is_open: bool,
    /// Time until which a call without an answer may take its lease.
    uncertain_until: Option<Instant>,
    /// Whether Redis was asked for the lease.
    was_asked: bool,
}

/// A lease to be released.
#[derive(Clone)]
struct Release {
    subject: SubjectKey,
    stream: StreamId,
    /// Time at which it has to be released once more.
    again_at: Option<Instant>,
}

#[derive(Default)]
struct Table {
    /// Streams of each subject, the oldest first.
    subjects: HashMap<SubjectKey, Vec<Holder>>,
    /// Subject of each stream.
    by_stream: HashMap<StreamId, SubjectKey>,
    releases: VecDeque<Release>,
    /// Leases to be released once more, about in the order of their times.
    later: VecDeque<Release>,
    /// Subjects whose leases Redis may not have.
    unconfirmed: BTreeSet<SubjectKey>,
    /// Changes when leases may have been lost.
    losses: u64,
    has_overflowed: bool,
}

/// Leases of this instance. Bounded by its open streams and [`MOST_RELEASES`].
pub(super) struct Leases {
    shared: Arc<Shared>,
    table: Mutex<Table>,
}

impl Leases {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, table: Mutex::default() }
    }

    /// Takes a lease for a stream of `subject`; `None` without a limit.
    pub(super) async fn take(
        self: &Arc<Self>,
        subject: &Subject,
        stream: StreamId,
    ) -> Result<Option<Lease>, LimitReached> {
        let Some(limit) = self.shared.deps.limit else { return Ok(None) };
        let subject = SubjectKey::of(subject);
        let lease = self.enter(subject, stream);
        let losses = self.table.lock().losses;
        let answer = self.ask(limit, subject, stream).await;
        let metrics = &self.shared.deps.metrics.admission;
        match answer {
            Some((refused, replaced)) => {
                if !refused.is_empty() {
                    metrics.subject_cap_reached();
                    return Err(LimitReached);
                }
                for stream in replaced {
                    metrics.subject_cap_reached();
                    self.replace(stream);
                }
                let mut table = self.table.lock();
                if table.losses != losses {
                    table.unconfirmed.insert(subject);
                }
                table.open(subject, stream);
            }
            None => {
                if self.shared.deps.store.is_some() {
                    metrics.subject_cap_local();
                }
                self.decide_alone(limit, subject, stream).inspect_err(|_| metrics.subject_cap_reached())?;
            }
        }
        Ok(Some(lease))
    }

    /// Asks Redis for a lease. Returns refused and replaced streams; `None` without an answer.
    async fn ask(
        &self,
        limit: SubjectLimit,
        subject: SubjectKey,
        stream: StreamId,
    ) -> Option<(Vec<String>, Vec<StreamId>)> {
        let (store, renewed) = self.shared.store()?;
        self.table.lock().asks(subject, stream);
        let wanted = WantedLeases {
            subject,
            streams: vec![(stream.to_string(), Duration::ZERO)],
            limit: limit.streams,
            replaces: limit.policy == SubjectPolicy::ReplaceOldest,
            renewed,
            kept: self.shared.deps.max_age,
        };
        let answer = store.take_leases(&wanted).await.ok()?;
        let (refused, replaced) = match answer {
            LeaseAnswer::RenewFirst => (None, Vec::new()),
            LeaseAnswer::Taken { refused, replaced } => (Some(refused), replaced),
        };
        let is_taken = refused.as_ref().is_some_and(Vec::is_empty);
        self.table.lock().answered(subject, stream, is_taken);
        Some((refused?, replaced.iter().filter_map(|id| StreamId::parse(id)).collect()))
    }

    /// Decides by the streams of this instance alone.
    fn decide_alone(
        &self,
        limit: SubjectLimit,
        subject: SubjectKey,
        stream: StreamId,
    ) -> Result<(), LimitReached> {
        let mut replaced = Vec::new();
        {
            let mut table = self.table.lock();
            let holders = table.subjects.get(&subject).map_or(&[][..], Vec::as_slice);
            let place = holders.iter().position(|holder| holder.stream == stream).unwrap_or(0);
            let excess = (place + 1).saturating_sub(limit.streams);
            if excess > 0 && limit.policy == SubjectPolicy::Refuse {
                return Err(LimitReached);
            }
            replaced.extend(holders.iter().take(excess).map(|holder| holder.stream));
            for oldest in &replaced {
                table.leave(subject, *oldest);
            }
            table.open(subject, stream);
            table.unconfirmed.insert(subject);
        }
        for oldest in replaced {
            self.shared.deps.metrics.admission.subject_cap_reached();
            (self.shared.deps.end)(oldest);
        }
        self.shared.work.notify_one();
        Ok(())
    }

    fn enter(self: &Arc<Self>, subject: SubjectKey, stream: StreamId) -> Lease {
        let holder =
            Holder { stream, since: Instant::now(), is_open: false, uncertain_until: None, was_asked: false };
        let mut table = self.table.lock();
        table.subjects.entry(subject).or_default().push(holder);
        table.by_stream.insert(stream, subject);
        drop(table);
        Lease { leases: Arc::clone(self), subject, stream }
    }

    /// Ends a stream of this instance whose lease another stream has taken.
    pub(super) fn replace(&self, stream: StreamId) {
        let is_own = {
            let mut table = self.table.lock();
            let subject = table.by_stream.get(&stream).copied();
            subject.is_some_and(|subject| table.remove(subject, stream).is_some())
        };
        if is_own {
            (self.shared.deps.end)(stream);
        }
    }

    /// Notes that Redis may have lost the leases of this instance.
    pub(super) fn lose(&self) {
        let mut table = self.table.lock();
        table.losses += 1;
        table.unconfirmed = table.subjects.keys().copied().collect();
    }

    /// Whether more leases were to be released than could be kept. The answer is given once.
    pub(super) fn has_overflowed(&self) -> bool {
        std::mem::take(&mut self.table.lock().has_overflowed)
    }

    /// Up to `most` leases to be released.
    pub(super) fn releases(&self, most: usize) -> Vec<(SubjectKey, String)> {
        let mut table = self.table.lock();
        let now = Instant::now();
        while table.later.front().is_some_and(|release| release.again_at <= Some(now)) {
            let due = table.later.pop_front();
            table.releases.extend(due.map(|due| Release { again_at: None, ..due }));
        }
        let due = table.releases.iter().take(most);
        due.map(|release| (release.subject, release.stream.to_string())).collect()
    }

    /// Notes that the first `count` leases were released.
    pub(super) fn released(&self, count: usize) {
        let mut table = self.table.lock();
        let count = count.min(table.releases.len());
        let again: Vec<_> = table.releases.drain(..count).filter(|it| it.again_at.is_some()).collect();
        table.later.extend(again);
        let surplus = table.later.len().saturating_sub(MOST_RELEASES);
        table.later.drain(..surplus);
    }

    /// Leases of up to `most` subjects that Redis may not have.
    pub(super) fn unconfirmed(&self, most: usize, renewed: u64) -> Vec<WantedLeases> {
        let Some(limit) = self.shared.deps.limit else { return Vec::new() };
        let mut table = self.table.lock();
        let mut wanted = Vec::new();
        while wanted.len() < most
            && let Some(subject) = table.unconfirmed.pop_first()
        {
            let Some(holders) = table.subjects.get_mut(&subject) else { continue };
            let now = Instant::now();
            let mut streams = Vec::with_capacity(holders.len());
            for holder in holders.iter_mut().filter(|holder| holder.is_open) {
                // Until the answer arrives.
                holder.uncertain_until = Some(now + MAY_ARRIVE);
                holder.was_asked = true;
                streams.push((holder.stream.to_string(), holder.since.elapsed()));
            }
            // The streams that come first get the places that are left.
            if limit.policy == SubjectPolicy::ReplaceOldest {
                streams.reverse();
            }
            wanted.push(WantedLeases {
                subject,
                streams,
                limit: limit.streams,
                replaces: false,
                renewed,
                kept: self.shared.deps.max_age,
            });
        }
        wanted
    }

    /// Notes the answers to [`Self::unconfirmed`], and ends streams without room; `None` without
    /// answers. Returns whether all were answered.
    pub(super) fn confirmed(&self, wanted: &[WantedLeases], answers: Option<Vec<LeaseAnswer>>) -> bool {
        let mut are_all_answered = true;
        let answers = answers.unwrap_or_default().into_iter().map(Some).chain(std::iter::repeat(None));
        for (wanted, answer) in wanted.iter().zip(answers) {
            let Some(LeaseAnswer::Taken { refused, .. }) = answer else {
                self.table.lock().unconfirmed.insert(wanted.subject);
                are_all_answered = false;
                continue;
            };
            for stream in refused.iter().filter_map(|id| StreamId::parse(id)) {
                if self.table.lock().remove(wanted.subject, stream).is_some() {
                    self.shared.deps.metrics.admission.lease_lost();
                    (self.shared.deps.end)(stream);
                }
            }
        }
        are_all_answered
    }

    fn leave(&self, subject: SubjectKey, stream: StreamId) {
        if self.table.lock().leave(subject, stream) {
            self.shared.work.notify_one();
        }
    }
}

impl Table {
    fn holder(&mut self, subject: SubjectKey, stream: StreamId) -> Option<&mut Holder> {
        self.subjects.get_mut(&subject)?.iter_mut().find(|holder| holder.stream == stream)
    }

    /// Notes that Redis is asked for the first time.
    fn asks(&mut self, subject: SubjectKey, stream: StreamId) {
        if let Some(holder) = self.holder(subject, stream) {
            (holder.was_asked, holder.uncertain_until) = (true, Some(Instant::now() + MAY_ARRIVE));
        }
    }

    /// Notes that Redis has answered.
    fn answered(&mut self, subject: SubjectKey, stream: StreamId, is_taken: bool) {
        if let Some(holder) = self.holder(subject, stream) {
            (holder.was_asked, holder.uncertain_until) = (is_taken, None);
        }
    }

    fn open(&mut self, subject: SubjectKey, stream: StreamId) {
        if let Some(holder) = self.holder(subject, stream) {
            holder.is_open = true;
        }
    }

    fn remove(&mut self, subject: SubjectKey, stream: StreamId) -> Option<Holder> {
        let holders = self.subjects.get_mut(&subject)?;
        let place = holders.iter().position(|holder| holder.stream == stream)?;
        let holder = holders.remove(place);
        if holders.is_empty() {
            self.subjects.remove(&subject);
        }
        self.by_stream.remove(&stream);
        Some(holder)
    }

    /// Removes a stream. Returns whether its lease has to be released.
    fn leave(&mut self, subject: SubjectKey, stream: StreamId) -> bool {
        let Some(holder) = self.remove(subject, stream).filter(|holder| holder.was_asked) else {
            return false;
        };
        if self.releases.len() >= MOST_RELEASES {
            self.releases.clear();
            self.has_overflowed = true;
        }
        let again_at = holder.uncertain_until.filter(|until| *until > Instant::now());
        self.releases.push_back(Release { subject, stream, again_at });
        true
    }
}

/// A lease of a stream; dropping it releases the lease.
pub(super) struct Lease {
    leases: Arc<Leases>,
    subject: SubjectKey,
    stream: StreamId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.leave(self.subject, self.stream);
    }
}
