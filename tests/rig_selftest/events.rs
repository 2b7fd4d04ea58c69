//! The checker is shown sequences of events in which something is wrong, and some in which all is
//! as it should be.

use std::time::Duration;

use vx11_kit::{Answer, EventId, Standing};
use vx11_rig::{
    Attempt, Delivered, Deliveries, Endpoint, History, Kind, Message, Observation, Operation, Outage,
    Outcome, Publication, Round, StarvedTime, Targets, Verdict, check,
};

const MS: Duration = Duration::from_millis(1);
/// Events that are published, with the numbers from 0 and the places from 1 on.
const EVENTS: usize = 9;

/// A place in the first log.
fn at(position: usize) -> EventId {
    EventId { epoch: 1, millis: position as u64, seq: 0 }
}

/// A place in the log after it.
fn in_second_epoch(position: usize) -> EventId {
    EventId { epoch: 2, ..at(position) }
}

/// An attempt in the second `sent`, which takes 2 ms.
fn attempt(sent: u32, answer: Answer) -> Attempt {
    let sent = sent * 1000 * MS;
    Attempt { endpoint: Endpoint::Balancer, sent, answered: sent + 2 * MS, answer }
}

fn acknowledged(id: EventId) -> Answer {
    Answer::Acknowledged { id, replayed: false }
}

/// All events acknowledged, one a second, and one subscriber that got `messages`; something was
/// broken from 5 s to 6 s.
fn history(messages: Vec<Message>) -> History {
    let token = |kind| {
        let (due, sent, answered) = (MS, MS, 2 * MS);
        Operation { kind, token: 1, endpoint: Endpoint::Balancer, due, sent, answered, outcome: Outcome::Yes }
    };
    let publications = (0..EVENTS).zip(1..).map(|(number, second)| Publication {
        due: second * 1000 * MS,
        attempts: vec![attempt(second, acknowledged(at(number + 1)))],
        ..Publication::default()
    });
    History {
        operations: vec![token(Kind::Issue { life: 60_000 * MS }), token(Kind::Introspect)],
        publications: publications.collect(),
        observations: vec![Observation {
            at: MS,
            instance: 0,
            standing: Standing { on_redis: true, fallback_entries: 0 },
        }],
        rounds: vec![Round { from: 5000 * MS, back: Some(6000 * MS), over: Some(7000 * MS) }],
        deliveries: Deliveries {
            events: (0..EVENTS)
                .map(|number| Delivered { id: at(number + 1), number: Some(number), topic: None })
                .collect(),
            epochs: vec![1, 2],
            messages: vec![messages],
            ..Deliveries::default()
        },
        length: 10_000 * MS,
        ..History::default()
    }
}

fn judge(history: &History) -> Verdict {
    check(history, Targets::of_rounds(1))
}

fn violations(history: &History) -> Vec<String> {
    judge(history).violations
}

