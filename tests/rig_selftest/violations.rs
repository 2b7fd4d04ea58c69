//! The checker is shown what it is there to find.

use std::time::Duration;

use vx11_kit::{InstanceFigures, Standing};
use vx11_rig::{
    Endpoint, History, IN_ORDER, Kind, Observation, Operation, Outage, Outcome, Resumption, Round, Since,
    StarvedTime, StreamMoment, StreamTurn, Targets, Times, check,
};

fn targets() -> Targets {
    Targets::of_rounds(10)
}

const MS: Duration = Duration::from_millis(1);
const WELL: Standing = Standing { on_redis: true, fallback_entries: 0 };
const DEGRADED: Standing = Standing { on_redis: false, fallback_entries: 3 };

fn operation(kind: Kind, token: u64, instance: usize, sent: u32, outcome: Outcome) -> Operation {
    let sent = sent * MS;
    let endpoint = Endpoint::Instance(instance);
    Operation { kind, token, endpoint, due: sent, sent, answered: sent + 2 * MS, outcome }
}

fn observation(instance: usize, at: u32, standing: Standing) -> Observation {
    Observation { at: at * MS, instance, standing }
}

/// A fault from 5 s to 6 s that both instances survive as they should. Token 1 is validated, token
/// 2 revoked.
fn faultless() -> History {
    let issue = Kind::Issue { life: Duration::from_secs(10) };
    let quick = [(100_000, 10), (250_000, 10), (u64::MAX, 10)];
    History {
        operations: vec![
            operation(issue, 1, 0, 1000, Outcome::Yes),
            operation(issue, 2, 0, 1000, Outcome::Yes),
            operation(Kind::Introspect, 1, 1, 5500, Outcome::Yes),
            operation(Kind::Revoke, 2, 1, 2000, Outcome::Yes),
            operation(Kind::Introspect, 2, 1, 2002, Outcome::No),
            operation(Kind::Introspect, 2, 0, 3100, Outcome::No),
        ],
        rounds: vec![Round { from: 5000 * MS, back: Some(6000 * MS), over: Some(9000 * MS) }],
        observations: vec![
            observation(0, 10, WELL),
            observation(1, 10, WELL),
            observation(0, 5200, DEGRADED),
            observation(0, 6700, WELL),
        ],
        instances: vec![InstanceFigures { requests: quick.into(), ..InstanceFigures::default() }; 2],
        length: 12_000 * MS,
        ..History::default()
    }
}

