//! Tickets that open streams: one stream at a time, within 5 s of the first opening, and no refusal
//! in that time unless another client has the stream.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::occupancy::{Apart, Span, are_apart, is_forgotten, span_of, too_many};
use super::{Control, Findings, Starvation};
use crate::history::{History, LoggedStream, Moment, TicketAttempt, TicketOutcome};

/// Time after its first opening in which a ticket may be opened again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// Log lines of the service and clocks of the checker differ by less.
pub(super) const CLOSE: Duration = Duration::from_millis(20);
/// Time from the decision of an instance to its log line.
const LOGGED: Duration = Duration::from_millis(500);
/// An instance that refuses knows that the other stream was open at most this long before.
const KNOWN: Duration = Duration::from_secs(1);
/// Starvation this long before a decision may have delayed the answer of Redis.
pub(super) const STARVED: Duration = Duration::from_millis(500);
/// Clients of a ticket, and the time within which they send their first requests.
const AT_ONCE: usize = 3;
const WITHIN: Duration = Duration::from_secs(2);

/// Results of all tickets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tickets {
    /// Number of tickets that clients tried to open.
    pub(crate) count: usize,
    /// Number of these that three clients opened at once.
    pub(crate) raced_for: usize,
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
    /// The same of instances that were starved: without an answer of Redis in time they decide
    /// alone, and one of the two streams ends soon.
    pub(super) doubled_by_starved: Findings,
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
    let (apart, starvation) = (Apart::of(history), Starvation::of(history));
    let mut attempts: HashMap<u64, Vec<&TicketAttempt>> = HashMap::new();
    for attempt in &history.tickets {
        attempts.entry(attempt.ticket).or_default().push(attempt);
    }
    let mut logged: HashMap<u64, Vec<&LoggedStream>> = HashMap::new();
    for stream in &history.logged_streams {
        logged.entry(stream.token).or_default().push(stream);
    }
    found.count = attempts.len();
    for (number, attempts) in attempts {
        let streams = logged.get(&number).map(Vec::as_slice).unwrap_or_default();
        found.raced_for += usize::from(is_raced_for(&attempts));
        Ticket { number, attempts, streams, history, apart: &apart, starvation: &starvation }
            .judge(&mut found);
    }
    let is_void = found.raced_for < needed || (needed > 0 && (found.refused == 0 || found.resumed == 0));
    found.void = is_void.then(|| {
        let Tickets { raced_for, refused, resumed, .. } = &found;
        format!("{raced_for} of at least {needed}, {refused} refused, {resumed} opened again after a loss")
    });
    found
}

fn is_raced_for(attempts: &[&TicketAttempt]) -> bool {
    let first = first_sent(attempts);
    let at_once = attempts.iter().filter(|it| it.sent <= first + WITHIN);
    at_once.map(|it| it.client).collect::<BTreeSet<_>>().len() >= AT_ONCE
}

fn first_sent(attempts: &[&TicketAttempt]) -> Moment {
    attempts.iter().map(|it| it.sent).min().unwrap_or_default()
}

/// A ticket: what its clients were answered, and its streams in the logs.
struct Ticket<'a> {
    number: u64,
    attempts: Vec<&'a TicketAttempt>,
    streams: &'a [&'a LoggedStream],
    history: &'a History,
    apart: &'a [Apart<'a>],
    starvation: &'a Starvation,
}

