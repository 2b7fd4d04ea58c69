//! Tickets: single-use tokens that this instance has opened.
//!
//! Redis decides while it answers. Without its answer, this instance decides by its own openings
//! (`table`), and the upkeep tells Redis about them afterwards. If another stream holds the ticket
//! by then, the one of this instance ends.
//!
//! An opener that finds the ticket held by another stream waits (`waiting`): that stream may be one
//! whose client never got the answer.

mod table;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::table::{Known, Released, Table, Work};
use self::waiting::{POLL, Verdict, Waiting};
use super::admission::{Deadline, NotAdmitted, Shared};
use crate::clock::UnixMillis;
use crate::events::{EndReason, StreamId};
use crate::limits::TOMBSTONE_MARGIN;
use crate::store::{ReleasedTicket, TICKET_WINDOW, TicketAnswer, TicketChange, TicketHolder, WantedTicket};
use crate::token::TokenDigest;

/// Time after which there may be room for another ticket.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A token that opens one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The token.
    pub digest: TokenDigest,
    /// Its end.
    pub expires_at: UnixMillis,
}

const FULL: NotAdmitted = NotAdmitted::Full { retry_after: RETRY_AFTER };

/// Tickets of this instance, bounded by its table.
pub(super) struct Tickets {
    shared: Arc<Shared>,
    table: Mutex<Table>,
}

/// Changes of tickets for Redis, and the work that they belong to.
pub(super) struct Changes {
    works: Vec<(u64, Work)>,
    pub(super) changes: Vec<TicketChange>,
}

impl Tickets {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, table: Mutex::default() }
    }

    /// Takes a ticket for a stream. Cancel safe.
    pub(super) async fn take_for_stream(
        self: &Arc<Self>,
        ticket: Ticket,
        stream: StreamId,
        deadline: &mut Deadline,
    ) -> Result<HeldTicket, NotAdmitted> {
        let id = stream.to_string();
        let holder = match &self.shared.deps.store {
            Some(store) => store.holder(&id),
            None => TicketHolder::stream(&id, ""),
        };
        self.take(HeldTicket::new(self, ticket, holder, Some(stream)), deadline).await
    }

    /// Takes a ticket for a request, which never releases it.
    pub(super) async fn take_for_request(
        self: &Arc<Self>,
        ticket: Ticket,
        request: TicketHolder,
        deadline: &mut Deadline,
    ) -> Result<(), NotAdmitted> {
        let mut taken = self.take(HeldTicket::new(self, ticket, request, None), deadline).await?;
        taken.at_end = AtEnd::Stay;
        Ok(())
    }

    async fn take(
        &self,
        mut attempt: HeldTicket,
        deadline: &mut Deadline,
    ) -> Result<HeldTicket, NotAdmitted> {
        let mut waiting: Option<Waiting> = None;
        let mut displaced = None;
        // The window of another opener's clock may end a little later than that of this one.
        let until = Instant::now() + TICKET_WINDOW + POLL;
        loop {
            let holder = match self.ask(&mut attempt, displaced.take(), *deadline).await {
                Ok(TicketAnswer::Taken { is_first }) => {
                    attempt.is_first = is_first;
                    return Ok(attempt);
                }
                Ok(TicketAnswer::Used) => return Err(NotAdmitted::Used),
                Ok(TicketAnswer::Held(holder)) => holder,
                Err(reason) => {
                    // A call may have taken it, and nothing was opened.
                    attempt.at_end = AtEnd::Undo;
                    return Err(reason);
                }
            };
            if !holder.is_stream() || Instant::now() >= until {
                return Err(NotAdmitted::Used);
            }
            let same = waiting.take().filter(|waiting| *waiting.holder() == holder);
            let waiting = waiting.insert(same.unwrap_or_else(|| Waiting::new(holder)));
            let store = self.shared.store().map(|(store, _)| store);
            match waiting.look(store, *deadline).await {
                Verdict::Dead => displaced = Some(waiting.holder().clone()),
                Verdict::Open => return Err(NotAdmitted::Used),
                Verdict::Unknown => {
                    tokio::time::sleep(POLL).await;
                    deadline.restart();
                }
            }
        }
    }

    /// Asks Redis for the ticket, or decides alone.
    async fn ask(
        &self,
        attempt: &mut HeldTicket,
        displaced: Option<TicketHolder>,
        deadline: Deadline,
    ) -> Result<TicketAnswer, NotAdmitted> {
        let digest = attempt.ticket.digest;
        let (known, losses) = {
            let table = self.table.lock();
            (table.known(attempt), table.losses())
        };
        let known = match known {
            Some(Known { answer: answer @ (TicketAnswer::Used | TicketAnswer::Held(_)), .. }) => {
                return Ok(answer);
            }
            known => known,
        };
        if let Some((store, _)) = self.shared.store_until(deadline) {
            let was_uncertain = std::mem::replace(&mut attempt.is_uncertain, true);
            let wanted = WantedTicket {
                digest,
                holder: attempt.holder.clone(),
                age: known.as_ref().map_or(Duration::ZERO, |known| known.first.elapsed()),
                displaced: displaced.or(known.map(|known| known.holder)),
                kept: self.kept(attempt.ticket),
            };
            if let Some(answer) = deadline.keep(store.take_ticket(&wanted)).await {
                if let TicketAnswer::Taken { .. } = answer {
                    let mut table = self.table.lock();
                    let is_unknown = table.losses() != losses;
                    // Without room, the uncertainty makes the attempt release the ticket.
                    table.enter(attempt, was_uncertain, is_unknown).ok_or(FULL)?;
                    if is_unknown {
                        table.queue(digest);
                    }
                }
                attempt.is_uncertain = was_uncertain;
                return Ok(answer);
            }
        }
        self.decide_alone(attempt)
    }

    /// Decides by the openings of this instance.
    fn decide_alone(&self, attempt: &HeldTicket) -> Result<TicketAnswer, NotAdmitted> {
        let has_store = self.shared.deps.store.is_some();
        let mut table = self.table.lock();
        let answer = table.decide(attempt);
        if matches!(answer, TicketAnswer::Taken { .. }) && self.shared.refuses_undecided() {
            return Err(NotAdmitted::Unproven);
        }
        if has_store {
            self.shared.deps.metrics.admission.ticket_local();
        }
        if let TicketAnswer::Taken { .. } = answer {
            table.enter(attempt, attempt.is_uncertain, has_store).ok_or(FULL)?;
            if has_store {
                table.queue(attempt.ticket.digest);
                self.shared.work.notify_one();
            }
        }
        Ok(answer)
    }

    /// Rest of a token's life, with a margin for clocks.
    fn kept(&self, ticket: Ticket) -> Duration {
        let end = ticket.expires_at.plus(TOMBSTONE_MARGIN);
        Duration::from_millis(end.0.saturating_sub(self.shared.deps.clock.now().0))
    }

    /// Notes that Redis may have lost the tickets.
    pub(super) fn lose(&self) {
        self.table.lock().lose();
    }

    /// Forgets expired tickets.
    pub(super) fn sweep(&self) {
        self.table.lock().sweep(self.shared.deps.clock.now());
    }

    /// Number of the next piece of work.
    pub(super) fn next_number(&self) -> u64 {
        self.table.lock().next_number()
    }

    /// Whether all work before this number is done.
    pub(super) fn is_done_before(&self, number: u64) -> bool {
        self.table.lock().is_done_before(number)
    }

    /// Takes up to `most` pieces of work.
    pub(super) fn changes(&self, most: usize) -> Changes {
        let mut table = self.table.lock();
        let mut taken = Changes { works: Vec::new(), changes: Vec::new() };
        while taken.changes.len() < most
            && let Some((number, work)) = table.next_work()
        {
            let change = match &work {
                Work::Settle(digest) => table.change(*digest, |ticket| self.kept(ticket)),
                Work::GiveUp(released) => Some(TicketChange::Release(ReleasedTicket {
                    digest: released.ticket.digest,
                    holder: released.holder.clone(),
                    age: released.began.elapsed(),
                    is_undone: released.is_undone,
                    is_uncertain: true,
                    kept: self.kept(released.ticket),
                })),
            };
            if let Some(change) = change {
                taken.works.push((number, work));
                taken.changes.push(change);
            }
        }
        taken
    }

    /// Notes the answers to changes, and ends streams whose ticket another one holds. `None`
    /// without answers: the changes are repeated.
    pub(super) fn settled(&self, changes: Changes, answers: Option<Vec<Option<TicketAnswer>>>) {
        let Changes { works, changes } = changes;
        let Some(answers) = answers else {
            self.table.lock().put_back(works);
            return;
        };
        let mut lost = Vec::new();
        {
            let mut table = self.table.lock();
            for (((_, work), change), answer) in works.into_iter().zip(changes).zip(answers) {
                if let Work::Settle(digest) = work {
                    lost.extend(table.settled(digest, &change, answer.as_ref()));
                }
            }
        }
        for stream in lost {
            self.shared.deps.metrics.admission.lease_lost();
            (self.shared.deps.end)(stream, EndReason::LeaseLost);
        }
    }

    fn release(&self, held: &HeldTicket) {
        let has_store = self.shared.deps.store.is_some();
        if self.table.lock().release(held, has_store) {
            self.shared.work.notify_one();
        }
    }
}