/// The one thing that is wrong with what a subscriber got.
fn violation(messages: Vec<Message>) -> String {
    let mut violations = violations(&history(messages));
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

fn greeting(position: usize) -> Message {
    Message::Greeting(Some(at(position)))
}

fn reset(id: EventId) -> Message {
    Message::Reset { id: Some(id), reason: "expired".to_owned() }
}

#[test]
fn a_subscriber_that_got_everything_in_one_stream_or_more_is_not_complained_of() {
    for messages in [
        vec![greeting(0), Message::Events(0..9)],
        vec![greeting(0), Message::Events(0..4), greeting(4), Message::Events(4..9)],
        vec![greeting(0), Message::Degraded, Message::Recovered, Message::Events(0..9)],
    ] {
        let verdict = judge(&history(messages));
        assert_eq!((verdict.summary.acknowledged, verdict.summary.events_lost), (9, 0));
    }
    assert_eq!(violations(&history(vec![greeting(0), Message::Events(0..9)])), Vec::<String>::new());
}

#[test]
fn an_event_that_is_missing_anywhere_is_found() {
    let missing = [
        vec![Message::Events(1..9)],
        vec![Message::Events(0..3), Message::Events(4..9)],
        vec![Message::Events(0..8)],
    ];
    for (events, number) in missing.into_iter().zip([0, 3, 8]) {
        let found = violation([vec![greeting(0)], events].concat());
        let words = format!("1 events acknowledged and lost: subscriber 0 did not get number {number},");
        assert!(found.starts_with(&words), "{found}");
    }
}

#[test]
fn an_event_that_is_skipped_by_a_greeting_is_lost_all_the_same() {
    let found = violation(vec![greeting(0), Message::Events(0..4), greeting(6), Message::Events(6..9)]);
    assert!(found.starts_with("2 events acknowledged and lost"), "{found}");
}

#[test]
fn what_was_published_before_the_first_greeting_is_not_expected_and_what_comes_next_is() {
    let messages = vec![greeting(4), Message::Events(4..9)];
    assert_eq!(violations(&history(messages)), Vec::<String>::new());
    let found = violation(vec![greeting(4), Message::Events(5..9)]);
    assert!(found.contains("did not get number 4,"), "{found}");
    // A stream that does not say where it begins.
    let messages = vec![Message::Greeting(None), Message::Events(2..9)];
    assert_eq!(violations(&history(messages)), Vec::<String>::new());
    let found = violation(vec![Message::Greeting(None), Message::Events(2..3), Message::Events(4..9)]);
    assert!(found.contains("did not get number 3,"), "{found}");
}

#[test]
fn an_event_that_comes_twice_is_found_under_the_same_id_and_under_another() {
    let found = violation(vec![greeting(0), Message::Events(0..6), greeting(6), Message::Events(5..9)]);
    assert!(found.starts_with("1 events received twice: subscriber 0 got number 5 again"), "{found}");
    let mut under_another = history(vec![greeting(0), Message::Events(0..10)]);
    under_another.deliveries.events.push(Delivered { id: at(10), number: Some(5), topic: None });
    let found = violations(&under_another);
    assert!(found[0].starts_with("1 events received twice"), "{found:?}");
    assert!(found[1].starts_with("1 events received under another id than acknowledged"), "{found:?}");
}

#[test]
fn an_event_that_comes_after_one_behind_it_is_found() {
    let messages = vec![
        greeting(0),
        Message::Events(0..3),
        Message::Events(4..5),
        Message::Events(3..4),
        Message::Events(5..9),
    ];
    let found = violation(messages);
    assert!(
        found.starts_with("1 events out of order: subscriber 0 got 00000001-4-0 after one at 5-0"),
        "{found}"
    );
}

#[test]
fn what_a_reset_announces_is_counted_apart_and_what_lies_before_or_behind_it_is_lost() {
    let announced = history(vec![greeting(0), Message::Events(0..3), reset(at(7)), Message::Events(7..9)]);
    let verdict = judge(&announced);
    assert_eq!(violations(&announced), Vec::<String>::new());
    assert_eq!((verdict.summary.events_announced, verdict.summary.resets), (4, 1));
    let bounded =
        |gaps| check(&announced, Targets { gaps: Some(gaps), ..Targets::of_rounds(1) }).violations.len();
    assert_eq!((bounded(4), bounded(3)), (0, 1));
    let behind = violation(vec![greeting(0), Message::Events(0..3), reset(at(7)), Message::Events(8..9)]);
    assert!(behind.contains("did not get number 7,"), "{behind}");
    let before = violation(vec![
        greeting(0),
        Message::Events(0..2),
        Message::Events(3..4),
        reset(at(7)),
        Message::Events(7..9),
    ]);
    assert!(before.contains("did not get number 2,"), "{before}");
}

#[test]
fn a_new_log_has_to_be_announced() {
    // The last three events are in another log, whose ids begin again.
    let with = |messages| {
        let mut history = history(messages);
        for number in 6..9 {
            history.deliveries.events[number].id = in_second_epoch(number - 5);
            history.publications[number].attempts[0].answer = acknowledged(in_second_epoch(number - 5));
        }
        violations(&history)
    };
    let lost = reset(in_second_epoch(1));
    assert_eq!(
        with(vec![greeting(0), Message::Events(0..4), lost.clone(), Message::Events(7..9)]),
        Vec::<String>::new()
    );
    assert_eq!(with(vec![greeting(0), Message::Events(0..4), Message::Events(7..9)]).len(), 1);
    assert_eq!(with(vec![greeting(0), Message::Events(0..4), lost]).len(), 1);
}

#[test]
fn an_event_that_was_never_acknowledged_may_come_once_or_not_at_all() {
    let unknown = |messages| {
        let mut history = history(messages);
        history.publications[5].attempts = vec![attempt(5, Answer::Unknown)];
        violations(&history)
    };
    for messages in [vec![Message::Events(0..9)], vec![Message::Events(0..5), Message::Events(6..9)]] {
        let found = unknown([vec![greeting(0)], messages].concat());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("1 events never acknowledged: number 5"), "{found:?}");
    }
    let twice = unknown(vec![greeting(0), Message::Events(0..6), Message::Events(5..9)]);
    assert!(twice[0].starts_with("1 events received twice"), "{twice:?}");
}

#[test]
fn events_of_others_are_nobodys_loss_and_have_their_order_too() {
    let with = |messages| {
        let mut history = history(messages);
        let id = EventId { seq: 1, ..at(9) };
        history.deliveries.events.push(Delivered { id, number: None, topic: None });
        violations(&history)
    };
    assert_eq!(with(vec![greeting(0), Message::Events(0..9)]), Vec::<String>::new());
    assert_eq!(with(vec![greeting(0), Message::Events(0..10)]), Vec::<String>::new());
    let disordered = with(vec![
        greeting(0),
        Message::Events(0..9),
        greeting(9),
        Message::Events(9..10),
        Message::Events(9..10),
    ]);
    assert!(disordered[0].starts_with("1 events out of order"), "{disordered:?}");
}

