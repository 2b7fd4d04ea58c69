//! Commands about subjects: which tokens they bar, and which streams they end.

use std::collections::HashMap;
use std::time::Duration;

use super::rounds::Troubles;
use super::{Findings, Starvation, Tokens, percentile};
use crate::history::{
    ClientStream, Command, CommandKind, Endpoint, History, IN_ORDER, Kind, Moment, Operation, Outcome,
    Subject,
};

/// Time in which a command reaches all instances.
const EVERYWHERE: Duration = Duration::from_secs(1);
/// Time in which streams of the instance that was asked end.
const AT_ONCE: Duration = Duration::from_millis(250);
/// A stream that ends this much later is not slow but missed.
const MISSED: Duration = Duration::from_secs(5);
/// Difference of clocks.
const CLOCKS: Duration = Duration::from_secs(2);
/// Time from the loss of an instance until clients of nginx know.
const NOTICED: Duration = Duration::from_secs(1);

/// A reason not to accept a token.
pub(super) struct Bar {
    /// Target of the command.
    pub(super) endpoint: Endpoint,
    /// Time of its answer.
    pub(super) since: Moment,
    /// The command as text.
    pub(super) words: String,
}

/// Commands about a subject that hold.
pub(super) struct Bans<'a> {
    commands: HashMap<Subject, Vec<&'a Command>>,
    subjects: &'a HashMap<u64, Subject>,
    troubles: Troubles,
}

impl<'a> Bans<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut commands: HashMap<_, Vec<_>> = HashMap::new();
        for command in &history.commands {
            commands.entry(command.subject).or_default().push(command);
        }
        Self { commands, subjects: &history.subjects, troubles: Troubles::of(history, EVERYWHERE) }
    }

    /// Commands about the subject of this token, in order of their answers.
    fn about(&self, token: u64) -> &[&'a Command] {
        let commands = self.subjects.get(&token).and_then(|subject| self.commands.get(subject));
        commands.map(Vec::as_slice).unwrap_or_default()
    }

    /// Commands that were carried out before a request, and because of which it has to be refused.
    pub(super) fn bars(&self, tokens: &Tokens, operation: &Operation) -> Vec<Bar> {
        let about = self.about(operation.token);
        let hold = about.iter().filter(|it| {
            it.outcome == Outcome::Yes && it.answered <= operation.sent && holds(about, tokens, it, operation)
        });
        let bar = |it: &&Command| Bar {
            endpoint: it.endpoint,
            since: it.answered,
            words: format!("subject {} {:?}", it.subject, it.kind),
        };
        hold.map(bar).collect()
    }

    /// Whether a request may be refused because of a command.
    pub(super) fn may_refuse(&self, tokens: &Tokens, operation: &Operation) -> bool {
        let about = self.about(operation.token);
        about.iter().filter(|it| it.sent <= operation.answered).any(|it| match it.kind {
            CommandKind::Revoke => {
                operation.is_validation()
                    && tokens
                        .issued
                        .get(&operation.token)
                        .is_none_or(|(issued, _)| issued.sent <= it.answered)
            }
            CommandKind::Block(lasts) => {
                let lifted = unblocks(about, it)
                    .filter(|unblock| unblock.outcome == Outcome::Yes)
                    .map(|unblock| unblock.answered + EVERYWHERE)
                    .min();
                let end = it.answered + lasts + CLOCKS;
                operation.sent <= lifted.map_or(end, |lifted| lifted.min(end))
                    || self.troubles.contain(operation.sent)
            }
            CommandKind::Unblock | CommandKind::End | CommandKind::EndTopic => false,
        })
    }
}

/// Whether a command that was carried out bars a request.
fn holds(about: &[&Command], tokens: &Tokens, command: &Command, operation: &Operation) -> bool {
    match command.kind {
        CommandKind::Revoke => {
            let issued = tokens.issued.get(&operation.token);
            operation.is_validation() && issued.is_some_and(|(issued, _)| issued.answered <= command.sent)
        }
        CommandKind::Block(lasts) => {
            let lifted = unblocks(about, command).map(|unblock| unblock.sent).min();
            let end = (command.sent + lasts).saturating_sub(CLOCKS);
            operation.answered <= lifted.map_or(end, |lifted| lifted.min(end))
        }
        CommandKind::Unblock | CommandKind::End | CommandKind::EndTopic => false,
    }
}

fn unblocks<'a>(about: &[&'a Command], block: &Command) -> impl Iterator<Item = &'a Command> {
    let after = block.sent;
    about.iter().copied().filter(move |it| it.kind == CommandKind::Unblock && it.sent >= after)
}

/// Issues that were refused although the subject was not blocked.
pub(super) fn refused_issues(history: &History, tokens: &Tokens, bans: &Bans) -> Findings {
    let mut found = Findings::default();
    for it in &history.operations {
        let is_refused = matches!(it.kind, Kind::Issue { .. }) && it.outcome == Outcome::No;
        if is_refused && !bans.may_refuse(tokens, it) {
            found.note(|| format!("token {} on {} at {:?}", it.token, it.endpoint, it.sent));
        }
    }
    found
}

/// Streams that commands ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    /// Number of commands that end streams.
    pub(crate) commands: usize,
    /// Number of streams that had to end.
    pub(crate) streams: usize,
    /// Of each command, the time until its last stream had ended.
    pub(crate) took: Vec<Duration>,
    /// The same of commands during a fault, from the recovery of all instances on.
    pub(crate) after_fault: Vec<Duration>,
    /// Of each command, the time until the last stream of the instance that was asked had ended.
    pub(crate) local: Vec<Duration>,
    /// Streams that did not end.
    pub(super) missed: Findings,
    /// Bounds that were exceeded.
    pub(super) late: Findings,
    /// Streams that ended without a command about their subject.
    pub(super) others: Findings,
}

