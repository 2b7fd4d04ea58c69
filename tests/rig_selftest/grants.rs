//! The checker is shown sequences of subscribers with a grant in which something is wrong, and some
//! in which all is as it should be. Grants that a load draws are compared with the service's rules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use vx11_kit::{Answer, EventId, Standing};
use vx11_operator::topic;
use vx11_rig::{
    Attempt, Delivered, Deliveries, Endpoint, Grant, History, Kind, Message, Observation, Operation, Outcome,
    Publication, Round, Summary, Targets, TopicLoad, TopicSpace, Trespass, check, matches,
};

const MS: Duration = Duration::from_millis(1);
/// Topics of the events, which have the numbers from 0 and the places from 1 on.
const TOPICS: [&[&str]; 8] = [
    &["orders/1"],
    &["orders/1/items"],
    &["users/7"],
    &[],
    &["users/7", "orders/2"],
    &["orders"],
    &["orders/1"],
    &["order/1"],
];

/// A place in the log.
fn at(position: usize) -> EventId {
    EventId { epoch: 1, millis: position as u64, seq: 0 }
}

/// Topic by which a reader of `orders/*` gets an event, or else the first one.
fn shown(topics: &[&str]) -> Option<Arc<str>> {
    let below_orders = topics.iter().find(|topic| topic.starts_with("orders/"));
    below_orders.or(topics.first()).map(|topic| Arc::from(*topic))
}

/// All events acknowledged, and one subscriber that got `messages`.
fn history(messages: Vec<Message>) -> History {
    let token = |kind| {
        let (due, sent, answered) = (MS, MS, 2 * MS);
        Operation { kind, token: 1, endpoint: Endpoint::Balancer, due, sent, answered, outcome: Outcome::Yes }
    };
    let publications = TOPICS.iter().zip(1..).map(|(topics, position)| {
        let answer = Answer::Acknowledged { id: at(position), replayed: false };
        let attempt = Attempt { endpoint: Endpoint::Balancer, sent: 10 * MS, answered: 12 * MS, answer };
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Publication { due: 10 * MS, topics, attempts: vec![attempt] }
    });
    let events = TOPICS.iter().enumerate().map(|(number, topics)| Delivered {
        id: at(number + 1),
        number: Some(number),
        topic: shown(topics),
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
            events: events.collect(),
            epochs: vec![1],
            messages: vec![messages],
            ..Deliveries::default()
        },
        length: 10_000 * MS,
        ..History::default()
    }
}

fn violations(messages: Vec<Message>) -> Vec<String> {
    check(&history(messages), Targets::of_rounds(1)).violations
}

/// Figures of a subscriber without a violation.
fn faultless(messages: Vec<Message>) -> Summary {
    let verdict = check(&history(messages), Targets::of_rounds(1));
    assert_eq!(verdict.violations, Vec::<String>::new());
    verdict.summary
}

