//! Tickets that open streams.

use vx11_rig::{
    Control, History, LoggedStream, Outage, StarvedTime, StreamEnd, Targets, TicketAttempt, TicketOutcome,
    Times, check,
};

use super::{MS, at, cut, history, logged, of, wrong_with};

const TICKETS: Control = Control::Tickets(1);
const REFUSED: TicketOutcome = TicketOutcome::Refused;

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

/// Ticket 10 with these attempts and streams, and another one as it should be: of three clients at
/// once one gets the stream, one is refused, and one that loses its answer gets it afterwards.
fn ticket(attempts: Vec<TicketAttempt>, streams: Vec<LoggedStream>) -> History {
    let mut history = history();
    history.tickets = attempts;
    history.logged_streams = streams;
    let other = [
        attempt(0, 1000, opened(2000)),
        attempt(1, 1001, lost()),
        attempt(2, 1002, REFUSED),
        attempt(1, 2100, opened(2500)),
    ];
    history.tickets.extend(other.map(|it| TicketAttempt { ticket: 11, ..it }));
    history.logged_streams.extend([logged(0, 11, 1003, Some(2000)), logged(1, 11, 2103, Some(2500))]);
    history
}

fn wrong(attempts: Vec<TicketAttempt>, streams: Vec<LoggedStream>) -> Vec<String> {
    wrong_with(&ticket(attempts, streams), TICKETS)
}

#[test]
fn a_ticket_that_one_of_three_opens_is_not_complained_of() {
    let attempts = vec![
        attempt(0, 1000, opened(3000)),
        attempt(1, 1001, REFUSED),
        attempt(2, 1002, REFUSED),
        attempt(3, 7000, REFUSED),
    ];
    let verdict = check(&ticket(attempts, vec![logged(0, 10, 1003, Some(3000))]), of(TICKETS));
    assert_eq!(verdict.violations, Vec::<String>::new());
    let figures = verdict.summary.control;
    assert_eq!((figures.tickets, figures.tickets_raced_for, figures.ticket_attempts), (2, 2, 8));
    assert_eq!((figures.tickets_refused, figures.tickets_resumed, figures.tickets_belated), (4, 1, 1));
}

#[test]
fn a_ticket_with_two_streams_is_found() {
    let both = |second_opens| {
        let streams = vec![logged(0, 10, 1000, Some(3000)), logged(1, 10, second_opens, Some(9000))];
        ticket(vec![attempt(0, 1000, opened(3000))], streams)
    };
    assert!(wrong_with(&both(2980), TICKETS).is_empty());
    let words = "1 tickets with two streams: ticket 10 at 2.979s with 2 streams";
    assert_eq!(wrong_with(&both(2979), TICKETS), [words]);
    // Each side of a cut may open one, and one of the two ends after it.
    let mut history = both(6000);
    history.logged_streams[0].ended = Some(9000 * MS);
    cut(&mut history, &[1]);
    assert!(wrong_with(&history, TICKETS).is_empty());
    for stream in &mut history.logged_streams[..2] {
        stream.ended = Some(12_000 * MS);
    }
    assert_eq!(wrong_with(&history, TICKETS).len(), 1);
    history.logged_streams[1].instance = 0;
    history.logged_streams[0].ended = Some(9000 * MS);
    assert_eq!(wrong_with(&history, TICKETS).len(), 1, "both on one side");
}

#[test]
fn a_ticket_with_two_streams_is_late_where_an_instance_was_starved() {
    let streams = vec![logged(0, 10, 1000, Some(3000)), logged(1, 10, 2500, Some(2600))];
    let mut history = ticket(vec![attempt(0, 1000, opened(3000))], streams);
    history.starvation.push(StarvedTime { from: 2100 * MS, until: 2200 * MS });
    let reported = Targets { times: Times::AreReported, ..of(TICKETS) };
    let verdict = check(&history, reported);
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(
        verdict.late[0].starts_with("1 tickets with two streams on starved instances: ticket 10 at 2.5s")
    );
    assert_eq!(wrong_with(&history, TICKETS).len(), 1);
    history.starvation.clear();
    assert_eq!(check(&history, reported).violations.len(), 1);
}

#[test]
fn a_client_that_lost_its_answer_or_stream_and_is_refused_within_the_rule_is_found() {
    for (first, stream) in [(lost(), None), (cut_at(1200), Some(logged(0, 10, 1003, Some(1200))))] {
        let refused = |sent| {
            let attempts = vec![attempt(0, 1000, first.clone()), attempt(0, sent, REFUSED)];
            wrong(attempts, stream.iter().cloned().collect())
        };
        let words = "1 tickets refused within the rule: ticket 10 by client 0 at 5.975s, 4.975s after";
        assert!(refused(5975)[0].starts_with(words));
        assert!(refused(5976).is_empty());
    }
}