impl Ticket<'_> {
    fn judge(&self, found: &mut Tickets) {
        let number = self.number;
        // An end and an opening that are so close may be logged in either order.
        let spans = self.streams.iter().map(|stream| {
            let span = span_of(self.history, stream);
            Span { until: span.until.saturating_sub(CLOSE).max(span.from), ..span }
        });
        if let Some((at, open)) = too_many(&spans.collect::<Vec<_>>(), 1, self.apart) {
            let was_starved = !self.starvation.within(at.saturating_sub(STARVED), at).is_zero();
            let list = if was_starved { &mut found.doubled_by_starved } else { &mut found.doubled };
            list.note(|| format!("ticket {number} at {at:?} with {open} streams"));
        }
        let first_sent = first_sent(&self.attempts);
        let first_opened = self.first_opened();
        for attempt in &self.attempts {
            let TicketAttempt { client, sent, answered, .. } = *attempt;
            let is_belated = first_opened.is_some_and(|first| *sent > first + AGAIN + CLOSE);
            found.belated += usize::from(is_belated);
            match attempt.outcome {
                TicketOutcome::Opened(_) => {
                    found.resumed += usize::from(self.had_lost(attempt));
                    if is_belated && !self.may_be_unknown(*sent, *answered) {
                        found.late.note(|| format!("ticket {number} by client {client} at {sent:?}"));
                    }
                }
                TicketOutcome::Refused => {
                    found.refused += 1;
                    let is_within = *answered + CLOSE <= first_sent + AGAIN;
                    if is_within && !self.is_open_elsewhere(attempt) {
                        let after = sent.saturating_sub(first_sent);
                        found.wrong.note(|| {
                            format!(
                                "ticket {number} by client {client} at {sent:?}, {after:?} after the first"
                            )
                        });
                    }
                }
                TicketOutcome::Lost(_) => {}
            }
        }
        // Also streams whose clients never got the answer.
        for stream in self.streams {
            let at = stream.opened;
            let is_late = first_opened.is_some_and(|first| at > first + AGAIN + LOGGED);
            if is_late && !self.may_be_unknown(at.saturating_sub(LOGGED), at) {
                found.late.note(|| format!("ticket {number} on instance {} at {at:?}", stream.instance));
            }
        }
    }

    /// The first opening, at the latest.
    fn first_opened(&self) -> Option<Moment> {
        let answers = self.attempts.iter().filter(|it| matches!(it.outcome, TicketOutcome::Opened(_)));
        answers.map(|it| it.answered).chain(self.streams.iter().map(|stream| stream.opened)).min()
    }

    /// Whether the client of an attempt had lost its answer, or its stream without closing it.
    fn had_lost(&self, attempt: &TicketAttempt) -> bool {
        let mut before =
            self.attempts.iter().filter(|it| it.client == attempt.client && it.sent < attempt.sent);
        before.any(|it| match &it.outcome {
            TicketOutcome::Opened(end) => end.reason.is_some(),
            TicketOutcome::Refused => false,
            TicketOutcome::Lost(_) => true,
        })
    }

    /// Whether an instance that was asked in this period may not know of the ticket's use: without
    /// Redis it knows only its own, and those that opened the ticket may be dead.
    fn may_be_unknown(&self, from: Moment, until: Moment) -> bool {
        let before = self.streams.iter().filter(|stream| stream.opened + AGAIN <= until);
        let known_by = before.map(|stream| (stream.instance, stream.opened));
        are_apart(self.apart, from, until) || is_forgotten(self.history, known_by, until)
    }

    /// Whether another client had the stream of the ticket when this attempt was refused. A stream
    /// counts as long as its instance has it and a client that may have opened it is there: an
    /// instance that does not notice that the client left must not refuse others.
    fn is_open_elsewhere(&self, refused: &TicketAttempt) -> bool {
        let since = refused.sent.max(refused.answered.saturating_sub(KNOWN));
        self.streams.iter().any(|stream| {
            let own = span_of(self.history, stream);
            let clients = self
                .attempts
                .iter()
                .filter(|it| it.outcome != TicketOutcome::Refused && it.sent <= stream.opened + CLOSE);
            let left = clients.map(|it| match &it.outcome {
                TicketOutcome::Opened(end) => end.at,
                TicketOutcome::Refused | TicketOutcome::Lost(_) => it.answered,
            });
            let until = left.max().map_or(own.from, |left| left.min(own.until));
            // In starved time nobody notices anything.
            let until = until + self.starvation.within(until, refused.answered);
            own.from <= refused.answered + CLOSE && since <= until + CLOSE
        })
    }
}