/// The one thing that is wrong with an account that was faultless before this change.
fn violation(change: impl FnOnce(&mut History)) -> String {
    let mut history = faultless();
    change(&mut history);
    let mut violations = check(&history, targets()).violations;
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

#[test]
fn what_is_as_it_should_be_is_not_complained_of() {
    let verdict = check(&faultless(), targets());
    assert_eq!(verdict.violations, Vec::<String>::new());
    let summary = verdict.summary;
    assert_eq!((summary.issued, summary.validated, summary.revoked), (2, 3, 1));
    assert_eq!((summary.detection, summary.recovery), (200 * MS, 700 * MS));
}

#[test]
fn a_valid_token_that_is_refused_is_found_by_whichever_way_it_was_presented() {
    for kind in [Kind::Introspect, Kind::OpenStream] {
        let refused = operation(kind, 1, 1, 8900, Outcome::No);
        let found = violation(|history| history.operations.push(refused));
        assert!(found.starts_with("1 valid tokens refused: token 1 issued by instance 0"), "{found}");
    }
}

#[test]
fn a_token_in_its_last_two_seconds_or_revoked_or_of_which_nothing_is_known_may_be_refused() {
    let mut history = faultless();
    for (token, sent) in [(1, 9000), (2, 3500), (3, 3500)] {
        history.operations.push(operation(Kind::Introspect, token, 1, sent, Outcome::No));
    }
    assert_eq!(check(&history, targets()).violations, Vec::<String>::new());
}

#[test]
fn a_request_that_takes_too_long_by_the_clock_of_an_instance_is_found() {
    let found = violation(|history| {
        history.instances[1].requests = [(100_000, 8), (250_000, 9), (500_000, 10), (u64::MAX, 10)].into();
    });
    assert!(found.contains("instance 1: 1 requests over 250ms"), "{found}");
}

#[test]
fn what_a_famine_explains_and_nothing_else_is_not_held_against_an_instance() {
    let mut history = faultless();
    let mut slow = operation(Kind::Introspect, 1, 1, 5600, Outcome::Yes);
    slow.answered = slow.sent + 400 * MS;
    history.operations.push(slow);
    history.instances[1].requests = [(250_000, 9), (500_000, 10), (u64::MAX, 10)].into();
    history.observations[3].at = 9000 * MS;
    history.rounds[0].over = Some(10_000 * MS);
    history.rounds[0].back = Some(5700 * MS);
    history.starvation = vec![
        StarvedTime { from: 5650 * MS, until: 5950 * MS },
        StarvedTime { from: 5700 * MS, until: 5800 * MS },
        StarvedTime { from: 8000 * MS, until: 8050 * MS },
    ];
    let verdict = check(&history, targets());
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert_eq!((verdict.summary.recovery, verdict.summary.starved), (2900 * MS, 450 * MS));
    history.starvation.clear();
    let violations = check(&history, targets()).violations;
    assert_eq!(violations.len(), 2, "{violations:?}");
}

#[test]
fn a_request_without_an_answer_is_found() {
    let failed = operation(Kind::Introspect, 1, 0, 5100, Outcome::Unanswered("503".to_owned()));
    let found = violation(|history| history.operations.push(failed));
    assert!(found.starts_with("1 requests not answered: Introspect on instance 0"), "{found}");
}

#[test]
fn an_instance_that_never_recovers_or_too_late_or_keeps_tokens_to_itself_is_found() {
    let never = violation(|history| history.observations.truncate(3));
    assert!(never.contains("never recovered"), "{never}");
    let late = violation(|history| history.observations[3].at = 9001 * MS);
    assert!(late.contains("took") || late.contains("never recovered"), "{late}");
    let falls_again = violation(|history| {
        history.rounds[0].over = None;
        history.observations.extend([observation(1, 7000, DEGRADED), observation(1, 9500, WELL)]);
    });
    assert!(falls_again.contains("took 3.5s"), "{falls_again}");
    let for_no_reason = violation(|history| {
        history.observations.extend([observation(1, 9500, DEGRADED), observation(1, 9900, WELL)]);
    });
    assert!(for_no_reason.contains("left Redis at 9.5s without a fault"), "{for_no_reason}");
    let holding_back = Standing { on_redis: true, fallback_entries: 1 };
    let keeps = violation(|history| history.observations[3].standing = holding_back);
    assert!(keeps.contains("never recovered"), "{keeps}");
}

#[test]
fn a_revoked_token_that_is_accepted_is_found_where_it_was_revoked_at_once_and_elsewhere_after_a_second() {
    let own = violation(|history| {
        history.operations.push(operation(Kind::Introspect, 2, 1, 2010, Outcome::Yes));
    });
    assert!(own.starts_with("1 revoked tokens accepted: token 2 revoked on instance 1"), "{own}");
    for sent in [3010, 7710] {
        let other = operation(Kind::Introspect, 2, 0, sent, Outcome::Yes);
        let found = violation(|history| history.operations.push(other));
        assert!(found.contains("revoked tokens accepted"), "{found}");
    }
}

#[test]
fn a_revoked_token_that_another_instance_accepts_during_a_fault_is_listed() {
    let mut history = faultless();
    history.operations.push(operation(Kind::Introspect, 2, 0, 5600, Outcome::Yes));
    let verdict = check(&history, targets());
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert_eq!(verdict.summary.longest_in_fault, 3598 * MS);
}

fn stream(subscriber: usize, at: u32, turn: StreamTurn) -> StreamMoment {
    StreamMoment { at: at * MS, subscriber, endpoint: Endpoint::Balancer, turn }
}

fn lost() -> StreamTurn {
    StreamTurn::Lost("it was cut".to_owned())
}

/// One subscriber that loses its stream in the fault and has it again after so long.
fn resumed_after(took: u32) -> History {
    let mut history = faultless();
    history.streams = vec![
        stream(0, 0, StreamTurn::Opened),
        stream(0, 5300, lost()),
        stream(0, 5300 + took, StreamTurn::Opened),
    ];
    history
}

#[test]
fn a_stream_that_ends_is_found_by_its_client_and_by_the_instance() {
    let by_client = violation(|history| *history = resumed_after(100));
    assert!(by_client.starts_with("1 streams lost"), "{by_client}");
    assert!(
        by_client.contains("subscriber 0 lost 1 streams in the round from 5s: it was cut"),
        "{by_client}"
    );
    let by_instance = violation(|history| history.instances[0].stream_ends = 2);
    assert!(by_instance.contains("it ended 2 streams"), "{by_instance}");
}

#[test]
fn a_stream_that_is_lost_without_a_fault_is_found_even_where_losing_one_is_allowed() {
    let mut history = faultless();
    history.streams =
        vec![stream(0, 0, StreamTurn::Opened), stream(0, 4000, lost()), stream(0, 4100, StreamTurn::Opened)];
    let violations = check(&history, Targets { reconnects: 1, ..targets() }).violations;
    assert!(violations[0].contains("subscriber 0 at 4s without a fault"), "{violations:?}");
}

#[test]
fn a_stream_that_is_not_open_again_in_time_is_found_counted_from_the_loss_the_fault_or_the_repair() {
    let within = |since, within| {
        let resumption = Some(Resumption { hundredths: 99, within: within * MS, since });
        let targets = Targets { reconnects: 1, resumption, ..targets() };
        check(&resumed_after(1000), targets).violations.is_empty()
    };
    assert!(within(Since::Loss, 1000) && !within(Since::Loss, 999));
    assert!(within(Since::Fault, 1300) && !within(Since::Fault, 1299));
    assert!(within(Since::Repair, 300) && !within(Since::Repair, 299));
    let mut never = resumed_after(1000);
    never.streams.pop();
    let resumption = Some(Resumption { hundredths: 99, within: Duration::MAX, since: Since::Loss });
    assert_eq!(check(&never, Targets { reconnects: 1, resumption, ..targets() }).violations.len(), 1);
}

#[test]
fn what_was_asked_of_someone_who_was_down_may_stay_unanswered_and_nothing_else() {
    let failed = |sent| operation(Kind::Introspect, 1, 0, sent, Outcome::Unanswered("refused".to_owned()));
    let down = |endpoint| Outage { endpoint, from: 5000 * MS, until: Some(6000 * MS) };
    let excused = |endpoint, sent| {
        let mut history = faultless();
        history.outages.push(down(endpoint));
        history.operations.push(failed(sent));
        check(&history, targets()).violations.is_empty()
    };
    // The request takes 2 ms.
    assert!(excused(Endpoint::Instance(0), 4998) && excused(Endpoint::Instance(0), 6000));
    assert!(!excused(Endpoint::Instance(0), 4997) && !excused(Endpoint::Instance(0), 6001));
    assert!(!excused(Endpoint::Instance(1), 5500) && !excused(Endpoint::Balancer, 5500));
}

#[test]
fn a_fault_that_is_noticed_too_late_or_never_is_found() {
    let within = |within| Targets { detection: Some(within * MS), ..targets() };
    assert!(check(&faultless(), within(200)).violations.is_empty());
    let late = check(&faultless(), within(199)).violations;
    assert!(late[0].contains("was detected after Some(200ms)"), "{late:?}");
    let mut unnoticed = faultless();
    unnoticed.observations.truncate(2);
    assert_eq!(check(&unnoticed, within(5000)).violations.len(), 1);
}

#[test]
fn slow_requests_during_a_fault_are_found_by_a_bound_and_by_comparison() {
    let mut slow = operation(Kind::Introspect, 1, 1, 5600, Outcome::Yes);
    slow.answered = slow.sent + 30 * MS;
    let mut history = faultless();
    history.operations.push(slow);
    let judge = |p99, p99_times| check(&history, Targets { p99, p99_times, ..targets() }).violations.len();
    assert_eq!((judge(Some(30 * MS), None), judge(Some(29 * MS), None)), (0, 1));
    assert_eq!((judge(None, Some(15)), judge(None, Some(14))), (0, 1));
}

#[test]
fn a_stream_that_is_cut_where_all_should_end_in_order_is_found() {
    let targets = Targets { reconnects: 1, in_order: true, ..targets() };
    let found = check(&resumed_after(100), targets).violations;
    assert!(found[0].contains("subscriber 0 at 5.3s, not in order: it was cut"), "{found:?}");
    let mut in_order = resumed_after(100);
    in_order.streams[1].turn = StreamTurn::Lost(format!("{IN_ORDER}: shutdown"));
    assert_eq!(check(&in_order, targets).violations, Vec::<String>::new());
}

#[test]
fn a_stream_may_end_because_it_is_old_where_streams_get_old_and_for_no_other_reason() {
    let at_rest = |reason| {
        let mut history = faultless();
        let words = format!("{IN_ORDER}: {reason}");
        history.streams = vec![
            stream(0, 0, StreamTurn::Opened),
            stream(0, 4000, StreamTurn::Lost(words)),
            stream(0, 4100, StreamTurn::Opened),
        ];
        history
    };
    let judge = |reason, ages| check(&at_rest(reason), Targets { ages, ..targets() }).violations.len();
    assert_eq!((judge("max_age", true), judge("max_age", false), judge("slow", true)), (0, 1, 1));
}

#[test]
fn a_request_that_waits_for_a_hung_instance_is_found_through_the_balancer() {
    let mut slow = operation(Kind::Introspect, 1, 1, 5100, Outcome::Yes);
    (slow.endpoint, slow.answered) = (Endpoint::Balancer, slow.sent + 30 * MS);
    let mut history = faultless();
    history.operations.push(slow);
    let judge =
        |bound| check(&history, Targets { through_balancer: Some(bound * MS), ..targets() }).violations.len();
    assert_eq!((judge(30), judge(29)), (0, 1));
}

#[test]
fn a_revocation_need_not_outlive_its_instance() {
    let accepted = operation(Kind::Introspect, 2, 1, 5600, Outcome::Yes);
    let found = violation(|history| history.operations.push(accepted.clone()));
    assert!(found.contains("revoked tokens accepted"), "{found}");
    let mut history = faultless();
    history.operations.push(accepted);
    history.outages.push(Outage { endpoint: Endpoint::Instance(1), from: 5000 * MS, until: Some(5500 * MS) });
    assert_eq!(check(&history, targets()).violations, Vec::<String>::new());
}

#[test]
fn a_breaker_that_opens_too_often_is_found() {
    let openings = targets().openings + 1;
    let found = violation(|history| {
        history.instances[0].transitions.insert("open".to_owned(), openings);
    });
    assert!(found.contains("its breaker opened"), "{found}");
}

#[test]
fn figures_are_read_from_a_page_of_metrics() {
    let page = r#"
# HELP vx11_operator_breaker_transitions_total x
vx11_operator_breaker_transitions_total{service="operator-backend",to="open"} 3
vx11_operator_degraded_accepts_total{service="operator-backend"} 7
vx11_operator_sse_streams_ended_total{reason="client",service="operator-backend"} 5
vx11_operator_sse_streams_ended_total{reason="slow",service="operator-backend"} 1
vx11_operator_http_request_duration_seconds_bucket{method="POST",route="/operator/api/tokens/introspect",service="operator-backend",status="200",le="0.25"} 8
vx11_operator_http_request_duration_seconds_bucket{method="POST",route="/operator/api/tokens/introspect",service="operator-backend",status="200",le="+Inf"} 9
vx11_operator_http_request_duration_seconds_bucket{method="GET",route="/metrics",service="operator-backend",status="200",le="0.25"} 50
vx11_operator_http_request_duration_seconds_sum{method="GET",route="/metrics",service="operator-backend",status="200"} 1.5
"#;
    let figures = InstanceFigures::read(page);
    assert_eq!((figures.transitions["open"], figures.degraded_accepts, figures.stream_ends), (3, 7, 1));
    assert_eq!((figures.longer_than(250_000), figures.longest()), (1, u64::MAX));
}

#[test]
fn where_the_load_fills_the_machine_lateness_is_reported_and_everything_else_counts() {
    let mut history = faultless();
    let given_up = Outcome::Unanswered("error sending request: operation timed out".to_owned());
    history.operations.push(operation(Kind::Introspect, 1, 1, 5600, given_up));
    let full = Targets { times: Times::AreReported, detection: Some(199 * MS), ..targets() };
    let verdict = check(&history, full);
    assert_eq!((verdict.violations.len(), verdict.late.len()), (0, 2), "{verdict:?}");
    let come_back = Outcome::Unanswered("no instance takes streams".to_owned());
    history.operations.push(operation(Kind::OpenStream, 1, 1, 5650, come_back));
    let verdict = check(&history, full);
    assert!(verdict.violations.is_empty(), "{verdict:?}");
    let reset = Outcome::Unanswered("connection reset".to_owned());
    history.operations.push(operation(Kind::Introspect, 1, 1, 5700, reset));
    history.operations.push(operation(Kind::Introspect, 1, 1, 5700, Outcome::No));
    assert_eq!(check(&history, full).violations.len(), 2);
    assert_eq!(check(&history, Targets { times: Times::Count, ..full }).violations.len(), 4);
}

#[test]
fn a_breaker_that_only_timeouts_opened_is_late_and_one_that_a_fault_opened_counts() {
    let reported = Targets { times: Times::AreReported, ..targets() };
    let mut history = faultless();
    history.instances[0].transitions.insert("open".to_owned(), reported.openings + 1);
    for (fault, count, violations, late) in
        [("timeout", 3, 0, 1), ("disconnected", 0, 0, 1), ("disconnected", 1, 1, 0)]
    {
        history.instances[0].faults.insert(fault.to_owned(), count);
        let verdict = check(&history, reported);
        assert_eq!((verdict.violations.len(), verdict.late.len()), (violations, late), "{verdict:?}");
    }
    let counted = check(&history, Targets { times: Times::Count, ..reported });
    assert_eq!(counted.violations.len(), 1, "{counted:?}");
}

#[test]
fn where_times_are_reported_a_revocation_that_is_missing_and_a_round_without_recovery_count() {
    let reported = Targets { times: Times::AreReported, ..targets() };
    let mut history = faultless();
    let revoked = |sent| operation(Kind::Introspect, 2, 0, sent, Outcome::Yes);
    history.operations.push(revoked(3010));
    let verdict = check(&history, reported);
    assert_eq!((verdict.violations.len(), verdict.late.len()), (0, 1), "{verdict:?}");
    history.operations.push(revoked(9900));
    let violations = check(&history, reported).violations;
    assert!(violations.iter().any(|found| found.contains("revoked tokens accepted")), "{violations:?}");
    history.observations.truncate(3);
    let violations = check(&history, reported).violations;
    assert!(violations.iter().any(|found| found.contains("never recovered")), "{violations:?}");
}
