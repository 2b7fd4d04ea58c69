//! Tickets: one stream each, and again for a client that lost its answer.

use std::collections::HashMap;
use std::time::Duration;

use super::occupancy::{Apart, Span, are_apart, span_of, too_many};
use super::{Control, Findings};
use crate::history::{History, Moment, TicketAttempt, TicketOutcome};

/// Time after its first opening in which a ticket may be opened again.
const AGAIN: Duration = Duration::from_secs(5);
/// An attempt is judged so long before and after that.
const MARGIN: Duration = Duration::from_millis(500);
/// Time after which an instance has noticed that a client left.
const NOTICED: Duration = Duration::from_millis(500);
/// An end and an opening that are so close may be logged in either order.
const CLOSE: Duration = Duration::from_millis(20);

/// Results of all tickets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tickets {
    /// Number of tickets that a client tried to open.
    pub(crate) count: usize,
    /// Number of attempts.
    pub(crate) attempts: usize,
    /// Number of refusals.
    pub(crate) refused: usize,
    /// Number of attempts whose client had lost its answer or its stream, and that got a stream.
    pub(crate) resumed: usize,
    /// Number of attempts after the time in which a ticket may be opened again.
    pub(crate) belated: usize,
    /// Tickets with two streams at once.
    pub(super) doubled: Findings,
    /// Refusals of an attempt that is within the rule.
    pub(super) wrong: Findings,
    /// Streams that were opened too late.
    pub(super) late: Findings,
    /// Violation as text: nothing was shown.
    pub(super) void: Option<String>,
}

/// Judges the streams in the logs of the instances, and what clients were answered.
pub(super) fn judge(history: &History, control: Control) -> Tickets {
    let needed = match control {
        Control::Tickets(needed) => usize::from(needed),
        _ => 0,
    };
    let mut found = Tickets { attempts: history.tickets.len(), ..Tickets::default() };
    let apart = Apart::of(history);
    let mut attempts: HashMap<u64, Vec<&TicketAttempt>> = HashMap::new();
    for attempt in &history.tickets {
        attempts.entry(attempt.ticket).or_default().push(attempt);
    }
    found.count = attempts.len();
    let mut logged: HashMap<u64, Vec<Span>> = HashMap::new();
    for stream in history.logged_streams.iter().filter(|it| attempts.contains_key(&it.token)) {
        let span = span_of(history, stream);
        let until = span.until.saturating_sub(CLOSE).max(span.from);
        logged.entry(stream.token).or_default().push(Span { until, ..span });
    }
    for (ticket, spans) in &logged {
        if let Some((at, open)) = too_many(spans, 1, &apart) {
            found.doubled.note(|| format!("ticket {ticket} at {at:?} with {open} streams"));
        }
    }
    for (ticket, attempts) in &attempts {
        one_ticket(*ticket, attempts, &apart, &mut found);
    }
    let is_void = found.count < needed || (needed > 0 && (found.refused == 0 || found.resumed == 0));
    found.void = is_void.then(|| {
        let Tickets { count, refused, resumed, .. } = &found;
        format!("{count} of at least {needed}, {refused} refused, {resumed} opened again after a loss")
    });
    found
}

fn one_ticket(ticket: u64, attempts: &[&TicketAttempt], apart: &[Apart], found: &mut Tickets) {
    let first_sent = attempts.iter().map(|it| it.sent).min().unwrap_or_default();
    let opened = attempts.iter().filter(|it| matches!(it.outcome, TicketOutcome::Opened(_)));
    let first_opened = opened.map(|it| it.answered).min();
    for attempt in attempts {
        let TicketAttempt { client, sent, answered, .. } = attempt;
        let lost_before = attempts.iter().any(|it| it.client == *client && is_lost(it) && it.sent < *sent);
        let is_late = first_opened.is_some_and(|first| *sent > first + AGAIN + MARGIN);
        match attempt.outcome {
            TicketOutcome::Opened(_) => {
                found.resumed += usize::from(lost_before);
                found.belated += usize::from(is_late);
                // Redis may have lost the ticket, and instances without Redis know only their own.
                if is_late && !are_apart(apart, first_sent, *answered) {
                    found.late.note(|| format!("ticket {ticket} by client {client} at {sent:?}"));
                }
            }
            TicketOutcome::Refused => {
                found.refused += 1;
                found.belated += usize::from(is_late);
                let is_within = *answered + MARGIN <= first_sent + AGAIN;
                if is_within && !is_another_s(attempts, attempt) {
                    found.wrong.note(|| {
                        let after = sent.saturating_sub(first_sent);
                        format!("ticket {ticket} by client {client} at {sent:?}, {after:?} after the first")
                    });
                }
            }
            TicketOutcome::Lost(_) => {}
        }
    }
}

/// Whether a client lost its answer, or its stream without closing it.
fn is_lost(attempt: &TicketAttempt) -> bool {
    match &attempt.outcome {
        TicketOutcome::Opened(end) => end.reason.is_some(),
        TicketOutcome::Refused => false,
        TicketOutcome::Lost(_) => true,
    }
}

/// Whether another client had a stream of the ticket, or may have had one, when this attempt was
/// refused.
fn is_another_s(attempts: &[&TicketAttempt], refused: &TicketAttempt) -> bool {
    attempts.iter().filter(|it| it.client != refused.client).any(|it| {
        let until: Moment = match &it.outcome {
            TicketOutcome::Opened(end) => end.at,
            TicketOutcome::Refused => return false,
            TicketOutcome::Lost(_) => it.answered,
        };
        it.sent <= refused.answered && refused.sent <= until + NOTICED
    })
}