/// The one thing that is wrong.
fn violation(messages: Vec<Message>) -> String {
    let mut violations = violations(messages);
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

fn began(patterns: &[&str], after: Option<usize>) -> Message {
    let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    Message::Began { patterns: patterns.into(), after: after.map(at) }
}

fn greeting(position: usize) -> Message {
    Message::Greeting(Some(at(position)))
}

/// The events with these numbers.
fn got(numbers: &[usize]) -> Vec<Message> {
    numbers.iter().map(|number| Message::Events(*number..number + 1)).collect()
}

/// A reader of all orders that gets these events.
fn reads_orders(numbers: &[usize]) -> Vec<Message> {
    [vec![began(&["orders/*"], None), greeting(0)], got(numbers)].concat()
}

/// The numbers of the events below `orders`.
const ORDERS: [usize; 4] = [0, 1, 4, 6];

#[test]
fn a_subscriber_that_got_the_events_of_its_topics_is_not_complained_of() {
    let summary = faultless(reads_orders(&ORDERS));
    assert_eq!((summary.judged, summary.foreign, summary.events_lost), (8, 0, 0));
    assert_eq!((summary.begun, summary.others_ids), (1, 0));
    let everything = [vec![began(&["orders/1", "users/*", "*"], None), greeting(0)], got(&[0, 1, 2, 3])];
    faultless([everything.concat(), vec![began(&["users/8"], Some(4))]].concat());
}

#[test]
fn an_event_beyond_a_grant_is_found() {
    for (number, topics) in [(2, "users/7"), (3, "default"), (5, "orders"), (7, "order/1")] {
        let mut numbers = ORDERS.to_vec();
        numbers.push(number);
        numbers.sort_unstable();
        let found = violation(reads_orders(&numbers));
        let words =
            format!("1 events received beyond a grant: subscriber 0 got {} of {topics}", at(number + 1));
        assert_eq!(found, words);
        assert_eq!(check(&history(reads_orders(&numbers)), Targets::of_rounds(1)).summary.foreign, 1);
    }
}

#[test]
fn an_event_beyond_the_patterns_that_a_stream_names_is_found() {
    let narrowed =
        |numbers: &[usize]| [vec![began(&["orders/1/*"], None), greeting(0)], got(numbers)].concat();
    faultless(narrowed(&[1]));
    let found = violation(narrowed(&[0, 1]));
    assert!(found.starts_with("1 events received beyond a grant"), "{found}");
}

#[test]
fn an_event_that_is_missing_is_found_for_those_whom_it_is_for() {
    for missing in ORDERS {
        let others: Vec<_> = ORDERS.into_iter().filter(|number| *number != missing).collect();
        let found = violation(reads_orders(&others));
        let words = format!("1 events acknowledged and lost: subscriber 0 did not get number {missing},");
        assert!(found.starts_with(&words), "{found}");
    }
}

#[test]
fn an_event_that_comes_twice_is_found_also_by_another_of_its_topics() {
    let found = violation(reads_orders(&[0, 1, 4, 4, 6]));
    assert!(found.starts_with("1 events received twice: subscriber 0 got number 4 again"), "{found}");
    let of_both = [vec![began(&["users/7", "orders/2"], Some(4))], got(&[8, 4])].concat();
    let mut history = history(of_both);
    history
        .deliveries
        .events
        .push(Delivered { topic: Some("users/7".into()), ..history.deliveries.events[4].clone() });
    let found = check(&history, Targets::of_rounds(1)).violations;
    assert!(found[0].starts_with("1 events received twice"), "{found:?}");
}

#[test]
fn an_event_that_comes_as_of_another_topic_than_the_first_that_matches_is_found() {
    let found = violation([vec![began(&["users/7", "orders/2"], Some(4))], got(&[4])].concat());
    assert!(found.starts_with("1 events received as of another topic: subscriber 0 got"), "{found}");
    assert!(found.ends_with("of users/7 orders/2 as of orders/2"), "{found}");
}

#[test]
fn a_subscriber_with_a_plain_token_reads_default() {
    faultless([vec![greeting(0)], got(&[3])].concat());
    let found = violation([vec![greeting(0)], got(&[3, 6])].concat());
    assert!(found.starts_with("1 events received beyond a grant"), "{found}");
    assert_eq!(faultless([vec![greeting(0)], got(&[3])].concat()).judged, 0, "it has no grant");
}

#[test]
fn a_heartbeat_moves_the_position_and_excuses_no_missing_event() {
    let with = |numbers: &[usize], position, later: &[usize]| {
        [reads_orders(numbers), vec![Message::Position(at(position))], got(later)].concat()
    };
    faultless(with(&[0, 1], 4, &[4, 6]));
    let passed_over = violation(with(&[0], 4, &[4, 6]));
    assert!(passed_over.contains("did not get number 1,"), "{passed_over}");
    let behind = violation(with(&[0], 4, &[1, 4, 6]));
    assert!(behind.starts_with("1 events out of order"), "{behind}");
}

#[test]
fn a_stream_at_somebody_else_s_event_id_gets_what_follows_and_only_that_is_due() {
    // It leaves at event 2 (place 2), and goes back to the beginning, or on to place 6.
    let back = [reads_orders(&[0, 1]), vec![began(&["orders/*"], Some(0))], got(&ORDERS)].concat();
    let summary = faultless(back);
    assert_eq!((summary.judged, summary.begun, summary.others_ids), (2 + 8, 2, 1));
    let ahead = [reads_orders(&[0, 1]), vec![began(&["orders/*"], Some(6))], got(&[6])].concat();
    assert_eq!(faultless(ahead).judged, 2 + 2);
    let missing = [reads_orders(&[0, 1]), vec![began(&["orders/*"], Some(0))], got(&[0, 4, 6])].concat();
    assert!(violation(missing).contains("did not get number 1,"));
    let again = [reads_orders(&[0, 1]), vec![began(&["orders/*"], Some(2))], got(&[1, 4, 6])].concat();
    assert!(violation(again).starts_with("1 events out of order"), "it had asked for what follows");
}

#[test]
fn a_subscriber_that_leaves_owes_what_came_before_its_position_and_nothing_after_it() {
    let leaves_at = |numbers: &[usize], position| {
        let rest = vec![Message::Position(at(position)), began(&["nothing"], Some(position))];
        [reads_orders(numbers), rest].concat()
    };
    faultless(leaves_at(&[0, 1], 4));
    let found = violation(leaves_at(&[0, 1], 5));
    assert!(found.contains("did not get number 4,"), "{found}");
}

#[test]
fn a_subscriber_that_never_opens_its_next_stream_is_found() {
    let found = violation([reads_orders(&ORDERS), vec![began(&["users/*"], Some(2))]].concat());
    assert!(found.starts_with("2 events acknowledged and lost"), "{found}");
}

#[test]
fn a_reset_announces_losses_of_its_topics_only_and_what_it_announces_is_not_judged() {
    let reset = Message::Reset { id: Some(at(6)), reason: "expired".to_owned() };
    let summary = faultless([reads_orders(&[0]), vec![reset], got(&[6])].concat());
    assert_eq!((summary.events_announced, summary.judged), (2, 3));
}

#[test]
fn too_few_judged_events_are_found() {
    let judge = |judged| check(&history(reads_orders(&ORDERS)), Targets { judged, ..Targets::of_rounds(1) });
    assert_eq!(judge(8).violations, Vec::<String>::new());
    let found = judge(9).violations;
    assert!(found[0].contains("8, at least 9 are needed"), "{found:?}");
}

#[test]
fn a_request_beyond_a_grant_that_opens_a_stream_is_found_and_so_are_requests_that_nobody_refuses() {
    let tried = |outcomes: &[Outcome]| {
        let mut history = history(reads_orders(&ORDERS));
        let trespass = |outcome: &Outcome| Trespass {
            at: 100 * MS,
            subscriber: 0,
            way: "with another token's grant",
            outcome: outcome.clone(),
        };
        history.trespasses = outcomes.iter().map(trespass).collect();
        check(&history, Targets::of_rounds(1))
    };
    let unanswered = || Outcome::Unanswered("503".to_owned());
    let refused = tried(&[Outcome::No, unanswered()]);
    assert_eq!((refused.violations.len(), refused.summary.trespasses_refused), (0, 1));
    let accepted = tried(&[Outcome::No, Outcome::Yes]);
    let words = "1 requests beyond a grant accepted: subscriber 0 at 100ms with another token's grant";
    assert_eq!(accepted.violations, [words]);
    assert_eq!(accepted.summary.trespasses_accepted, 1);
    let void = tried(&[unanswered()]).violations;
    assert!(void[0].contains("never refused"), "{void:?}");
}

#[test]
fn a_pattern_matches_a_topic_or_whatever_is_below_a_prefix() {
    for (pattern, topic, does) in [
        ("orders", "orders", true),
        ("orders", "orders/1", false),
        ("orders/*", "orders/1", true),
        ("orders/*", "orders/1/2/3", true),
        ("orders/*", "orders", false),
        ("orders/*", "orders2/1", false),
        ("order/*", "orders/1", false),
        ("orders/1", "orders/10", false),
        ("*", "a/b", true),
        ("*", "$streams/opened", false),
        ("$streams/*", "$streams/opened", true),
    ] {
        assert_eq!(matches(pattern, topic), does, "{pattern} {topic}");
    }
}

const LOAD: TopicLoad = TopicLoad { topics: 300, stays: Duration::from_secs(40) };

fn patterns<'a>(texts: impl IntoIterator<Item = &'a String>) -> topic::Patterns {
    topic::Patterns::new(texts.into_iter().map(String::as_str)).expect("the service takes patterns of a load")
}

