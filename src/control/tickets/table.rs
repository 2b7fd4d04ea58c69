//! The tickets that an instance knows, and the work that they leave for the upkeep.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::{AtEnd, HeldTicket, Ticket};
use crate::clock::UnixMillis;
use crate::events::StreamId;
use crate::limits::TOMBSTONE_MARGIN;
use crate::store::{ReleasedTicket, TICKET_WINDOW, TicketAnswer, TicketChange, TicketHolder, WantedTicket};
use crate::token::TokenDigest;

/// Bound of the tickets that an instance knows, about 300 bytes each. Beyond it, those that Redis
/// knows make room.
const MOST_TICKETS: usize = 100_000;
/// Bound of attempts that wait for their release, about 200 bytes each. A ticket whose release is
/// dropped is refused for at most [`TICKET_WINDOW`], as if its stream were open.
const MOST_ATTEMPTS: usize = 10_000;
/// Bound of known tickets that are looked at to make room.
const MOST_LOOKS: usize = 64;

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
    /// Whether Redis may not know of the opening.
    is_unknown: bool,
    /// A former holder of this instance that Redis may still know.
    former: Option<TicketHolder>,
}

/// Work for the upkeep.
pub(super) enum Work {
    /// Redis has to know the state of this ticket.
    Settle(TokenDigest),
    /// An attempt was given up with its outcome unknown, or undone.
    GiveUp(Released),
}

/// A holder that has released its ticket.
pub(super) struct Released {
    pub(super) ticket: Ticket,
    pub(super) holder: TicketHolder,
    pub(super) began: Instant,
    pub(super) is_undone: bool,
}

/// Opening of a ticket that Redis may not know of.
pub(super) struct Known {
    /// Decision by this opening.
    pub(super) answer: TicketAnswer,
    pub(super) first: Instant,
    pub(super) holder: TicketHolder,
}

/// The tickets of an instance.
pub(super) struct Table {
    /// Bounds of tickets and of attempts.
    most: (usize, usize),
    opened: BTreeMap<TokenDigest, Opened>,
    by_end: BTreeSet<(UnixMillis, TokenDigest)>,
    /// Work in the order of its numbers.
    works: VecDeque<(u64, Work)>,
    /// Tickets among the work.
    queued: BTreeSet<TokenDigest>,
    /// Number of attempts among the work.
    attempts: usize,
    next: u64,
    /// Number of times at which Redis may have lost tickets.
    losses: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self::bounded(MOST_TICKETS, MOST_ATTEMPTS)
    }
}

impl Table {
    fn bounded(tickets: usize, attempts: usize) -> Self {
        Self {
            most: (tickets, attempts),
            opened: BTreeMap::new(),
            by_end: BTreeSet::new(),
            works: VecDeque::new(),
            queued: BTreeSet::new(),
            attempts: 0,
            next: 0,
            losses: 0,
        }
    }

    /// Decides by the openings of this instance.
    pub(super) fn decide(&self, attempt: &HeldTicket) -> TicketAnswer {
        let Some(opened) = self.opened.get(&attempt.ticket.digest) else {
            return TicketAnswer::Taken { is_first: true };
        };
        let is_over = opened.first.elapsed() >= TICKET_WINDOW;
        if opened.holder == attempt.holder {
            let may_stay = opened.stream.is_some() || !is_over;
            return if may_stay { TicketAnswer::Taken { is_first: false } } else { TicketAnswer::Used };
        }
        if is_over {
            TicketAnswer::Used
        } else if opened.is_held {
            TicketAnswer::Held(opened.holder.clone())
        } else {
            TicketAnswer::Taken { is_first: false }
        }
    }

    /// Knowledge of this instance about a ticket that Redis may lack.
    pub(super) fn known(&self, attempt: &HeldTicket) -> Option<Known> {
        let opened = self.opened.get(&attempt.ticket.digest).filter(|opened| opened.is_unknown)?;
        Some(Known { answer: self.decide(attempt), first: opened.first, holder: opened.holder.clone() })
    }

    /// Notes that a ticket is taken; `None` without room.
    pub(super) fn enter(&mut self, attempt: &HeldTicket, is_uncertain: bool, is_unknown: bool) -> Option<()> {
        let HeldTicket { ticket, holder, stream, .. } = attempt;
        if let Some(opened) = self.opened.get_mut(&ticket.digest) {
            if opened.holder != *holder {
                let former = std::mem::replace(&mut opened.holder, holder.clone());
                opened.former = is_unknown.then_some(former);
            }
            (opened.stream, opened.is_held) = (*stream, true);
            (opened.is_uncertain, opened.is_unknown) = (is_uncertain, is_unknown);
            return Some(());
        }
        if self.opened.len() >= self.most.0 {
            self.make_room()?;
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
        };
        self.opened.insert(ticket.digest, opened);
        Some(())
    }

