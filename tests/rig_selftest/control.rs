//! The checker is shown commands about subjects, lists of streams, caps and tickets, each as it
//! should be and with something wrong.

use std::time::{Duration, SystemTime};

use serde_json::json;
use vx11_kit::{COME_BACK, Standing};
use vx11_rig::{
    Caps, ClientStream, CommandKind, Control, Endpoint, History, IN_ORDER, Kind, Listed, Listing,
    LoggedStream, Observation, Operation, Outage, Outcome, Partition, Round, StreamEnd, Subject,
    SubjectCommand, Targets, TicketAttempt, TicketOutcome, Verdict, check, logged_streams,
};

const MS: Duration = Duration::from_millis(1);
const INSTANCES: usize = 3;
/// A token of the load.
const LOADED: u64 = 1;
const BLOCK: CommandKind = CommandKind::Block(Duration::from_hours(1));

fn at(instance: usize) -> Endpoint {
    Endpoint::Instance(instance)
}

fn operation(kind: Kind, token: u64, endpoint: Endpoint, sent: u32, outcome: Outcome) -> Operation {
    let sent = sent * MS;
    Operation { kind, token, endpoint, due: sent, sent, answered: sent + 2 * MS, outcome }
}

/// A history of 20 s without a fault in which a token of the load was validated.
fn history() -> History {
    let well = Standing { on_redis: true, fallback_entries: 0 };
    History {
        operations: vec![
            issue(LOADED, 100, Outcome::Yes),
            operation(Kind::Introspect, LOADED, at(0), 200, Outcome::Yes),
        ],
        observations: (0..INSTANCES)
            .map(|instance| Observation { at: MS, instance, standing: well })
            .collect(),
        length: 20_000 * MS,
        ..History::default()
    }
}

fn issue(token: u64, sent: u32, outcome: Outcome) -> Operation {
    operation(Kind::Issue { life: Duration::from_mins(15) }, token, Endpoint::Balancer, sent, outcome)
}

fn targets() -> Targets {
    Targets { reconnects: 1, ..Targets::of_rounds(1) }
}

