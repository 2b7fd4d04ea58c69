//! Tickets that are used through `authorise`: by one request, and by its repetitions within 5 s.

use std::collections::HashMap;

use super::occupancy::{Apart, are_apart, is_forgotten};
use super::tickets::{AGAIN, CLOSE, STARVED};
use super::{Findings, Starvation};
use crate::history::{Endpoint, History, Moment, Outcome, TicketUse};

/// Results of all tickets that are used through `authorise`.
#[derive(Debug, Clone, Default)]
pub(crate) struct TicketUses {
    /// Number of tickets.
    pub(crate) count: usize,
    /// Number of accepted requests that came before with the same id.
    pub(crate) repeated: usize,
    /// Number of refusals.
    pub(crate) refused: usize,
    /// Tickets that two requests used.
    pub(super) doubled: Findings,
    /// The same of instances that were starved: without an answer of Redis in time they decide
    /// alone.
    pub(super) doubled_by_starved: Findings,
    /// Repetitions that were accepted too late.
    pub(super) late: Findings,
    /// Refusals without a reason.
    pub(super) wrong: Findings,
    /// Violation as text: nothing was shown.
    pub(super) void: Option<String>,
}

/// Judges the answers to the requests. `needed` tickets have to be judged at least.
pub(super) fn judge(history: &History, needed: usize) -> TicketUses {
    let mut tickets: HashMap<u64, Vec<&TicketUse>> = HashMap::new();
    for used in &history.ticket_uses {
        tickets.entry(used.ticket).or_default().push(used);
    }
    let (apart, starvation) = (Apart::of(history), Starvation::of(history));
    let mut found = TicketUses { count: tickets.len(), ..TicketUses::default() };
    for uses in tickets.values() {
        Ticket { uses, history, apart: &apart, starvation: &starvation }.judge(&mut found);
    }
    let TicketUses { count, repeated, refused, .. } = found;
    let is_void = needed > 0 && (count < needed || repeated == 0 || refused == 0);
    found.void = is_void.then(|| {
        format!("{count} of at least {needed} by authorise, {repeated} repeated, {refused} refused")
    });
    found
}

/// The requests for a ticket.
struct Ticket<'a> {
    uses: &'a [&'a TicketUse],
    history: &'a History,
    apart: &'a [Apart<'a>],
    starvation: &'a Starvation,
}

impl Ticket<'_> {
    fn judge(&self, found: &mut TicketUses) {
        let passed = || self.uses.iter().filter(|it| it.outcome == Outcome::Yes);
        let first_passed = passed().min_by_key(|it| it.answered);
        for used in self.uses {
            let TicketUse { ticket, request, endpoint, sent, .. } = used;
            let words = || format!("ticket {ticket} by request {request} on {endpoint} at {sent:?}");
            match used.outcome {
                Outcome::Yes => {
                    let Some(first) = first_passed else { continue };
                    let is_repetition = passed().any(|it| it.request == *request && it.answered <= *sent);
                    found.repeated += usize::from(is_repetition);
                    if passed().any(|other| self.excludes(other, used)) {
                        let from = first.sent.saturating_sub(STARVED);
                        let was_starved = !self.starvation.within(from, used.answered).is_zero();
                        let list =
                            if was_starved { &mut found.doubled_by_starved } else { &mut found.doubled };
                        list.note(words);
                    }
                    if *sent > first.answered + AGAIN && !self.may_be_unknown(used) {
                        found.late.note(words);
                    }
                }
                Outcome::No => {
                    found.refused += 1;
                    if !self.may_be_refused(used) {
                        found.wrong.note(words);
                    }
                }
                Outcome::Unanswered(_) => {}
            }
        }
    }

    /// Whether this request may have found the ticket used: by another request, or too long ago.
    fn may_be_refused(&self, refused: &TicketUse) -> bool {
        let may_have_taken = |it: &&&TicketUse| {
            it.outcome != Outcome::No && it.sent <= refused.answered && !std::ptr::eq(**it, refused)
        };
        let taken: Vec<_> = self.uses.iter().filter(may_have_taken).collect();
        let Some(first_sent) = taken.iter().map(|it| it.sent).min() else { return false };
        if refused.answered + CLOSE > first_sent + AGAIN {
            return true;
        }
        // A request that was accepted is accepted again, unless instances disagree.
        let is_own = self.uses.iter().any(|it| {
            it.request == refused.request && it.outcome == Outcome::Yes && it.answered <= refused.sent
        });
        let is_others = taken.iter().any(|it| it.request != refused.request);
        is_others && (!is_own || are_apart(self.apart, Moment::ZERO, refused.answered))
    }

    fn is_apart(&self, used: &TicketUse) -> bool {
        are_apart(self.apart, used.sent, used.answered)
    }

    /// Whether a request must not be accepted because of another one that was.
    fn excludes(&self, other: &TicketUse, used: &TicketUse) -> bool {
        other.request != used.request
            && other.answered <= used.answered
            && !self.is_apart(other)
            && !self.is_apart(used)
            && !is_forgotten(self.history, known_by(other).into_iter(), used.sent)
    }

    /// Whether the instance may not know that a ticket was used too long ago: without Redis it
    /// knows only its own uses, and those that know of them may be dead.
    fn may_be_unknown(&self, used: &TicketUse) -> bool {
        let is_over = |it: &&&TicketUse| it.outcome == Outcome::Yes && it.answered + AGAIN <= used.sent;
        let known_by = self.uses.iter().filter(is_over).filter_map(|it| known_by(it));
        self.is_apart(used) || is_forgotten(self.history, known_by, used.sent)
    }
}

/// The instance that knows of an accepted request, and since when.
fn known_by(used: &TicketUse) -> Option<(usize, Moment)> {
    match used.endpoint {
        Endpoint::Instance(instance) => Some((instance, used.answered)),
        Endpoint::Balancer => None,
    }
}