    /// Forgets a ticket that Redis knows, among those that expire next.
    fn make_room(&mut self) -> Option<()> {
        let is_spare = |digest: &TokenDigest| {
            let is_needed = |it: &Opened| it.is_unknown || (it.is_held && it.stream.is_some());
            !self.queued.contains(digest) && !self.opened.get(digest).is_some_and(is_needed)
        };
        let mut next = self.by_end.iter().take(MOST_LOOKS).map(|(_, digest)| *digest);
        let spare = next.find(is_spare)?;
        self.forget(spare);
        Some(())
    }

    fn forget(&mut self, digest: TokenDigest) {
        if let Some(opened) = self.opened.remove(&digest) {
            self.by_end.remove(&(opened.expires_at, digest));
        }
    }

    /// Forgets tickets whose tokens no instance accepts any more.
    pub(super) fn sweep(&mut self, now: UnixMillis) {
        while let Some((end, digest)) = self.by_end.first().copied()
            && end.plus(TOMBSTONE_MARGIN) <= now
        {
            self.forget(digest);
        }
    }

    /// Number of times at which Redis may have lost tickets.
    pub(super) const fn losses(&self) -> u64 {
        self.losses
    }

    /// Notes that Redis may have lost the tickets.
    pub(super) fn lose(&mut self) {
        self.losses += 1;
        for opened in self.opened.values_mut() {
            opened.is_unknown = true;
        }
        // Open streams first: another one may open with their ticket.
        let (held, rest): (Vec<_>, Vec<_>) = self.opened.iter().partition(|(_, opened)| opened.is_held);
        let digests: Vec<_> = held.into_iter().chain(rest).map(|(digest, _)| *digest).collect();
        for digest in digests {
            self.queue(digest);
        }
    }

    /// Queues a ticket for the upkeep.
    pub(super) fn queue(&mut self, digest: TokenDigest) {
        if self.queued.insert(digest) {
            self.push(Work::Settle(digest));
        }
    }

    fn push(&mut self, work: Work) {
        self.works.push_back((self.next, work));
        self.next += 1;
    }

    /// Number of the next piece of work.
    pub(super) const fn next_number(&self) -> u64 {
        self.next
    }

    /// Whether all work before this number is done.
    pub(super) fn is_done_before(&self, number: u64) -> bool {
        self.works.front().is_none_or(|(first, _)| *first >= number)
    }

    /// Takes the next piece of work.
    pub(super) fn next_work(&mut self) -> Option<(u64, Work)> {
        let (number, work) = self.works.pop_front()?;
        match &work {
            Work::Settle(digest) => drop(self.queued.remove(digest)),
            Work::GiveUp(_) => self.attempts -= 1,
        }
        Some((number, work))
    }

    /// Puts work back that was not done.
    pub(super) fn put_back(&mut self, works: Vec<(u64, Work)>) {
        for (number, work) in works.into_iter().rev() {
            match &work {
                // If it was queued again meanwhile, its later number would count as done before.
                Work::Settle(digest) => drop(self.queued.insert(*digest)),
                Work::GiveUp(_) => self.attempts += 1,
            }
            self.works.push_front((number, work));
        }
    }

    /// The change that brings the state of a ticket to Redis; `None` if it is forgotten. `kept` is
    /// the rest of its life.
    pub(super) fn change(
        &self,
        digest: TokenDigest,
        kept: impl Fn(Ticket) -> Duration,
    ) -> Option<TicketChange> {
        let opened = self.opened.get(&digest)?;
        let (holder, age) = (opened.holder.clone(), opened.first.elapsed());
        let kept = kept(Ticket { digest, expires_at: opened.expires_at });
        Some(if opened.is_held {
            let displaced = opened.former.clone();
            TicketChange::Take(WantedTicket { digest, holder, age, displaced, kept })
        } else {
            let is_uncertain = opened.is_uncertain;
            TicketChange::Release(ReleasedTicket {
                digest,
                holder,
                age,
                is_undone: false,
                is_uncertain,
                kept,
            })
        })
    }