#[test]
fn a_refusal_is_right_while_another_client_has_the_stream() {
    let refused = |other: TicketOutcome, ends: u32, sent| {
        let attempts = vec![attempt(0, 1000, lost()), attempt(1, 1010, other), attempt(0, sent, REFUSED)];
        wrong(attempts, vec![logged(1, 10, 1012, Some(ends))]).is_empty()
    };
    assert!(refused(opened(3000), 3000, 3020) && !refused(opened(3000), 3000, 3021));
    assert!(refused(lost(), 1015, 1035) && !refused(lost(), 1015, 1036));
    // An instance that does not notice that the client left does not excuse a refusal.
    assert!(!refused(opened(3000), 5000, 3021) && !refused(lost(), 5000, 1036));
    assert!(!refused(REFUSED, 5000, 1200));
}

#[test]
fn a_refusal_of_all_clients_is_found() {
    let nobody = (0..3).map(|client| attempt(client, 1000, REFUSED)).collect();
    assert!(wrong(nobody, Vec::new())[0].starts_with("3 tickets refused within the rule"));
}

#[test]
fn a_refusal_long_after_the_stream_of_another_client_ended_is_found() {
    let waited = |answered| {
        let refused = TicketAttempt { answered: answered * MS, ..attempt(1, 1001, REFUSED) };
        let attempts = vec![attempt(0, 1000, opened(2000)), refused];
        wrong(attempts, vec![logged(0, 10, 1003, Some(2000))]).is_empty()
    };
    assert!(waited(3020) && !waited(3021));
}

#[test]
fn an_instance_without_a_processor_may_notice_late_that_a_client_left() {
    let mut history = ticket(
        vec![attempt(0, 1000, opened(3000)), attempt(1, 3300, REFUSED)],
        vec![logged(0, 10, 1003, Some(3400))],
    );
    assert_eq!(wrong_with(&history, TICKETS).len(), 1);
    history.starvation.push(StarvedTime { from: 3000 * MS, until: 3300 * MS });
    assert!(wrong_with(&history, TICKETS).is_empty());
}

/// Opened at 1 s on the first instance, and again at this time.
fn late(sent: u32) -> History {
    let attempts = vec![attempt(0, 1000, opened(2000)), attempt(1, sent, opened(15_000))];
    ticket(attempts, vec![logged(0, 10, 1003, Some(2000))])
}

#[test]
fn a_ticket_that_is_opened_too_late_is_found() {
    assert!(wrong_with(&late(6023), TICKETS).is_empty());
    let words = "1 tickets opened too late: ticket 10 by client 1 at 6.024s";
    assert_eq!(wrong_with(&late(6024), TICKETS), [words]);
    let first = opened(2000);
    let logged_at = |opened| {
        let streams = vec![logged(0, 10, 1003, Some(2000)), logged(2, 10, opened, Some(7000))];
        wrong(vec![attempt(0, 1000, first.clone())], streams)
    };
    assert!(logged_at(6503).is_empty());
    assert_eq!(logged_at(6504), ["1 tickets opened too late: ticket 10 on instance 2 at 6.504s"]);
}

#[test]
fn a_ticket_may_be_opened_late_without_redis_or_if_nobody_knows_of_its_use_any_more() {
    let mut during = late(6506);
    cut(&mut during, &[0, 1, 2]);
    assert!(wrong_with(&during, TICKETS).is_empty());
    let mut after = late(12_000);
    cut(&mut after, &[0, 1, 2]);
    assert_eq!(wrong_with(&after, TICKETS).len(), 1);
    after.outages.push(Outage { endpoint: at(0), from: 4000 * MS, until: Some(4500 * MS) });
    assert!(wrong_with(&after, TICKETS).is_empty());
    after.partitions.clear();
    assert_eq!(wrong_with(&after, TICKETS).len(), 1, "Redis knows of it");
}

#[test]
fn tickets_that_three_clients_do_not_open_at_once_prove_nothing() {
    let alone = ticket(vec![attempt(0, 1000, opened(2000))], vec![logged(0, 10, 1003, Some(2000))]);
    assert!(wrong_with(&alone, TICKETS).is_empty());
    let more = Control::Tickets(2);
    assert!(wrong_with(&alone, more)[0].starts_with("1 tickets that were not tried: 1 of at least 2"));
}
