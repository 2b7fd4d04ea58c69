//! Commands about subjects.

use std::time::Duration;

use vx11_rig::{
    CommandKind, Endpoint, History, Kind, Operation, Outage, Outcome, StreamEnd, Subject, SubjectCommand,
    check,
};

use super::{
    INSTANCES, MS, at, closed, cut, ended, fault, found, history, issue, nothing_in, only, operation, stream,
    targets,
};

const BLOCK: CommandKind = CommandKind::Block(Duration::from_hours(1));

fn command(kind: CommandKind, subject: Subject, endpoint: Endpoint, sent: u32) -> SubjectCommand {
    let sent = sent * MS;
    SubjectCommand { kind, subject, endpoint, sent, answered: sent + 5 * MS, outcome: Outcome::Yes }
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
