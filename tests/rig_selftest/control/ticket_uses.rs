//! Tickets that are used through `authorise`.

use vx11_rig::{Control, History, Outcome, TicketUse, check};

use super::{MS, at, cut, history, of, wrong_with};

/// Uses are judged also where no tickets have to be opened.
const NONE_NEEDED: Control = Control::Other;

fn used(request: u8, instance: usize, sent: u32, outcome: Outcome) -> TicketUse {
    TicketUse {
        ticket: 10,
        request,
        endpoint: at(instance),
        sent: sent * MS,
        answered: (sent + 2) * MS,
        outcome,
    }
}

fn accepted(request: u8, instance: usize, sent: u32) -> TicketUse {
    used(request, instance, sent, Outcome::Yes)
}

fn refused(request: u8, instance: usize, sent: u32) -> TicketUse {
    used(request, instance, sent, Outcome::No)
}

fn uses(ticket_uses: Vec<TicketUse>) -> History {
    History { ticket_uses, ..history() }
}

fn wrong(ticket_uses: Vec<TicketUse>) -> Vec<String> {
    wrong_with(&uses(ticket_uses), NONE_NEEDED)
}

#[test]
fn a_ticket_that_one_request_uses_and_repeats_is_not_complained_of() {
    let history = uses(vec![
        accepted(0, 0, 1000),
        refused(1, 1, 1001),
        accepted(0, 1, 3000),
        refused(1, 2, 3000),
        refused(0, 0, 6100),
    ]);
    let verdict = check(&history, of(NONE_NEEDED));
    assert_eq!(verdict.violations, Vec::<String>::new());
    let figures = verdict.summary.control;
    assert_eq!((figures.ticket_uses, figures.ticket_uses_repeated, figures.ticket_uses_refused), (1, 1, 3));
}

#[test]
fn a_ticket_that_two_requests_use_is_found_unless_an_instance_was_alone() {
    let mut history = uses(vec![accepted(0, 0, 1000), accepted(1, 2, 5500)]);
    let words = "1 tickets that two requests used: ticket 10 by request 1 on instance 2 at 5.5s";
    assert_eq!(wrong_with(&history, NONE_NEEDED), [words]);
    cut(&mut history, &[2]);
    assert!(wrong_with(&history, NONE_NEEDED).is_empty());
    // The first request then finds the ticket used there, too.
    history.ticket_uses.push(refused(0, 2, 5600));
    assert!(wrong_with(&history, NONE_NEEDED).is_empty());
}

#[test]
fn a_repetition_that_is_accepted_too_late_is_found() {
    assert!(wrong(vec![accepted(0, 0, 1000), accepted(0, 1, 6002)]).is_empty());
    let late = wrong(vec![accepted(0, 0, 1000), accepted(0, 1, 6003)]);
    assert!(late[0].starts_with("1 tickets that a request used too late: ticket 10 by request 0"));
}

#[test]
fn a_repetition_that_is_refused_in_time_is_found() {
    let words = "1 requests refused within the rule: ticket 10 by request 0 on instance 1 at 5.978s";
    assert_eq!(wrong(vec![accepted(0, 0, 1000), refused(0, 1, 5978)]), [words]);
    assert!(wrong(vec![accepted(0, 0, 1000), refused(0, 1, 5979)]).is_empty());
    // Also by an instance that knows of another request, which was refused.
    assert_eq!(wrong(vec![accepted(0, 0, 1000), refused(1, 1, 1001), refused(0, 1, 2000)]).len(), 1);
}

#[test]
fn a_ticket_that_every_request_is_refused_is_found_unless_an_answer_was_lost() {
    let unanswered =
        |request, sent| used(request, 0, sent, Outcome::Unanswered("connection closed".to_owned()));
    assert_eq!(wrong(vec![refused(0, 0, 1000), refused(1, 1, 1001)]).len(), 1);
    assert_eq!(wrong(vec![unanswered(0, 1000), refused(1, 1, 1001)]).len(), 0);
}

#[test]
fn too_few_tickets_prove_nothing() {
    let history = uses(vec![accepted(0, 0, 1000)]);
    let found = wrong_with(&history, Control::Tickets(20));
    assert!(found.iter().any(|words| words.contains("1 of at least 2 by authorise")), "{found:?}");
}