#[test]
fn the_topics_of_a_load_are_different_and_the_service_takes_them() {
    let space = TopicSpace::of(LOAD);
    let topics: BTreeSet<_> = space.topics().collect();
    assert_eq!(topics.len(), LOAD.topics);
    for name in topics {
        assert!(topic::Topics::new([name]).is_ok(), "{name}");
    }
    let mut rng = Rng::with_seed(1);
    let drawn: Vec<_> = (0..1000).map(|_| space.of_event(&mut rng)).collect();
    for topics in drawn.iter().filter(|topics| !topics.is_empty()) {
        assert!(topic::Topics::new(topics.iter().map(String::as_str)).is_ok(), "{topics:?}");
    }
    for number in 0..=4 {
        assert!(drawn.iter().any(|topics| topics.len() == number), "events of {number} topics");
    }
}

#[test]
fn grants_of_a_load_come_from_its_seed_and_what_streams_name_is_within_them_or_beyond() {
    let (space, mut rng, mut same) = (TopicSpace::of(LOAD), Rng::with_seed(7), Rng::with_seed(7));
    for number in 0..1000 {
        let draw = |rng: &mut Rng| Grant::draw(&space, format!("subject-{number}"), rng);
        let grant = draw(&mut rng);
        assert_eq!(grant, draw(&mut same));
        let own = patterns(grant.patterns().iter());
        let (narrowing, beyond) = (grant.narrowing(&space, &mut rng), grant.beyond(&space, &mut rng));
        assert_eq!(
            (grant.narrowing(&space, &mut same), grant.beyond(&space, &mut same)),
            (narrowing.clone(), beyond.clone())
        );
        if let Some(narrowing) = narrowing {
            assert_eq!(own.first_beyond(&patterns(narrowing.iter())), None, "{grant:?} {narrowing:?}");
        }
        assert!(own.first_beyond(&patterns(&beyond)).is_some(), "{grant:?} {beyond:?}");
    }
}

#[test]
fn the_checker_and_the_service_agree_on_the_topics_of_a_load() {
    let (space, mut rng) = (TopicSpace::of(LOAD), Rng::with_seed(3));
    for number in 0..300 {
        let grant = Grant::draw(&space, format!("subject-{number}"), &mut rng);
        let own = patterns(grant.patterns().iter());
        for name in space.topics() {
            let by_checker = grant.patterns().iter().any(|pattern| matches(pattern, name));
            assert_eq!(own.matches(name), by_checker, "{own:?} {name}");
        }
    }
}

#[test]
fn a_token_is_presented_with_the_grant_of_the_one_before_it() {
    let space = TopicSpace::of(LOAD);
    let swapped: Vec<_> =
        ["1", "2.a", "3.b", "4", "5", "6.c", "7.c"].map(|token| space.swapped(token)).into();
    let expected = [None, Some("2"), Some("3.a"), Some("4.b"), None, Some("6"), None];
    assert_eq!(swapped, expected.map(|token| token.map(str::to_owned)));
}
