//! Instances that refuse while they cannot use Redis.

use std::time::Duration;

use vx11_kit::COME_BACK;
use vx11_rig::{Control, Endpoint, History, Kind, Operation, Outcome, check};

use super::{LOADED, at, cut, history, of, operation, wrong_with};

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