/// The only violation that a check finds.
fn only(verdict: Verdict) -> String {
    let mut violations = verdict.violations;
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

fn found(history: &History) -> String {
    only(check(history, targets()))
}

fn nothing_in(history: &History) {
    assert_eq!(check(history, targets()).violations, Vec::<String>::new());
}

/// A fault from 5 s to 8 s, from which all recover at once.
fn fault(history: &mut History) {
    history.rounds = vec![Round { from: 5000 * MS, back: Some(8000 * MS), over: Some(9000 * MS) }];
}

/// The same that cuts these instances off.
fn cut(history: &mut History, instances: &[usize]) {
    fault(history);
    history.partitions = vec![Partition { from: 5000 * MS, until: Some(8000 * MS), cut: instances.to_vec() }];
}

fn command(kind: CommandKind, subject: Subject, endpoint: Endpoint, sent: u32) -> SubjectCommand {
    let sent = sent * MS;
    SubjectCommand { kind, subject, endpoint, sent, answered: sent + 5 * MS, outcome: Outcome::Yes }
}

fn ended(at: u32, reason: &str) -> StreamEnd {
    StreamEnd { at: at * MS, reason: Some(format!("{IN_ORDER}: {reason}")) }
}

fn closed(at: u32) -> StreamEnd {
    StreamEnd { at: at * MS, reason: None }
}

fn stream(token: u64, endpoint: Endpoint, opened: u32, end: Option<StreamEnd>) -> ClientStream {
    ClientStream { token, endpoint, sent: (opened - 2) * MS, opened: opened * MS, end }
}

/// Subject 7 with token 10 and a stream on each instance, and subject 8 with token 20 and one
/// stream. Subject 7 is commanded at 2 s on the first instance, and its streams end as given.
fn commanded(kind: CommandKind, ends: [Option<StreamEnd>; INSTANCES]) -> History {
    let mut history = history();
    history.subjects = [(10, 7), (20, 8)].into();
    history.operations.extend([issue(10, 500, Outcome::Yes), issue(20, 500, Outcome::Yes)]);
    history.client_streams =
        ends.into_iter().enumerate().map(|(instance, end)| stream(10, at(instance), 1000, end)).collect();
    history.client_streams.push(stream(20, at(0), 1000, None));
    history.commands = vec![command(kind, 7, at(0), 2000)];
    history
}

fn in_time(reason: &str) -> [Option<StreamEnd>; INSTANCES] {
    [Some(ended(2010, reason)), Some(ended(2500, reason)), Some(ended(3000, reason))]
}

#[test]
fn streams_that_end_in_time_are_not_complained_of() {
    for (kind, reason) in [
        (BLOCK, "blocked"),
        (CommandKind::Revoke, "revoked"),
        (CommandKind::End, "ended"),
        (CommandKind::EndTopic, "ended"),
    ] {
        let verdict = check(&commanded(kind, in_time(reason)), targets());
        assert_eq!(verdict.violations, Vec::<String>::new());
        let figures = verdict.summary.control;
        assert_eq!((figures.commands, figures.ended), (1, 3));
        assert_eq!((figures.ended_p99, figures.ended_there_p99), (995 * MS, 5 * MS));
    }
}

#[test]
fn a_stream_that_ends_late_or_never_is_found() {
    let late = |instance: usize, at| {
        let mut ends = in_time("ended");
        ends[instance] = Some(ended(at, "ended"));
        commanded(CommandKind::End, ends)
    };
    nothing_in(&late(0, 2255));
    assert!(found(&late(0, 2256)).contains("End at 2.005s: 251ms on instance 0"));
    nothing_in(&late(2, 3005));
    let words = "bounds on ending streams exceeded: 99 % of 1 commands within 1.001s";
    assert!(found(&late(2, 3006)).contains(words));
    let mut ends = in_time("ended");
    ends[1] = None;
    let never = check(&commanded(CommandKind::End, ends), targets()).violations;
    assert!(never[0].starts_with("1 streams that a command did not end: End of subject 7"), "{never:?}");
}

#[test]
fn a_stream_that_its_client_had_to_close_is_found() {
    let mut ends = in_time("ended");
    ends[1] = Some(closed(2500));
    nothing_in(&commanded(CommandKind::End, ends.clone()));
    ends[1] = Some(closed(4000));
    let violations = check(&commanded(CommandKind::End, ends), targets()).violations;
    assert!(violations[0].contains("did not end"), "{violations:?}");
}

#[test]
fn a_stream_of_another_subject_that_ends_is_found_and_so_is_one_with_another_reason() {
    let mut history = commanded(CommandKind::End, in_time("ended"));
    history.client_streams[3].end = Some(ended(2010, "ended"));
    let words = "1 streams ended without a command: subject 8 on instance 0, opened at 1s";
    assert!(found(&history).starts_with(words));
    let other = commanded(CommandKind::End, in_time("revoked"));
    assert!(found(&other).starts_with("3 streams ended without a command: subject 7"));
    // An instance that goes down takes its streams with it.
    history.outages.push(Outage { endpoint: at(0), from: 2005 * MS, until: Some(4000 * MS) });
    history.client_streams[3].end = Some(StreamEnd { at: 2010 * MS, reason: Some("it was cut".to_owned()) });
    nothing_in(&history);
}

#[test]
fn a_command_during_a_fault_ends_streams_there_at_once_and_everywhere_after_it() {
    let during = |ends| {
        let mut history = commanded(BLOCK, ends);
        fault(&mut history);
        history.commands[0] = command(BLOCK, 7, at(0), 6000);
        history
    };
    let blocked = |at| Some(ended(at, "blocked"));
    let verdict = check(&during([blocked(6010), blocked(8000), blocked(9000)]), targets());
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert_eq!(verdict.summary.control.ended_after_fault_p99, 1000 * MS);
    assert!(found(&during([blocked(6256), blocked(8000), blocked(9000)])).contains("251ms on instance 0"));
    assert!(found(&during([blocked(6010), blocked(8000), blocked(9001)])).contains("after a fault within"));
}

/// Subject 7 with token 10, commanded at 2 s on the first instance, and these requests.
fn presented(kind: CommandKind, requests: Vec<Operation>) -> History {
    let mut history = history();
    history.subjects = (10..20).map(|token| (token, 7)).collect();
    history.operations.push(issue(10, 500, Outcome::Yes));
    history.commands = vec![command(kind, 7, at(0), 2000)];
    history.operations.extend(requests);
    history
}

#[test]
fn a_token_of_a_revoked_or_blocked_subject_that_is_accepted_is_found() {
    for kind in [BLOCK, CommandKind::Revoke] {
        for way in [Kind::Introspect, Kind::OpenStream] {
            let accepted =
                |endpoint, sent| presented(kind, vec![operation(way, 10, endpoint, sent, Outcome::Yes)]);
            nothing_in(&accepted(at(0), 2004));
            let words = format!("subject 7 {kind:?} on instance 0 at 2.005s, accepted on instance 0");
            let there = check(&accepted(at(0), 2006), targets());
            assert_eq!(there.summary.revoked_accepted, 1);
            assert!(only(there).contains(&words));
            nothing_in(&accepted(at(1), 3004));
            assert!(found(&accepted(at(1), 3006)).contains("accepted for too long"));
            assert!(found(&accepted(at(1), 7006)).contains("accepted on instance 1 5.001s later"));
        }
    }
    nothing_in(&presented(
        CommandKind::End,
        vec![operation(Kind::Introspect, 10, at(0), 4000, Outcome::Yes)],
    ));
}

#[test]
fn a_token_that_is_issued_to_a_blocked_subject_is_found_and_one_to_a_revoked_subject_is_not() {
    let issued = |kind| presented(kind, vec![issue(11, 3006, Outcome::Yes)]);
    assert!(found(&issued(BLOCK)).contains("subject 7 Block"));
    nothing_in(&issued(CommandKind::Revoke));
}

#[test]
fn a_block_ends_with_the_command_that_ends_it_and_with_its_time() {
    let presented_late = |kind, unblocked: bool, outcome: Outcome| {
        let mut history = presented(kind, vec![operation(Kind::Introspect, 10, at(1), 6500, outcome)]);
        if unblocked {
            history.commands.push(command(CommandKind::Unblock, 7, at(0), 5000));
        }
        check(&history, targets()).violations
    };
    let (accepted, refused) = (Outcome::Yes, Outcome::No);
    assert!(presented_late(BLOCK, true, accepted.clone()).is_empty());
    assert!(presented_late(BLOCK, true, refused.clone())[0].starts_with("1 valid tokens refused"));
    assert!(presented_late(BLOCK, false, refused.clone()).is_empty());
    assert_eq!(presented_late(BLOCK, false, accepted.clone()).len(), 1);
    let short = CommandKind::Block(Duration::from_secs(2));
    assert!(presented_late(short, false, accepted).is_empty());
    assert_eq!(presented_late(short, false, refused).len(), 1);
}

#[test]
fn a_token_that_is_refused_without_a_reason_is_found_and_so_is_a_refusal_to_issue() {
    let refused = |token, sent| operation(Kind::Introspect, token, at(1), sent, Outcome::No);
    nothing_in(&presented(CommandKind::Revoke, vec![refused(10, 2500)]));
    let later = presented(CommandKind::Revoke, vec![issue(11, 2500, Outcome::Yes), refused(11, 3000)]);
    assert!(found(&later).starts_with("1 valid tokens refused: token 11"));
    assert!(
        found(&presented(CommandKind::End, vec![refused(10, 2500)])).starts_with("1 valid tokens refused")
    );
    nothing_in(&presented(BLOCK, vec![issue(11, 2500, Outcome::No)]));
    let issue = presented(CommandKind::Revoke, vec![issue(11, 2500, Outcome::No)]);
    assert!(found(&issue).starts_with("1 refusals to issue without a block: token 11"));
}

#[test]
fn a_command_during_a_cut_holds_there_at_once_and_elsewhere_a_second_after_it() {
    let accepted = |endpoint, sent| {
        let mut history =
            presented(BLOCK, vec![operation(Kind::Introspect, 10, endpoint, sent, Outcome::Yes)]);
        cut(&mut history, &[0]);
        history.commands = vec![command(BLOCK, 7, at(0), 6000)];
        check(&history, targets())
    };
    assert!(only(accepted(at(0), 6010)).contains("accepted on instance 0"));
    let listed = accepted(at(1), 9000);
    assert_eq!(listed.violations, Vec::<String>::new());
    assert_eq!(listed.summary.longest_in_fault, 2995 * MS);
    assert!(only(accepted(at(1), 9001)).contains("accepted on instance 1"));
}

/// Tokens 10, 11 and 12 with a stream on each instance from 1 s on, and lists.
fn listed(lists: Vec<Listing>) -> History {
    let mut history = history();
    history.client_streams =
        (0..INSTANCES).map(|index| stream(10 + index as u64, at(index), 1000, None)).collect();
    history.listings = lists;
    history
}

/// A list of these tokens, by an instance.
fn list(instance: usize, sent: u32, tokens: &[u64], missing: &[usize]) -> Listing {
    let streams = tokens.iter().enumerate().map(|(number, token)| Listed {
        stream_id: number.to_string(),
        token: Some(*token),
        instance: usize::try_from(*token - 10).unwrap_or(0),
    });
    Listing {
        endpoint: at(instance),
        sent: sent * MS,
        answered: (sent + 10) * MS,
        streams: streams.collect(),
        missing: missing.to_vec(),
        more: false,
    }
}

#[test]
fn a_list_that_equals_the_truth_is_not_complained_of() {
    let verdict = check(&listed(vec![list(0, 3000, &[10, 11, 12], &[])]), targets());
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert_eq!((verdict.summary.control.lists, verdict.summary.control.lists_compared), (1, 1));
}

#[test]
fn a_stream_that_no_list_has_is_found() {
    let words = "1 open streams in no list: instance 0 at 3s does not list token 12, which is open on";
    assert!(found(&listed(vec![list(0, 3000, &[10, 11], &[])])).starts_with(words));
    // Half a second after it was opened, it may be missing.
    nothing_in(&listed(vec![list(0, 1499, &[10, 11], &[])]));
    let mut history = listed(vec![list(0, 3000, &[10, 11], &[])]);
    history.client_streams[2].end = Some(closed(3005));
    nothing_in(&history);
}

#[test]
fn a_stream_in_a_list_that_nobody_has_is_found() {
    let mut history = listed(vec![list(0, 3000, &[10, 11, 12], &[])]);
    history.client_streams[2].end = Some(closed(1000));
    nothing_in(&history);
    history.client_streams[2].end = Some(closed(999));
    assert!(found(&history).contains("lists token 12 1 times, open at most 0"));
    assert!(found(&listed(vec![list(0, 3000, &[10, 11, 12, 12], &[])])).contains("token 12 2 times"));
    let mut foreign = listed(vec![list(0, 3000, &[10, 11, 12], &[])]);
    foreign.listings[0].streams.push(Listed { stream_id: "x".to_owned(), token: None, instance: 0 });
    assert!(found(&foreign).contains("lists 1 streams of no token"));
    foreign.listings[0].streams.pop();
    foreign.listings[0].streams[1].stream_id = "0".to_owned();
    assert!(found(&foreign).contains("1 streams twice"));
}

#[test]
fn a_list_that_names_an_instance_without_a_fault_is_found() {
    let named = check(&listed(vec![list(0, 3000, &[10, 11], &[2])]), targets());
    assert!(only(named).contains("instance 0 at 3s names [2] as missing"));
}

#[test]
fn a_list_during_a_fault_has_each_stream_or_names_its_instance() {
    let during = |tokens: &[u64], missing: &[usize]| {
        let mut history = listed(vec![list(0, 6000, tokens, missing)]);
        cut(&mut history, &[2]);
        check(&history, targets()).violations
    };
    assert!(during(&[10, 11], &[2]).is_empty());
    let unnamed = during(&[10, 11], &[]);
    assert!(unnamed[0].starts_with("1 open streams in no list"), "{unnamed:?}");
    assert!(unnamed[1].contains("1 lists of instance 0 from 5s do not name {2}"), "{unnamed:?}");
    assert!(during(&[10], &[2])[0].contains("does not list token 11"));
    // The instance that is cut off names the others.
    let mut history = listed(vec![list(2, 6000, &[12], &[0, 1])]);
    cut(&mut history, &[2]);
    nothing_in(&history);
    history.listings[0].missing.pop();
    assert_eq!(check(&history, targets()).violations.len(), 2);
}

#[test]
fn a_list_two_seconds_after_a_fault_equals_the_truth() {
    let after = |sent| {
        let mut history = listed(vec![list(0, 6000, &[10, 11], &[2]), list(1, sent, &[10, 11], &[2])]);
        cut(&mut history, &[2]);
        check(&history, targets()).violations
    };
    assert!(after(9000).is_empty());
    assert_eq!(after(10_001).len(), 1);
}

#[test]
fn a_dead_instance_that_no_list_names_is_found() {
    let during = |missing: &[usize]| {
        let mut history = listed(vec![list(0, 6000, &[10, 11], missing)]);
        fault(&mut history);
        history.client_streams[2].end =
            Some(StreamEnd { at: 5000 * MS, reason: Some("it was cut".to_owned()) });
        history.outages.push(Outage { endpoint: at(2), from: 5000 * MS, until: Some(8000 * MS) });
        check(&history, targets()).violations
    };
    assert!(during(&[2]).is_empty());
    assert!(during(&[])[0].starts_with("1 failed instances that no list names"));
}

/// Targets of a drill of control.
fn of(control: Control) -> Targets {
    Targets { control, ..targets() }
}

/// Two streams of a subject, and at least one opening.
const CAPS: Control = Control::Caps(Caps { cap: 2, openings: 1 });
const TICKETS: Control = Control::Tickets(1);

fn logged(instance: usize, token: u64, opened: u32, ended: Option<u32>) -> LoggedStream {
    LoggedStream { instance, token, opened: opened * MS, ended: ended.map(|at| at * MS) }
}

fn full() -> Outcome {
    Outcome::Unanswered("429 Too Many Requests, subject_streams_full, Retry-After: 1".to_owned())
}

/// Subject 7 with the tokens 10 to 19, these streams in the logs, and a refusal at a time.
fn capped(streams: Vec<LoggedStream>, refused: u32) -> History {
    let mut history = history();
    history.subjects = (10..20).map(|token| (token, 7)).collect();
    history.operations.push(operation(Kind::OpenStream, 19, Endpoint::Balancer, refused, full()));
    history.logged_streams = streams;
    history
}

fn wrong_with(history: &History, control: Control) -> Vec<String> {
    check(history, of(control)).violations
}

#[test]
fn as_many_streams_as_a_cap_allows_are_not_complained_of() {
    let streams = vec![
        logged(0, 10, 1000, Some(2000)),
        logged(1, 11, 1000, Some(9000)),
        logged(2, 12, 2000, Some(9000)),
    ];
    let history = capped(streams, 3000);
    let verdict = check(&history, of(CAPS));
    assert_eq!(verdict.violations, Vec::<String>::new());
    let figures = verdict.summary.control;
    assert_eq!((figures.openings, figures.openings_refused, figures.full_subjects), (1, 1, 1));
}

#[test]
fn more_streams_than_a_cap_allows_are_found_in_the_logs_and_with_the_clients() {
    let streams = vec![logged(0, 10, 1000, Some(2001)), logged(1, 11, 1000, None), logged(2, 12, 2000, None)];
    let mut history = capped(streams, 3000);
    let words = "1 subjects with more streams than their cap: subject 7 at 2s with 3 by the logs";
    assert_eq!(wrong_with(&history, CAPS), [words]);
    history.logged_streams[0].ended = Some(2000 * MS);
    assert!(wrong_with(&history, CAPS).is_empty());
    history.client_streams = (10..13).map(|token| stream(token, Endpoint::Balancer, 1000, None)).collect();
    assert!(wrong_with(&history, CAPS)[0].ends_with("subject 7 at 1s with 3 by its clients"));
}

#[test]
fn a_stream_of_a_killed_instance_lasts_until_then() {
    let streams = vec![logged(0, 10, 1000, None), logged(1, 11, 1000, None), logged(2, 12, 4000, Some(9000))];
    let mut history = capped(streams, 2000);
    assert_eq!(wrong_with(&history, CAPS).len(), 1);
    history.outages.push(Outage { endpoint: at(0), from: 3999 * MS, until: Some(7000 * MS) });
    fault(&mut history);
    history.rounds[0].from = 3990 * MS;
    assert!(wrong_with(&history, CAPS).is_empty());
}

#[test]
fn a_refusal_three_seconds_after_a_place_became_free_is_found() {
    let refused = |sent| {
        let streams = vec![logged(0, 10, 1000, Some(4000)), logged(1, 11, 1000, None)];
        wrong_with(&capped(streams, sent), CAPS)
    };
    assert!(refused(6999).is_empty());
    let words = "1 refusals below a cap: subject 7 at 7s, with at most 1 streams since 3s before";
    assert_eq!(refused(7000), [words]);
    // Without a cap every such refusal is wrong.
    let streams = vec![logged(0, 10, 1000, None), logged(1, 11, 1000, None)];
    assert_eq!(wrong_with(&capped(streams, 3000), Control::Other).len(), 1);
}

/// Its place is taken at some time between its request and its log line.
#[test]
fn a_refusal_while_another_stream_of_the_subject_opens_is_right() {
    let wrong = |requested: Option<u32>| {
        let mut history = capped(vec![logged(0, 10, 1000, None), logged(1, 11, 3100, None)], 3000);
        let opening = |sent| operation(Kind::OpenStream, 11, Endpoint::Balancer, sent, Outcome::Yes);
        history.operations.extend(requested.map(opening));
        wrong_with(&history, CAPS).len()
    };
    assert_eq!((wrong(Some(2990)), wrong(Some(3090)), wrong(None)), (0, 1, 1));
}

#[test]
fn during_a_cut_each_side_has_a_cap_and_three_seconds_later_there_is_one_again() {
    let both = |last_ends, extra: Option<LoggedStream>| {
        let mut streams = vec![
            logged(0, 10, 1000, None),
            logged(1, 11, 1000, None),
            logged(2, 12, 6000, Some(last_ends)),
            logged(2, 13, 6000, Some(last_ends)),
        ];
        streams.extend(extra);
        let mut history = capped(streams, 2000);
        cut(&mut history, &[2]);
        wrong_with(&history, CAPS)
    };
    assert!(both(11_000, None).is_empty());
    assert!(both(11_002, None)[0].contains("subject 7 at 11.001s with 4 by the logs"));
    assert!(both(9000, Some(logged(1, 14, 7000, Some(7500))))[0].contains("at 7s with 3 by the logs"));
    assert!(both(9000, Some(logged(2, 14, 7000, Some(7500))))[0].contains("at 7s with 3 by the logs"));
}

#[test]
fn a_drill_that_does_not_reach_a_cap_proves_nothing() {
    let mut history = capped(vec![logged(0, 10, 1000, None), logged(1, 11, 1000, None)], 2000);
    assert!(wrong_with(&history, CAPS).is_empty());
    let more = Control::Caps(Caps { cap: 2, openings: 2 });
    assert!(wrong_with(&history, more)[0].starts_with("1 caps that were not tried: 1 of at least 2"));
    history.logged_streams.pop();
    assert!(wrong_with(&history, CAPS).iter().any(|words| words.contains("0 subjects with 2 streams")));
}

fn attempt(client: u8, sent: u32, outcome: TicketOutcome) -> TicketAttempt {
    TicketAttempt { ticket: 10, client, sent: sent * MS, answered: (sent + 5) * MS, outcome }
}

fn opened(until: u32) -> TicketOutcome {
    TicketOutcome::Opened(StreamEnd { at: until * MS, reason: None })
}

fn cut_at(until: u32) -> TicketOutcome {
    TicketOutcome::Opened(StreamEnd { at: until * MS, reason: Some("it was cut".to_owned()) })
}

fn lost() -> TicketOutcome {
    TicketOutcome::Lost("the client left".to_owned())
}

const REFUSED: TicketOutcome = TicketOutcome::Refused;

/// Ticket 10 with these attempts, and one whose client lost its answer and came back.
fn ticket(attempts: Vec<TicketAttempt>) -> History {
    let mut history = history();
    history.tickets = attempts;
    let other = [attempt(0, 1000, lost()), attempt(0, 1500, opened(2000)), attempt(1, 1600, REFUSED)];
    history.tickets.extend(other.map(|it| TicketAttempt { ticket: 11, ..it }));
    history
}

#[test]
fn a_ticket_that_one_of_three_opens_is_not_complained_of() {
    let history = ticket(vec![
        attempt(0, 1000, opened(3000)),
        attempt(1, 1001, REFUSED),
        attempt(2, 1002, REFUSED),
        attempt(3, 7000, REFUSED),
    ]);
    let verdict = check(&history, of(TICKETS));
    assert_eq!(verdict.violations, Vec::<String>::new());
    let figures = verdict.summary.control;
    assert_eq!((figures.tickets, figures.ticket_attempts, figures.tickets_refused), (2, 7, 4));
    assert_eq!((figures.tickets_resumed, figures.tickets_belated), (1, 1));
}

#[test]
fn a_ticket_with_two_streams_is_found() {
    let both = |second_opens| {
        let mut history = ticket(vec![attempt(0, 1000, opened(3000))]);
        history.logged_streams =
            vec![logged(0, 10, 1000, Some(3000)), logged(1, 10, second_opens, Some(9000))];
        history
    };
    assert!(wrong_with(&both(2980), TICKETS).is_empty());
    let words = "1 tickets with two streams: ticket 10 at 2.979s with 2 streams";
    assert_eq!(wrong_with(&both(2979), TICKETS), [words]);
    // Each side of a cut may open one, and one of the two ends after it.
    let mut history = both(6000);
    history.logged_streams[0].ended = Some(9000 * MS);
    cut(&mut history, &[1]);
    assert!(wrong_with(&history, TICKETS).is_empty());
    for stream in &mut history.logged_streams {
        stream.ended = Some(12_000 * MS);
    }
    assert_eq!(wrong_with(&history, TICKETS).len(), 1);
    history.logged_streams[1].instance = 0;
    history.logged_streams[0].ended = Some(9000 * MS);
    assert_eq!(wrong_with(&history, TICKETS).len(), 1, "both on one side");
}

#[test]
fn a_client_that_lost_its_answer_or_stream_and_is_refused_within_the_rule_is_found() {
    let refused = |first: TicketOutcome, sent| {
        wrong_with(&ticket(vec![attempt(0, 1000, first), attempt(0, sent, REFUSED)]), TICKETS)
    };
    for first in [lost(), cut_at(1200)] {
        let words = "1 tickets refused within the rule: ticket 10 by client 0 at 5.495s, 4.495s after";
        assert!(refused(first.clone(), 5495)[0].starts_with(words));
        assert!(refused(first, 5496).is_empty());
    }
}

#[test]
fn a_refusal_is_right_while_another_client_may_have_the_stream() {
    let refused = |other: TicketOutcome, sent| {
        let attempts = vec![attempt(0, 1000, lost()), attempt(1, 1010, other), attempt(0, sent, REFUSED)];
        wrong_with(&ticket(attempts), TICKETS).is_empty()
    };
    assert!(refused(opened(3000), 3500) && !refused(opened(3000), 3501));
    assert!(refused(lost(), 1515) && !refused(lost(), 1516));
    assert!(!refused(REFUSED, 2000));
    let nobody = ticket((0..3).map(|client| attempt(client, 1000, REFUSED)).collect());
    assert!(wrong_with(&nobody, TICKETS)[0].starts_with("3 tickets refused within the rule"));
}

#[test]
fn a_ticket_that_is_opened_too_late_is_found_unless_redis_failed() {
    let late = |sent| ticket(vec![attempt(0, 1000, opened(2000)), attempt(1, sent, opened(9000))]);
    assert!(wrong_with(&late(6505), TICKETS).is_empty());
    let words = "1 tickets opened too late: ticket 10 by client 1 at 6.506s";
    assert_eq!(wrong_with(&late(6506), TICKETS), [words]);
    let mut history = late(6506);
    cut(&mut history, &[0, 1, 2]);
    assert!(wrong_with(&history, TICKETS).is_empty());
}

#[test]
fn a_drill_without_enough_tickets_proves_nothing() {
    let history = ticket(vec![attempt(0, 1000, opened(2000))]);
    assert!(wrong_with(&history, TICKETS).is_empty());
    let more = Control::Tickets(3);
    assert!(wrong_with(&history, more)[0].starts_with("1 tickets that were not tried: 2 of at least 3"));
}

/// All instances are cut off from 5 s to 8 s, and refuse. These requests come in addition.
fn refusing(requests: Vec<Operation>) -> History {
    let mut history = history();
    cut(&mut history, &[0, 1, 2]);
    let kind = Kind::Issue { life: Duration::from_mins(1) };
    history.operations.extend([
        operation(kind, 2, Endpoint::Balancer, 6000, unavailable()),
        operation(Kind::Introspect, LOADED, at(0), 6000, unavailable()),
    ]);
    history.operations.extend(requests);
    history
}

fn unavailable() -> Outcome {
    Outcome::Unanswered("503 Service Unavailable, store_unavailable, Retry-After: 1".to_owned())
}

#[test]
fn refusals_while_redis_is_lost_are_not_complained_of_where_they_are_wanted() {
    let history = refusing(vec![operation(
        Kind::OpenStream,
        LOADED,
        Endpoint::Balancer,
        6000,
        Outcome::Unanswered(COME_BACK.to_owned()),
    )]);
    let verdict = check(&history, of(Control::Refuses));
    assert_eq!(verdict.violations, Vec::<String>::new());
    let figures = verdict.summary.control;
    assert_eq!((figures.unproven_refused, figures.issues_refused), (2, 1));
    assert_eq!(wrong_with(&history, Control::Other).len(), 2, "two kinds of requests without an answer");
}

#[test]
fn a_token_that_is_accepted_or_issued_without_redis_is_found() {
    let accepted = |kind, sent| {
        wrong_with(&refusing(vec![operation(kind, LOADED, at(1), sent, Outcome::Yes)]), Control::Refuses)
    };
    for kind in [Kind::Introspect, Kind::OpenStream, Kind::Issue { life: Duration::from_mins(1) }] {
        assert!(accepted(kind, 4999).is_empty() && accepted(kind, 7999).is_empty());
        assert!(accepted(kind, 5000)[0].starts_with("1 tokens accepted without Redis: token 1"));
    }
    let mut one_cut = refusing(vec![operation(Kind::Introspect, LOADED, at(1), 6000, Outcome::Yes)]);
    one_cut.partitions[0].cut = vec![0];
    assert!(wrong_with(&one_cut, Control::Refuses).is_empty());
}

#[test]
fn a_refusal_in_another_way_or_for_too_long_is_found() {
    let refused = |sent, outcome| {
        wrong_with(
            &refusing(vec![operation(Kind::Introspect, LOADED, at(0), sent, outcome)]),
            Control::Refuses,
        )
    };
    assert!(refused(6000, unavailable()).is_empty() && refused(11_000, unavailable()).is_empty());
    assert!(refused(11_001, unavailable())[0].starts_with("1 requests not answered"));
    assert!(refused(4000, unavailable())[0].starts_with("1 requests not answered"));
    for words in ["503 Service Unavailable, store_unavailable", "503 Service Unavailable, Retry-After: 1"] {
        let found = refused(6000, Outcome::Unanswered(words.to_owned()));
        assert!(found[0].starts_with("1 requests not answered"), "{found:?}");
    }
    assert!(refused(6000, Outcome::No)[0].starts_with("1 valid tokens refused"));
}

#[test]
fn a_fault_in_which_nothing_was_refused_proves_nothing() {
    let mut history = history();
    cut(&mut history, &[0, 1, 2]);
    assert!(wrong_with(&history, Control::Refuses)[0].starts_with("1 faults without refusals: from 5s"));
}

#[test]
fn streams_are_read_from_the_log_of_an_instance() {
    let line = |second: u32, message: &str, request: &str, token: &str| {
        let fields = if token.is_empty() {
            json!({ "message": message, "reason": "client" })
        } else {
            json!({ "message": message, "token_id": token })
        };
        let timestamp = format!("2026-11-28T08:13:{second}.824104Z");
        json!({ "timestamp": timestamp, "fields": fields, "span": { "id": request, "name": "request" } })
            .to_string()
    };
    let opened = "stream opened by token";
    let log = [
        line(38, opened, "a", "10"),
        "stream ended as text".to_owned(),
        line(39, opened, "b", "11"),
        line(40, opened, "c", "of somebody else"),
        line(41, "stream ended", "a", ""),
        line(42, "stream ended", "c", ""),
    ];
    let start = SystemTime::UNIX_EPOCH + Duration::new(1_795_853_610, 824_104_000);
    let read =
        logged_streams(&log.join("\n"), 2, |id| id.parse().ok(), |time| time.duration_since(start).ok());
    assert_eq!(read, [logged(2, 10, 8000, Some(11_000)), logged(2, 11, 9000, None)]);
}