#[test]
fn a_stream_that_is_left_without_the_word_that_the_log_is_back_is_found() {
    let found = violation(vec![greeting(0), Message::Events(0..9), Message::Degraded]);
    assert!(found.contains("left with the word that the log cannot be reached: subscriber 0"), "{found}");
    let greeted_again = vec![greeting(0), Message::Events(0..9), Message::Degraded, greeting(9)];
    assert_eq!(violations(&history(greeted_again)), Vec::<String>::new());
}

/// With the attempts of number 4 in place of the one in the fifth second.
fn with_attempts(attempts: Vec<Attempt>) -> History {
    let mut history = history(vec![greeting(0), Message::Events(0..9)]);
    history.publications[4].attempts = attempts;
    history
}

#[test]
fn an_event_that_is_repeated_is_known_under_its_id() {
    let repeated =
        |answer| violations(&with_attempts(vec![attempt(5, acknowledged(at(5))), attempt(6, answer)]));
    assert_eq!(repeated(Answer::Acknowledged { id: at(5), replayed: true }), Vec::<String>::new());
    let other = repeated(Answer::Acknowledged { id: at(6), replayed: true });
    assert!(other[0].starts_with("1 events acknowledged twice as different ones: number 4 was"), "{other:?}");
    let unknown = repeated(acknowledged(at(5)));
    assert!(unknown[0].contains("number 4 was not known to be 00000001-5-0"), "{unknown:?}");
}

#[test]
fn publishing_may_be_refused_while_something_is_broken_and_not_otherwise() {
    let refused = |second, answer: &Answer| {
        with_attempts(vec![attempt(second, answer.clone()), attempt(9, acknowledged(at(5)))])
    };
    let judge = |history: &History, refusals| {
        let targets = Targets { refusals, ..Targets::of_rounds(1) };
        let is_unanswered = |it: &&String| it.contains("not answered") || it.contains("nobody knew in time");
        check(history, targets).violations.iter().filter(is_unanswered).count()
    };
    for (second, answer, found) in [
        (5, Answer::Refused, [0, 1]),
        (3, Answer::Refused, [1, 1]),
        (5, Answer::Unknown, [0, 0]),
        (3, Answer::Unknown, [1, 1]),
        (5, Answer::Unanswered("reset".to_owned()), [1, 1]),
    ] {
        let history = refused(second, &answer);
        assert_eq!(
            [judge(&history, Some(Duration::ZERO)), judge(&history, None)],
            found,
            "{answer:?} at {second} s"
        );
    }
    let mut excused = refused(5, &Answer::Unanswered("reset".to_owned()));
    excused.outages.push(Outage { endpoint: Endpoint::Balancer, from: 5000 * MS, until: Some(5001 * MS) });
    assert_eq!(judge(&excused, None), 0);
}

#[test]
fn an_outcome_that_is_unknown_because_the_machine_was_busy_is_nobodys_fault() {
    let slow = Attempt { answered: 3200 * MS, ..attempt(3, Answer::Unknown) };
    let mut history = with_attempts(vec![slow, attempt(9, acknowledged(at(5)))]);
    let found = violations(&history);
    assert!(
        found[0].starts_with("1 events of which nobody knew in time what became: number 4 published on"),
        "{found:?}"
    );
    history.starvation = vec![StarvedTime { from: 3010 * MS, until: 3100 * MS }];
    assert_eq!(violations(&history), Vec::<String>::new());
}

#[test]
fn deliveries_that_take_longer_during_a_fault_are_found_and_the_time_after_it_is_no_comparison() {
    let mut history = history(vec![greeting(0), Message::Events(0..9)]);
    for (due, took) in [(2, 10), (5, 11), (7, 500)] {
        history.deliveries.took(due * 1000 * MS, took * MS);
    }
    let judge = |times| {
        let targets = Targets { delivery_times: Some(times), ..Targets::of_rounds(1) };
        check(&history, targets).violations.iter().filter(|it| it.contains("p99 of deliveries")).count()
    };
    assert_eq!((judge(1.2), judge(1.05)), (0, 1));
}

#[test]
fn the_time_without_publishing_is_from_the_first_refusal_to_the_next_acknowledgement_of_any_event() {
    let unavailable = |attempts| judge(&with_attempts(attempts)).summary.publishing_unavailable;
    assert_eq!(unavailable(vec![attempt(5, acknowledged(at(5)))]), Some(Duration::ZERO));
    let refused = || vec![attempt(5, Answer::Refused), attempt(9, acknowledged(at(5)))];
    // The sixth second has a separate acknowledgement.
    assert_eq!(unavailable(refused()), Some(1000 * MS));
    let mut history = with_attempts(refused());
    history.publications[5].attempts = vec![attempt(8, acknowledged(at(6)))];
    history.publications[6].attempts = vec![attempt(8, acknowledged(at(7)))];
    assert_eq!(judge(&history).summary.publishing_unavailable, Some(3000 * MS));
    history.publications.truncate(5);
    history.publications[4].attempts.truncate(1);
    assert_eq!(judge(&history).summary.publishing_unavailable, None);
}
