//! Tickets: single-use tokens that this instance has opened.
//!
//! Redis decides while it answers. Without its answer, this instance decides by its own openings,
//! and the upkeep tells Redis about them afterwards. If another stream holds the ticket by then,
//! the one of this instance ends.
//!
//! # A ticket that another stream holds
//!
//! Its client may have lost the answer, so that nobody reads that stream. The opener therefore
//! waits, for the first of these:
//!
//! - The stream ends and releases the ticket. The opener takes it.
//! - Its instance is dead. The opener takes the ticket.
//! - Its instance has lived for [`NOTICES`] longer and has released all that it has to. Then the
//!   stream is open, and the opener is refused.
//! - [`TICKET_WINDOW`] after the first opening, the opener is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::admission::Shared;
use crate::clock::UnixMillis;
use crate::events::StreamId;
use crate::limits::TOMBSTONE_MARGIN;
use crate::store::{
    ALIVE, AliveEntry, ReleasedTicket, TICKET_WINDOW, TicketAnswer, TicketChange, TicketHolder, WantedTicket,
};
use crate::token::TokenDigest;

/// Bound of the tickets that an instance knows, 300 bytes each. Beyond it, those that Redis knows
/// make room.
const MOST_TICKETS: usize = 100_000;
/// Bound of attempts that wait for their release. A ticket whose release is dropped is refused for
/// at most [`TICKET_WINDOW`], as if its stream were open.
const MOST_ATTEMPTS: usize = 10_000;
/// Bound of known tickets that are looked at to make room.
const MOST_LOOKS: usize = 64;
/// Interval of looks at a ticket that another stream holds.
const POLL: Duration = Duration::from_millis(100);
/// Time in which an instance notices that a client has left: the proxy closes the connection, and
/// the instance reads that.
const NOTICES: Duration = Duration::from_millis(300);
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

/// Reason why a ticket is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TicketError {
    /// It was used.
    Used,
    /// There is no room to note its use.
    Full { retry_after: Duration },
}

/// A ticket that this instance has opened.
struct Opened {
    first: Instant,
    expires_at: UnixMillis,
    holder: TicketHolder,
    /// The stream; `None` for a request.
    stream: Option<StreamId>,
    /// Whether the holder has not released it. A request never does.
    is_held: bool,
    /// Whether a call for this holder may still be on its way.
    is_uncertain: bool,
    /// Whether Redis may not know of the opening. Then this instance decides.
    is_unknown: bool,
    /// A former holder of this instance that Redis may still know.
    former: Option<TicketHolder>,
    /// Whether it waits for the upkeep.
    is_queued: bool,
}

/// Work for the upkeep.
enum Work {
    /// Redis has to know the state of this ticket.
    Settle(TokenDigest),
    /// An attempt was given up with its outcome unknown.
    GiveUp(Released),
}

#[derive(Clone)]
struct Released {
    ticket: Ticket,
    holder: TicketHolder,
    began: Instant,
    is_undone: bool,
}

#[derive(Default)]
struct Table {
    opened: BTreeMap<TokenDigest, Opened>,
    by_end: BTreeSet<(UnixMillis, TokenDigest)>,
    /// Work in the order of its numbers.
    queue: VecDeque<(u64, Work)>,
    attempts: usize,
    /// Number of the next piece of work.
    next: u64,
    /// Changes when Redis may have lost tickets.
    losses: u64,
}

/// Opening of a ticket that Redis may not know of.
struct Known {
    answer: TicketAnswer,
    first: Instant,
    holder: TicketHolder,
}

/// Tickets of this instance. Bounded by [`MOST_TICKETS`] and [`MOST_ATTEMPTS`].
pub(super) struct Tickets {
    shared: Arc<Shared>,
    table: Mutex<Table>,
}