/// Fate of a ticket when its holder is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    /// It is released.
    Release,
    /// It is as if it had not been taken, because nothing was opened.
    Undo,
    /// It stays taken.
    Stay,
}

/// A ticket of a stream, or the attempt to take it; dropping it releases the ticket.
pub(super) struct HeldTicket {
    tickets: Arc<Tickets>,
    ticket: Ticket,
    holder: TicketHolder,
    stream: Option<StreamId>,
    began: Instant,
    /// Whether it is the first opening of the ticket.
    is_first: bool,
    /// Whether a call that takes the ticket may still be on its way.
    is_uncertain: bool,
    at_end: AtEnd,
}

impl HeldTicket {
    fn new(tickets: &Arc<Tickets>, ticket: Ticket, holder: TicketHolder, stream: Option<StreamId>) -> Self {
        Self {
            tickets: Arc::clone(tickets),
            ticket,
            holder,
            stream,
            began: Instant::now(),
            is_first: false,
            is_uncertain: false,
            at_end: AtEnd::Release,
        }
    }

    /// Releases the ticket as if it had not been taken, because its stream does not open.
    pub(super) fn undo(mut self) {
        if self.is_first {
            self.at_end = AtEnd::Undo;
        }
    }

    fn released(&self) -> Released {
        Released {
            ticket: self.ticket,
            holder: self.holder.clone(),
            began: self.began,
            is_undone: self.at_end == AtEnd::Undo,
        }
    }
}

impl Drop for HeldTicket {
    fn drop(&mut self) {
        if self.at_end != AtEnd::Stay {
            self.tickets.release(self);
        }
    }
}
