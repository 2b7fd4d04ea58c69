//! Lists of streams.

use vx11_rig::{History, Listed, Listing, Outage, StreamEnd, check};

use super::{INSTANCES, MS, at, closed, cut, fault, found, history, nothing_in, only, stream, targets};

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