/// Changes of tickets that Redis is told, and the state that they came from.
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
    ) -> Result<HeldTicket, TicketError> {
        let id = stream.to_string();
        let holder = match &self.shared.deps.store {
            Some(store) => store.holder(&id),
            None => TicketHolder::stream(&id, ""),
        };
        self.take(HeldTicket::new(self, ticket, holder, Some(stream))).await
    }

    /// Takes a ticket for a request, which never releases it.
    pub(super) async fn take_for_request(
        self: &Arc<Self>,
        ticket: Ticket,
        request: TicketHolder,
    ) -> Result<(), TicketError> {
        let mut taken = self.take(HeldTicket::new(self, ticket, request, None)).await?;
        taken.stays = true;
        Ok(())
    }

    async fn take(&self, mut attempt: HeldTicket) -> Result<HeldTicket, TicketError> {
        let mut watched: Option<Watched> = None;
        let mut displaced = None;
        // The window of another opener's clock may end a little later than that of this one.
        let until = Instant::now() + TICKET_WINDOW + POLL;
        loop {
            let holder = match self.ask(&mut attempt, displaced.take()).await? {
                TicketAnswer::Taken { is_first } => {
                    attempt.is_first = is_first;
                    return Ok(attempt);
                }
                TicketAnswer::Used => return Err(TicketError::Used),
                TicketAnswer::Held(holder) => holder,
            };
            if !holder.is_stream() || Instant::now() >= until {
                return Err(TicketError::Used);
            }
            let watching = match watched.take() {
                Some(watching) if watching.holder == holder => watching,
                _ => Watched { holder, began: None, since: Instant::now() },
            };
            let watching = watched.insert(watching);
            match self.look(watching).await {
                Look::Dead => displaced = Some(watching.holder.clone()),
                Look::Open => return Err(TicketError::Used),
                Look::Unknown => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Asks Redis for the ticket, or decides alone.
    async fn ask(
        &self,
        attempt: &mut HeldTicket,
        displaced: Option<TicketHolder>,
    ) -> Result<TicketAnswer, TicketError> {
        let digest = attempt.ticket.digest;
        let (known, losses) = {
            let table = self.table.lock();
            (table.known(attempt), table.losses)
        };
        let known = match known {
            Some(Known { answer: answer @ (TicketAnswer::Used | TicketAnswer::Held(_)), .. }) => {
                return Ok(answer);
            }
            known => known,
        };
        if let Some((store, _)) = self.shared.store() {
            let was_uncertain = std::mem::replace(&mut attempt.is_uncertain, true);
            let wanted = WantedTicket {
                digest,
                holder: attempt.holder.clone(),
                age: known.as_ref().map_or(Duration::ZERO, |known| known.first.elapsed()),
                displaced: displaced.or(known.map(|known| known.holder)),
                kept: self.kept(attempt.ticket),
            };
            if let Ok(answer) = store.take_ticket(&wanted).await {
                if let TicketAnswer::Taken { .. } = answer {
                    let mut table = self.table.lock();
                    let is_unknown = table.losses != losses;
                    // Without room, the uncertainty makes the attempt release the ticket.
                    table.enter(attempt, was_uncertain, is_unknown)?;
                    if is_unknown {
                        table.queue(digest);
                    }
                }
                attempt.is_uncertain = was_uncertain;
                return Ok(answer);
            }
        }
        let has_store = self.shared.deps.store.is_some();
        if has_store {
            self.shared.deps.metrics.admission.ticket_local();
        }
        let mut table = self.table.lock();
        let answer = table.decide(attempt);
        if let TicketAnswer::Taken { .. } = answer {
            table.enter(attempt, attempt.is_uncertain, has_store)?;
            if has_store {
                table.queue(digest);
                self.shared.work.notify_one();
            }
        }
        Ok(answer)
    }

    /// Finds out whether the stream that holds a ticket is open.
    async fn look(&self, watched: &mut Watched) -> Look {
        let Some((store, _)) = self.shared.store() else {
            let has_lived = watched.since.elapsed() >= NOTICES;
            return if has_lived { Look::Open } else { Look::Unknown };
        };
        let Ok(entry) = store.alive_entry(&watched.holder).await else { return Look::Unknown };
        judge(entry, *watched.began.get_or_insert(entry.now))
    }

    /// Rest of a token's life, with a margin for clocks.
    fn kept(&self, ticket: Ticket) -> Duration {
        let end = ticket.expires_at.plus(TOMBSTONE_MARGIN);
        Duration::from_millis(end.0.saturating_sub(self.shared.deps.clock.now().0))
    }

    /// Notes that Redis may have lost the tickets.
    pub(super) fn lose(&self) {
        let mut table = self.table.lock();
        table.losses += 1;
        for opened in table.opened.values_mut() {
            opened.is_unknown = true;
        }
        // Open streams first: another one may open with their ticket.
        let (held, rest): (Vec<_>, Vec<_>) = table.opened.iter().partition(|(_, opened)| opened.is_held);
        let digests: Vec<_> = held.into_iter().chain(rest).map(|(digest, _)| *digest).collect();
        for digest in digests {
            table.queue(digest);
        }
    }

    /// Forgets expired tickets.
    pub(super) fn sweep(&self) {
        let now = self.shared.deps.clock.now();
        let mut table = self.table.lock();
        while let Some((end, digest)) = table.by_end.first().copied()
            && end.plus(TOMBSTONE_MARGIN) <= now
        {
            table.forget(digest);
        }
    }

    /// Number of the next piece of work.
    pub(super) fn next_number(&self) -> u64 {
        self.table.lock().next
    }

    /// Whether all work before this number is done.
    pub(super) fn is_done_before(&self, number: u64) -> bool {
        self.table.lock().queue.front().is_none_or(|(first, _)| *first >= number)
    }

    /// Takes up to `most` pieces of work.
    pub(super) fn changes(&self, most: usize) -> Changes {
        let mut table = self.table.lock();
        let mut taken = Changes { works: Vec::new(), changes: Vec::new() };
        while taken.changes.len() < most
            && let Some((number, work)) = table.queue.pop_front()
        {
            let change = match &work {
                Work::Settle(digest) => table.opened.get_mut(digest).map(|opened| {
                    opened.is_queued = false;
                    let ticket = Ticket { digest: *digest, expires_at: opened.expires_at };
                    opened.change(*digest, self.kept(ticket))
                }),
                Work::GiveUp(released) => {
                    table.attempts -= 1;
                    Some(TicketChange::Release(ReleasedTicket {
                        digest: released.ticket.digest,
                        holder: released.holder.clone(),
                        age: released.began.elapsed(),
                        is_undone: released.is_undone,
                        is_uncertain: true,
                        kept: self.kept(released.ticket),
                    }))
                }
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
                    lost.extend(table.settled(digest, &change, answer));
                }
            }
        }
        for stream in lost {
            self.shared.deps.metrics.admission.lease_lost();
            (self.shared.deps.end)(stream);
        }
    }

    fn release(&self, held: &HeldTicket) {
        let has_store = self.shared.deps.store.is_some();
        if self.table.lock().release(held, has_store) {
            self.shared.work.notify_one();
        }
    }
}

/// What the alive entry of a holder's instance proves to an opener that began to look at `began`.
fn judge(entry: AliveEntry, began: u64) -> Look {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // After a loss of data an instance that is alive has its entry again within that time.
    let last = entry.renewed.unwrap_or(began);
    if entry.now.abs_diff(last) > millis(ALIVE) {
        Look::Dead
    } else if entry.renewed.is_some() && entry.settled > began + millis(NOTICES) {
        Look::Open
    } else {
        Look::Unknown
    }
}

/// A holder that an opener waits for.
struct Watched {
    holder: TicketHolder,
    /// Time of the first look, by the clock of Redis.
    began: Option<u64>,
    since: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Its instance is dead.
    Dead,
    /// It is open.
    Open,
    /// It may be either.
    Unknown,
}

impl Opened {
    /// What Redis has to be told.
    fn change(&self, digest: TokenDigest, kept: Duration) -> TicketChange {
        let (holder, age) = (self.holder.clone(), self.first.elapsed());
        if self.is_held {
            let displaced = self.former.clone();
            TicketChange::Take(WantedTicket { digest, holder, age, displaced, kept })
        } else {
            let is_uncertain = self.is_uncertain;
            TicketChange::Release(ReleasedTicket {
                digest,
                holder,
                age,
                is_undone: false,
                is_uncertain,
                kept,
            })
        }
    }
}

impl Table {
    /// Decides by the openings of this instance.
    fn decide(&self, attempt: &HeldTicket) -> TicketAnswer {
        let Some(opened) = self.opened.get(&attempt.ticket.digest) else {
            return TicketAnswer::Taken { is_first: true };
        };
        let is_over = opened.first.elapsed() >= TICKET_WINDOW;
        let is_own = opened.holder == attempt.holder;
        if is_over && !(is_own && opened.stream.is_some()) {
            TicketAnswer::Used
        } else if opened.is_held && !is_own {
            TicketAnswer::Held(opened.holder.clone())
        } else {
            TicketAnswer::Taken { is_first: false }
        }
    }

    /// What this instance knows about a ticket and Redis may not know.
    fn known(&self, attempt: &HeldTicket) -> Option<Known> {
        let opened = self.opened.get(&attempt.ticket.digest).filter(|opened| opened.is_unknown)?;
        Some(Known { answer: self.decide(attempt), first: opened.first, holder: opened.holder.clone() })
    }

    /// Notes that a ticket is taken.
    fn enter(
        &mut self,
        attempt: &HeldTicket,
        is_uncertain: bool,
        is_unknown: bool,
    ) -> Result<(), TicketError> {
        let HeldTicket { ticket, holder, stream, .. } = attempt;
        if let Some(opened) = self.opened.get_mut(&ticket.digest) {
            if opened.holder != *holder {
                let former = std::mem::replace(&mut opened.holder, holder.clone());
                opened.former = is_unknown.then_some(former);
            }
            (opened.stream, opened.is_held, opened.is_uncertain) = (*stream, true, is_uncertain);
            opened.is_unknown = is_unknown;
            return Ok(());
        }
        if self.opened.len() >= MOST_TICKETS && !self.make_room() {
            return Err(TicketError::Full { retry_after: RETRY_AFTER });
        }
        self.by_end.insert((ticket.expires_at, ticket.digest));
        let opened = Opened {
            first: Instant::now(),
            expires_at: ticket.expires_at,
            holder: holder.clone(),
            stream: *stream,
            is_held: true,
            is_uncertain,
            is_unknown,
            former: None,
            is_queued: false,
        };
        self.opened.insert(ticket.digest, opened);
        Ok(())
    }

    /// Forgets a ticket that Redis knows, among those that expire next.
    fn make_room(&mut self) -> bool {
        let is_spare = |digest: &TokenDigest| {
            self.opened
                .get(digest)
                .is_none_or(|it| !it.is_unknown && !it.is_queued && !(it.is_held && it.stream.is_some()))
        };
        let mut next = self.by_end.iter().take(MOST_LOOKS).map(|(_, digest)| *digest);
        let spare = next.find(is_spare);
        spare.is_some_and(|digest| {
            self.forget(digest);
            true
        })
    }

    fn forget(&mut self, digest: TokenDigest) {
        if let Some(opened) = self.opened.remove(&digest) {
            self.by_end.remove(&(opened.expires_at, digest));
        }
    }

    /// Queues a ticket for the upkeep.
    fn queue(&mut self, digest: TokenDigest) {
        if let Some(opened) = self.opened.get_mut(&digest)
            && !std::mem::replace(&mut opened.is_queued, true)
        {
            self.push(Work::Settle(digest));
        }
    }

    fn push(&mut self, work: Work) {
        self.queue.push_back((self.next, work));
        self.next += 1;
    }

    fn put_back(&mut self, works: Vec<(u64, Work)>) {
        for (number, work) in works.into_iter().rev() {
            match &work {
                Work::Settle(digest) => {
                    if let Some(opened) = self.opened.get_mut(digest)
                        && !std::mem::replace(&mut opened.is_queued, true)
                    {
                        self.queue.push_front((number, work));
                    }
                }
                Work::GiveUp(_) => {
                    self.attempts += 1;
                    self.queue.push_front((number, work));
                }
            }
        }
    }

    /// Notes the answer to a change of a ticket. Returns the stream that has lost it.
    fn settled(
        &mut self,
        digest: TokenDigest,
        change: &TicketChange,
        answer: Option<TicketAnswer>,
    ) -> Option<StreamId> {
        let opened = self.opened.get_mut(&digest)?;
        let (holder, was_held) = match change {
            TicketChange::Take(wanted) => (&wanted.holder, true),
            TicketChange::Release(released) => (&released.holder, false),
        };
        if *holder != opened.holder || was_held != opened.is_held {
            // It has changed meanwhile.
            self.queue(digest);
            return None;
        }
        opened.is_unknown = false;
        opened.former = None;
        let is_lost = matches!(answer, Some(TicketAnswer::Used | TicketAnswer::Held(_)));
        if is_lost && opened.stream.is_some() {
            opened.is_held = false;
            return opened.stream;
        }
        None
    }

    /// Releases what a holder or an attempt has. Returns whether Redis has to be told.
    fn release(&mut self, held: &HeldTicket, has_store: bool) -> bool {
        let digest = held.ticket.digest;
        if let Some(opened) = self.opened.get_mut(&digest)
            && opened.holder == held.holder
        {
            opened.is_held = false;
            opened.is_uncertain |= held.is_uncertain;
            if !has_store {
                if held.is_undone {
                    self.forget(digest);
                }
                return false;
            }
            if !held.is_undone {
                self.queue(digest);
                return true;
            }
            self.forget(digest);
        } else if !held.is_uncertain {
            return false;
        }
        if self.attempts >= MOST_ATTEMPTS {
            return false;
        }
        self.attempts += 1;
        let (ticket, holder) = (held.ticket, held.holder.clone());
        self.push(Work::GiveUp(Released { ticket, holder, began: held.began, is_undone: held.is_undone }));
        true
    }
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
    /// Whether nothing was opened.
    is_undone: bool,
    /// Whether the ticket stays taken.
    stays: bool,
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
            is_undone: false,
            stays: false,
        }
    }

    /// Releases the ticket as if it had not been taken, because its stream does not open.
    pub(super) fn undo(mut self) {
        self.is_undone = self.is_first;
    }
}

impl Drop for HeldTicket {
    fn drop(&mut self) {
        if !self.stays {
            self.tickets.release(self);
        }
    }
}
