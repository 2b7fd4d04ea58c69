//! Caps of subjects.

use vx11_rig::{Caps, Control, Endpoint, History, Kind, LoggedStream, Outage, Outcome, check};

use super::{MS, at, cut, ended, fault, history, logged, of, operation, stream, wrong_with};

/// Two streams of a subject, and at least one opening.
const CAPS: Control = Control::Caps(Caps { cap: 2, openings: 1, replaces: false });

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
    let more = Control::Caps(Caps { cap: 2, openings: 2, replaces: false });
    assert!(wrong_with(&history, more)[0].starts_with("1 caps that were not tried: 1 of at least 2"));
    history.logged_streams.pop();
    assert!(wrong_with(&history, CAPS).iter().any(|words| words.contains("0 subjects with 2 streams")));
}

/// The same where the oldest stream makes room.
const REPLACES: Control = Control::Caps(Caps { cap: 2, openings: 1, replaces: true });

fn replaced(mut stream: LoggedStream) -> LoggedStream {
    stream.reason = Some("replaced".to_owned());
    stream
}

/// Subject 7 with these streams in the logs, one opening, and no refusal.
fn replacing(streams: Vec<LoggedStream>) -> History {
    let mut history = capped(streams, 3000);
    history.operations.last_mut().expect("the opening").outcome = Outcome::Yes;
    history
}

/// The first stream makes room for the third one, and ends at this time.
fn third(ends: u32) -> History {
    replacing(vec![
        replaced(logged(0, 10, 1000, Some(ends))),
        logged(1, 11, 2000, None),
        logged(2, 12, 4000, None),
    ])
}

#[test]
fn the_oldest_stream_that_makes_room_within_a_second_is_not_complained_of() {
    let verdict = check(&third(5000), of(REPLACES));
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert_eq!(verdict.summary.control.replaced, 1);
    let words = "1 subjects with more streams than their cap: subject 7 at 4s with 3 by the logs";
    assert_eq!(wrong_with(&third(5001), REPLACES), [words]);
}

#[test]
fn a_client_whose_stream_made_room_is_not_complained_of_where_that_is_the_policy() {
    let mut history = third(5000);
    history.client_streams = vec![stream(10, Endpoint::Balancer, 1000, Some(ended(5000, "replaced")))];
    assert!(wrong_with(&history, REPLACES).is_empty());
    let others = wrong_with(&history, CAPS);
    assert!(others.iter().any(|words| words.starts_with("1 streams ended without a command")), "{others:?}");
}

#[test]
fn a_stream_that_makes_room_and_is_not_the_oldest_is_found() {
    let history = replacing(vec![
        logged(0, 10, 1000, None),
        replaced(logged(1, 11, 2000, Some(4500))),
        logged(2, 12, 4000, None),
    ]);
    let words = "1 streams that made room wrongly: subject 7 at 4.5s, opened at 2s; one of 1s stayed";
    assert_eq!(wrong_with(&history, REPLACES), [words]);
}

#[test]
fn a_stream_that_makes_room_where_there_is_a_place_is_found() {
    let history = replacing(vec![replaced(logged(0, 10, 1000, Some(4500))), logged(1, 11, 2000, None)]);
    let words = "1 streams that made room wrongly: subject 7 at 4.5s, with at most 2 streams since 3s before";
    assert_eq!(wrong_with(&history, REPLACES), [words]);
}

#[test]
fn a_refusal_where_the_oldest_stream_makes_room_is_found() {
    let mut history = third(5000);
    history.operations.push(operation(Kind::OpenStream, 19, Endpoint::Balancer, 4500, full()));
    assert!(wrong_with(&history, REPLACES)[0].starts_with("1 refusals below a cap"));
}

#[test]
fn a_drill_in_which_no_stream_makes_room_proves_nothing() {
    let history = replacing(vec![logged(0, 10, 1000, None), logged(1, 11, 2000, None)]);
    assert!(wrong_with(&history, REPLACES)[0].contains("0 made room, 1 subjects with 2 streams"));
}
