//! Leases: places of this instance's streams among the open streams of their subjects.
//!
//! Redis counts the streams of all instances while it answers. Without its answer, the open streams
//! of this instance count (`table`), and the upkeep takes their leases as soon as it answers again.
//! They also count beside an answer, because Redis may not know all of them yet.
//!
//! # Calls without an answer
//!
//! A call that was not answered in time may still be on its way to Redis. The script carries out no
//! call that left more than [`ALIVE`](crate::store::ALIVE) after the last renewal that its instance
//! knew of. So a lease is released at once when its stream ends, and once more when no call can
//! take it any more.

mod table;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::table::Table;
use super::admission::{Deadline, NotAdmitted, Shared};
use crate::events::{EndReason, StreamId};
use crate::store::{LeaseAnswer, SubjectKey, SubjectLimit, SubjectPolicy, WantedLeases};
use crate::token::Subject;

/// Leases of this instance, bounded by its open streams and by its table.
pub(super) struct Leases {
    shared: Arc<Shared>,
    table: Mutex<Table>,
}

/// Answer of Redis to a stream that wants a lease.
struct Granted {
    is_refused: bool,
    replaced: Vec<StreamId>,
}

impl Leases {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, table: Mutex::default() }
    }

    /// Takes a lease for a stream of `subject`; `None` without a limit. Cancel safe.
    pub(super) async fn take(
        self: &Arc<Self>,
        subject: &Subject,
        stream: StreamId,
        deadline: Deadline,
    ) -> Result<Option<Lease>, NotAdmitted> {
        let Some(limit) = self.shared.deps.limit else { return Ok(None) };
        let subject = SubjectKey::of(subject);
        let lease = self.enter(subject, stream);
        let losses = self.table.lock().losses();
        let metrics = &self.shared.deps.metrics.admission;
        match self.ask(limit, subject, stream, deadline).await {
            Some(granted) if granted.is_refused => {
                metrics.subject_cap_reached();
                return Err(NotAdmitted::SubjectLimit);
            }
            Some(granted) => {
                for replaced in granted.replaced {
                    metrics.subject_cap_reached();
                    self.replace(replaced);
                }
                self.open(limit, subject, stream, Some(losses))?;
            }
            None if self.shared.refuses_undecided() => return Err(NotAdmitted::Unproven),
            None => {
                if self.shared.deps.store.is_some() {
                    metrics.subject_cap_local();
                }
                self.open(limit, subject, stream, None)?;
            }
        }
        Ok(Some(lease))
    }

    /// Asks Redis for a lease; `None` without an answer.
    async fn ask(
        &self,
        limit: SubjectLimit,
        subject: SubjectKey,
        stream: StreamId,
        deadline: Deadline,
    ) -> Option<Granted> {
        let (store, renewed) = self.shared.store_until(deadline)?;
        self.table.lock().asks(stream);
        let wanted = WantedLeases {
            subject,
            streams: vec![(stream.to_string(), Duration::ZERO)],
            limit: limit.streams,
            replaces: limit.policy == SubjectPolicy::ReplaceOldest,
            renewed,
            kept: self.shared.deps.max_age,
        };
        let answer = deadline.keep(store.take_leases(&wanted)).await?;
        let granted = match answer {
            LeaseAnswer::RenewFirst => None,
            LeaseAnswer::Taken { refused, replaced } => Some(Granted {
                is_refused: !refused.is_empty(),
                replaced: replaced.iter().filter_map(|id| StreamId::parse(id)).collect(),
            }),
        };
        let is_taken = granted.as_ref().is_some_and(|granted| !granted.is_refused);
        self.table.lock().answered(stream, is_taken);
        granted
    }

    /// Opens a stream if the open streams of this instance leave room, or make it. `losses` is the
    /// number of losses before Redis granted the lease; `None` if it has not.
    fn open(
        &self,
        limit: SubjectLimit,
        subject: SubjectKey,
        stream: StreamId,
        losses: Option<u64>,
    ) -> Result<(), NotAdmitted> {
        let metrics = &self.shared.deps.metrics.admission;
        let mut table = self.table.lock();
        let open = table.open_beside(stream);
        let excess = (open.len() + 1).saturating_sub(limit.streams);
        if excess > 0 && limit.policy == SubjectPolicy::Refuse {
            metrics.subject_cap_reached();
            return Err(NotAdmitted::SubjectLimit);
        }
        for oldest in &open[..excess] {
            table.leave(*oldest);
        }
        table.open(stream);
        let is_unconfirmed = losses != Some(table.losses());
        if is_unconfirmed {
            table.unconfirm(subject);
        }
        drop(table);
        for oldest in &open[..excess] {
            metrics.subject_cap_reached();
            (self.shared.deps.end)(*oldest, EndReason::Replaced);
        }
        if is_unconfirmed || excess > 0 {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    fn enter(self: &Arc<Self>, subject: SubjectKey, stream: StreamId) -> Lease {
        self.table.lock().enter(subject, stream);
        Lease { leases: Arc::clone(self), stream }
    }

    /// Ends a stream of this instance whose lease another stream has taken.
    pub(super) fn replace(&self, stream: StreamId) {
        let is_own = self.table.lock().remove(stream).is_some();
        if is_own {
            (self.shared.deps.end)(stream, EndReason::Replaced);
        }
    }

    /// Notes that Redis may have lost the leases of this instance.
    pub(super) fn lose(&self) {
        self.table.lock().lose();
    }

    /// Whether more leases were to be released than could be kept. The answer is given once.
    pub(super) fn has_overflowed(&self) -> bool {
        self.table.lock().take_overflow()
    }

    /// Up to `most` leases to be released.
    pub(super) fn releases(&self, most: usize) -> Vec<(SubjectKey, String)> {
        self.table.lock().releases(most)
    }

    /// Notes that the first `count` leases were released.
    pub(super) fn released(&self, count: usize) {
        self.table.lock().released(count);
    }

    /// Leases of up to `most` subjects that Redis may not have.
    pub(super) fn unconfirmed(&self, most: usize, renewed: u64) -> Vec<WantedLeases> {
        let Some(limit) = self.shared.deps.limit else { return Vec::new() };
        let mut table = self.table.lock();
        let mut wanted = Vec::new();
        while wanted.len() < most
            && let Some((subject, mut streams)) = table.next_unconfirmed()
        {
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
                self.table.lock().unconfirm(wanted.subject);
                are_all_answered = false;
                continue;
            };
            for stream in refused.iter().filter_map(|id| StreamId::parse(id)) {
                let is_lost = self.table.lock().remove(stream).is_some();
                if is_lost {
                    self.shared.deps.metrics.admission.lease_lost();
                    (self.shared.deps.end)(stream, EndReason::LeaseLost);
                }
            }
        }
        are_all_answered
    }

    fn leave(&self, stream: StreamId) {
        let has_work = self.table.lock().leave(stream);
        if has_work {
            self.shared.work.notify_one();
        }
    }
}

/// A lease of a stream; dropping it releases the lease.
pub(super) struct Lease {
    leases: Arc<Leases>,
    stream: StreamId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.leave(self.stream);
    }
}