    /// Notes the answer to a change of a ticket. Returns the stream that has lost it.
    pub(super) fn settled(
        &mut self,
        digest: TokenDigest,
        change: &TicketChange,
        answer: Option<&TicketAnswer>,
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
        (opened.is_unknown, opened.former) = (false, None);
        let is_lost = matches!(answer, Some(TicketAnswer::Used | TicketAnswer::Held(_)));
        if is_lost && opened.stream.is_some() {
            opened.is_held = false;
            return opened.stream;
        }
        None
    }

    /// Releases the ticket of a holder or of an attempt. Returns whether Redis has to know.
    pub(super) fn release(&mut self, held: &HeldTicket, has_store: bool) -> bool {
        let digest = held.ticket.digest;
        let is_undone = held.at_end == AtEnd::Undo;
        let opened = self.opened.get_mut(&digest).filter(|opened| opened.holder == held.holder);
        match opened {
            Some(opened) => {
                opened.is_held = false;
                opened.is_uncertain |= held.is_uncertain;
                if is_undone {
                    self.forget(digest);
                }
                if !has_store {
                    return false;
                }
                if !is_undone {
                    self.queue(digest);
                    return true;
                }
            }
            None if !held.is_uncertain => return false,
            None => {}
        }
        if self.attempts >= self.most.1 {
            return false;
        }
        self.attempts += 1;
        self.push(Work::GiveUp(held.released()));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Tickets;
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::control::admission::{AdmissionDeps, Presence, Shared};
    use crate::metrics::Metrics;
    use crate::store::WhenLost;
    use crate::token::Token;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
    const ABSENT: TicketAnswer = TicketAnswer::Taken { is_first: true };
    const AGAIN: TicketAnswer = TicketAnswer::Taken { is_first: false };

    /// Attempts of an instance.
    struct Attempts(Arc<Tickets>);

    fn attempts() -> Attempts {
        let deps = AdmissionDeps {
            store: None,
            limit: None,
            when_lost: WhenLost::Accept,
            max_age: Duration::from_mins(15),
            end: Box::new(|_, _| {}),
            clock: Arc::new(ManualClock::at(NOW)) as Arc<dyn Clock>,
            metrics: Arc::new(Metrics::new().unwrap()),
        };
        let shared = Shared { deps, presence: Presence::default(), work: tokio::sync::Notify::new() };
        Attempts(Arc::new(Tickets::new(Arc::new(shared))))
    }

    fn ticket(number: u64) -> Ticket {
        let token = Token::parse(&format!("{number:08x}-0000-8000-8000-000000000000")).unwrap();
        Ticket { digest: token.digest(), expires_at: NOW.plus(Duration::from_secs(60 + number)) }
    }

    impl Attempts {
        /// The attempt of a stream.
        fn stream(&self, of: u64, stream: u64) -> HeldTicket {
            let stream = StreamId::new(stream);
            let holder = TicketHolder::stream(&stream.to_string(), "1 a");
            HeldTicket::new(&self.0, ticket(of), holder, Some(stream))
        }

        fn request(&self, of: u64, id: &str) -> HeldTicket {
            HeldTicket::new(&self.0, ticket(of), TicketHolder::request(id), None)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_held_by_its_stream_then_opens_again_for_five_seconds_and_then_never() {
        let (attempts, mut table) = (attempts(), Table::default());
        let (first, second) = (attempts.stream(1, 1), attempts.stream(1, 2));
        assert_eq!(table.decide(&first), ABSENT);
        table.enter(&first, false, true).unwrap();
        assert_eq!(table.decide(&first), AGAIN, "the same stream");
        assert_eq!(table.decide(&second), TicketAnswer::Held(first.holder.clone()));
        assert_eq!(table.decide(&attempts.stream(2, 2)), ABSENT, "another ticket");
        table.release(&first, true);
        assert_eq!(table.decide(&second), AGAIN);
        tokio::time::advance(TICKET_WINDOW.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert_eq!(table.decide(&second), AGAIN);
        table.enter(&second, false, true).unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(table.decide(&first), TicketAnswer::Used);
        assert_eq!(table.decide(&second), AGAIN, "its stream stays open");
        table.release(&second, true);
        assert_eq!(table.decide(&attempts.stream(1, 3)), TicketAnswer::Used);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_holds_its_ticket_and_may_be_repeated_for_five_seconds() {
        let (attempts, mut table) = (attempts(), Table::default());
        let request = attempts.request(1, "a");
        table.enter(&request, false, true).unwrap();
        assert_eq!(table.decide(&attempts.request(1, "a")), AGAIN);
        let held = TicketAnswer::Held(request.holder.clone());
        assert_eq!(table.decide(&attempts.request(1, "b")), held);
        tokio::time::advance(TICKET_WINDOW).await;
        assert_eq!(table.decide(&attempts.request(1, "a")), TicketAnswer::Used);
    }

    #[test]
    fn tickets_that_redis_knows_make_room_and_no_others() {
        let (attempts, mut table) = (attempts(), Table::bounded(3, 10));
        let [closed, open, unknown, next] = [1, 2, 3, 4].map(|number| attempts.stream(number, number));
        for held in [&closed, &open] {
            table.enter(held, false, false).unwrap();
        }
        table.enter(&unknown, false, true).unwrap();
        for held in [&closed, &unknown] {
            table.release(held, true);
        }
        assert_eq!(table.enter(&next, false, false), None, "Redis does not know of the release");
        while table.next_work().is_some() {}
        table.enter(&next, false, false).unwrap();
        assert_eq!(table.decide(&attempts.stream(1, 9)), ABSENT, "it was forgotten");
        assert_eq!(table.enter(&attempts.stream(5, 5), false, false), None);
        assert_eq!(table.opened.len(), table.by_end.len());
    }

    #[test]
    fn tickets_are_forgotten_when_no_instance_accepts_their_tokens() {
        let (attempts, mut table) = (attempts(), Table::default());
        for number in [1, 2] {
            table.enter(&attempts.stream(number, number), false, false).unwrap();
        }
        let end = ticket(1).expires_at.plus(TOMBSTONE_MARGIN);
        table.sweep(end.minus(Duration::from_millis(1)));
        assert_eq!(table.opened.len(), 2);
        table.sweep(end);
        assert_eq!((table.opened.len(), table.by_end.len()), (1, 1));
    }

    #[test]
    fn attempts_to_be_given_up_are_bounded() {
        let (attempts, mut table) = (attempts(), Table::bounded(10, 2));
        let given_up = (1..=3).map(|number| {
            let mut attempt = attempts.stream(number, number);
            attempt.is_uncertain = true;
            table.release(&attempt, true)
        });
        assert_eq!(given_up.collect::<Vec<_>>(), [true, true, false]);
        assert!(table.next_work().is_some());
        assert_eq!((table.works.len(), table.attempts), (1, 1));
        assert!(!table.release(&attempts.stream(9, 9), true), "it has asked nobody");
    }

    #[test]
    fn work_is_done_before_a_number_when_nothing_older_is_left_or_was_put_back() {
        let (attempts, mut table) = (attempts(), Table::default());
        let (one, two) = (attempts.stream(1, 1), attempts.stream(2, 2));
        for held in [&one, &two] {
            table.enter(held, false, true).unwrap();
        }
        table.queue(one.ticket.digest);
        let number = table.next_number();
        table.queue(two.ticket.digest);
        table.queue(two.ticket.digest);
        assert!(!table.is_done_before(number));
        let first = table.next_work().unwrap();
        assert!(table.is_done_before(number));
        table.put_back(vec![first]);
        assert!(!table.is_done_before(number));
        assert!(table.next_work().is_some() && table.next_work().is_some() && table.next_work().is_none());
    }

    #[test]
    fn a_stream_whose_ticket_another_one_holds_has_lost_it() {
        let (attempts, mut table) = (attempts(), Table::default());
        let held = attempts.stream(1, 1);
        let digest = held.ticket.digest;
        table.enter(&held, false, true).unwrap();
        let change = table.change(digest, |_| Duration::ZERO).unwrap();
        let other = TicketAnswer::Held(TicketHolder::request("a"));
        assert_eq!(table.settled(digest, &change, Some(&AGAIN)), None);
        assert!(table.known(&held).is_none(), "Redis knows it");
        assert_eq!(table.settled(digest, &change, Some(&other)), held.stream);
        // The stream is about to end, and is not ended twice.
        let change = table.change(digest, |_| Duration::ZERO).unwrap();
        assert!(matches!(change, TicketChange::Release(_)));
        assert_eq!(table.settled(digest, &change, None), None);
    }

    #[test]
    fn a_ticket_that_changed_meanwhile_is_settled_again() {
        let (attempts, mut table) = (attempts(), Table::default());
        let held = attempts.stream(1, 1);
        let digest = held.ticket.digest;
        table.enter(&held, false, true).unwrap();
        let change = table.change(digest, |_| Duration::ZERO).unwrap();
        table.release(&held, true);
        while table.next_work().is_some() {}
        assert_eq!(table.settled(digest, &change, Some(&ABSENT)), None);
        assert!(matches!(table.next_work(), Some((_, Work::Settle(_)))));
    }
}
