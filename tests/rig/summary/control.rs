//! Figures of commands about subjects, lists, caps, tickets and refusals.

use std::time::Duration;

use serde_json::{Value, json};

use crate::checker::{Controlled, percentile};

/// Figures of control.
#[derive(Debug, Clone, Default)]
pub struct ControlFigures {
    /// Commands that end streams.
    pub commands: usize,
    /// Streams that had to end.
    pub ended: usize,
    /// Time until a command had ended all streams, for 99 % of the commands without a fault.
    pub ended_p99: Duration,
    /// The same of the instance that was asked.
    pub ended_there_p99: Duration,
    /// The same of commands during a fault, after all instances had recovered.
    pub ended_after_fault_p99: Duration,
    /// Lists of streams.
    pub lists: usize,
    /// Lists that had to equal the truth.
    pub lists_compared: usize,
    /// Openings for subjects.
    pub openings: usize,
    /// Openings that a cap refused.
    pub openings_refused: usize,
    /// Streams that made room for another one of their subject.
    pub replaced: usize,
    /// Subjects that had as many streams as they may.
    pub full_subjects: usize,
    /// Tickets.
    pub tickets: usize,
    /// Tickets that three clients opened at once.
    pub tickets_raced_for: usize,
    /// Attempts to open tickets.
    pub ticket_attempts: usize,
    /// Refused attempts.
    pub tickets_refused: usize,
    /// Attempts after a lost answer or stream that got a stream.
    pub tickets_resumed: usize,
    /// Attempts after the time in which a ticket may be opened again.
    pub tickets_belated: usize,
    /// Tickets that are used through `authorise`.
    pub ticket_uses: usize,
    /// Requests with the id of an accepted one that were accepted.
    pub ticket_uses_repeated: usize,
    /// Requests that were refused.
    pub ticket_uses_refused: usize,
    /// Tokens refused because Redis could not be asked.
    pub unproven_refused: usize,
    /// Requests to issue refused because Redis could not be asked.
    pub issues_refused: usize,
}

impl ControlFigures {
    pub(super) fn of(judged: &Controlled) -> Self {
        let Controlled { ends, listings, occupied, tickets, ticket_uses, when_lost } = judged;
        Self {
            commands: ends.commands,
            ended: ends.streams,
            ended_p99: percentile(ends.took.clone(), 99),
            ended_there_p99: percentile(ends.local.clone(), 99),
            ended_after_fault_p99: percentile(ends.after_fault.clone(), 99),
            lists: listings.count,
            lists_compared: listings.calm,
            openings: occupied.openings,
            openings_refused: occupied.refused,
            replaced: occupied.replaced,
            full_subjects: occupied.full,
            tickets: tickets.count,
            tickets_raced_for: tickets.raced_for,
            ticket_attempts: tickets.attempts,
            tickets_refused: tickets.refused,
            tickets_resumed: tickets.resumed,
            tickets_belated: tickets.belated,
            ticket_uses: ticket_uses.count,
            ticket_uses_repeated: ticket_uses.repeated,
            ticket_uses_refused: ticket_uses.refused,
            unproven_refused: when_lost.refused,
            issues_refused: when_lost.not_issued,
        }
    }

    /// The figures that a fault run has, as text.
    pub(crate) fn lines(&self) -> Vec<String> {
        let ms = |time: Duration| time.as_millis();
        let commands = format!(
            "{} commands ended {} streams; 99 % of the commands within {} ms, {} ms on the instance that was \
             asked, {} ms after the recovery from a fault",
            self.commands,
            self.ended,
            ms(self.ended_p99),
            ms(self.ended_there_p99),
            ms(self.ended_after_fault_p99)
        );
        let lists = format!("{} lists, {} of them compared with the truth", self.lists, self.lists_compared);
        let openings = format!(
            "{} openings for subjects, {} refused by a cap, {} streams made room; {} subjects had all their \
             streams",
            self.openings, self.openings_refused, self.replaced, self.full_subjects
        );
        let tickets = format!(
            "{} tickets, {} of them opened by three clients at once, with {} attempts, {} refused; {} opened \
             again after a loss, {} too late",
            self.tickets,
            self.tickets_raced_for,
            self.ticket_attempts,
            self.tickets_refused,
            self.tickets_resumed,
            self.tickets_belated
        );
        let uses = format!(
            "{} tickets used through authorise; {} repetitions accepted, {} requests refused",
            self.ticket_uses, self.ticket_uses_repeated, self.ticket_uses_refused
        );
        let refusals = format!(
            "without Redis {} tokens were refused and {} not issued",
            self.unproven_refused, self.issues_refused
        );
        let all = [
            (self.commands, commands),
            (self.lists, lists),
            (self.openings_refused + self.replaced, openings),
            (self.tickets, tickets),
            (self.ticket_uses, uses),
            (self.unproven_refused, refusals),
        ];
        all.into_iter().filter(|(count, _)| *count > 0).map(|(_, line)| line).collect()
    }

    /// Everything.
    pub(super) fn json(&self) -> Value {
        let seconds = |time: Duration| time.as_secs_f64();
        json!({
            "commands": self.commands,
            "streams_ended": self.ended,
            "ended_p99_seconds": seconds(self.ended_p99),
            "ended_on_the_asked_instance_p99_seconds": seconds(self.ended_there_p99),
            "ended_after_fault_p99_seconds": seconds(self.ended_after_fault_p99),
            "lists": self.lists,
            "lists_compared": self.lists_compared,
            "openings": self.openings,
            "openings_refused": self.openings_refused,
            "streams_replaced": self.replaced,
            "full_subjects": self.full_subjects,
            "tickets": self.tickets,
            "tickets_raced_for": self.tickets_raced_for,
            "ticket_attempts": self.ticket_attempts,
            "tickets_refused": self.tickets_refused,
            "tickets_resumed": self.tickets_resumed,
            "tickets_belated": self.tickets_belated,
            "tickets_used_by_requests": self.ticket_uses,
            "ticket_requests_repeated": self.ticket_uses_repeated,
            "ticket_requests_refused": self.ticket_uses_refused,
            "unproven_tokens_refused": self.unproven_refused,
            "issues_refused": self.issues_refused,
        })
    }
}