/// A command ends the streams of its subject: at once where it was given, and everywhere within a
/// second, or a second after all instances recovered from a fault. No other stream ends, unless it
/// may be replaced.
pub(super) fn judge(history: &History, tokens: &Tokens, bans: &Bans, may_replace: bool) -> Ends {
    let mut found = Ends::default();
    let starvation = Starvation::of(history);
    let mut streams: HashMap<Subject, Vec<&ClientStream>> = HashMap::new();
    for stream in &history.client_streams {
        if let Some(subject) = history.subjects.get(&stream.token) {
            streams.entry(*subject).or_default().push(stream);
        }
    }
    let commands = history.commands.iter().filter(|it| it.outcome == Outcome::Yes);
    for command in commands.filter(|it| it.kind.reason().is_some()) {
        let all = streams.get(&command.subject).map(Vec::as_slice).unwrap_or_default();
        let own: Vec<_> = all.iter().filter(|it| has_to_end(history, tokens, command, it)).collect();
        if own.is_empty() {
            continue;
        }
        found.commands += 1;
        found.streams += own.len();
        let recovered = bans.troubles.end_around(command.answered).map(|end| end.saturating_sub(EVERYWHERE));
        let (mut local, mut everywhere) = (Duration::ZERO, Duration::ZERO);
        for stream in own {
            let is_local = stream.endpoint == command.endpoint && command.endpoint != Endpoint::Balancer;
            let base = recovered.filter(|_| !is_local).unwrap_or_default();
            let base = base.max(command.answered).max(stream.opened);
            let end = stream.end.as_ref().map_or(history.length, |end| end.at);
            let took = end.saturating_sub(base);
            let took = took.saturating_sub(starvation.within(base, end));
            if is_local {
                local = local.max(took);
            } else {
                everywhere = everywhere.max(took);
            }
            // A stream that its client closed may have been about to end.
            let is_open = stream.end.as_ref().is_none_or(|end| end.reason.is_none());
            if took > MISSED || (is_open && took > EVERYWHERE) {
                let (kind, subject, at) = (command.kind, command.subject, command.answered);
                let endpoint = stream.endpoint;
                found.missed.note(|| {
                    format!("{kind:?} of subject {subject} at {at:?}: open on {endpoint} {took:?} later")
                });
            }
        }
        if local > AT_ONCE {
            found.late.note(|| {
                format!("{:?} at {:?}: {local:?} on {}", command.kind, command.answered, command.endpoint)
            });
        }
        found.local.push(local);
        match recovered {
            Some(_) => found.after_fault.push(everywhere.max(local)),
            None => found.took.push(everywhere.max(local)),
        }
    }
    for (when, took) in [("", &found.took), (" after a fault", &found.after_fault)] {
        let p99 = percentile(took.clone(), 99);
        if p99 > EVERYWHERE {
            let all = took.len();
            found.late.note(|| format!("99 % of {all} commands{when} within {p99:?}, not {EVERYWHERE:?}"));
        }
    }
    for (subject, streams) in streams {
        for stream in streams {
            if let Some(words) = unexplained(history, stream, may_replace) {
                found.others.note(|| {
                    format!(
                        "subject {subject} on {}, opened at {:?}: {words}",
                        stream.endpoint, stream.opened
                    )
                });
            }
        }
    }
    found
}

/// Whether a stream was open when a command was given, and has to end because of it.
fn has_to_end(history: &History, tokens: &Tokens, command: &Command, stream: &ClientStream) -> bool {
    let is_before = match command.kind {
        CommandKind::Revoke => tokens
            .issued
            .get(&stream.token)
            .is_some_and(|(issued, _)| issued.answered <= command.sent && stream.opened <= command.answered),
        CommandKind::Block(_) => stream.opened <= command.answered,
        _ => stream.opened <= command.sent,
    };
    let is_over = stream.end.as_ref().is_some_and(|end| end.at < command.answered && end.reason.is_none())
        || stream.end.as_ref().is_some_and(|end| end.at < command.sent);
    let end = stream.end.as_ref().map_or(history.length, |end| end.at);
    is_before && !is_over && !is_lost(history, stream, command.sent, end)
}

/// Whether the target of a stream was down within a period.
fn is_lost(history: &History, stream: &ClientStream, from: Moment, until: Moment) -> bool {
    history.outages.iter().any(|it| {
        (it.endpoint == stream.endpoint || stream.endpoint == Endpoint::Balancer)
            && it.from <= until
            && it.until.is_none_or(|up| from <= up)
    })
}

/// Reason for the end of a stream, if nothing in the history explains it.
fn unexplained<'a>(history: &History, stream: &'a ClientStream, may_replace: bool) -> Option<&'a str> {
    let end = stream.end.as_ref()?;
    let reason = end.reason.as_deref()?;
    let in_order = reason.strip_prefix(IN_ORDER).and_then(|rest| rest.strip_prefix(": "));
    let subject = history.subjects.get(&stream.token);
    let is_commanded = in_order.is_some()
        && history.commands.iter().any(|it| {
            Some(&it.subject) == subject
                && it.kind.reason() == in_order
                && it.sent <= end.at
                && stream.opened <= it.answered + CLOCKS
        });
    // Instances that were cut off decide later which streams stay.
    let has_lost_lease =
        in_order == Some("lease_lost") && history.partitions.iter().any(|it| it.from <= end.at);
    let is_replaced = may_replace && in_order == Some("replaced");
    let is_lost = is_lost(history, stream, end.at.saturating_sub(NOTICED), end.at);
    (!is_commanded && !is_replaced && !has_lost_lease && !is_lost).then_some(reason)
}
