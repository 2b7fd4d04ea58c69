//! The checker is given commands about subjects, lists of streams, caps and tickets, each as it
//! should be and with something wrong.

mod caps;
mod commands;
mod lists;
mod logs;
mod ticket_uses;
mod tickets;
mod when_lost;

use std::time::Duration;

use vx11_kit::Standing;
use vx11_rig::{
    ClientStream, Control, Endpoint, History, IN_ORDER, Kind, LoggedStream, Observation, Operation, Outcome,
    Partition, Round, StreamEnd, Targets, Verdict, check,
};

const MS: Duration = Duration::from_millis(1);
const INSTANCES: usize = 3;
/// A token of the load.
const LOADED: u64 = 1;

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

fn ended(at: u32, reason: &str) -> StreamEnd {
    StreamEnd { at: at * MS, reason: Some(format!("{IN_ORDER}: {reason}")) }
}

fn closed(at: u32) -> StreamEnd {
    StreamEnd { at: at * MS, reason: None }
}

fn stream(token: u64, endpoint: Endpoint, opened: u32, end: Option<StreamEnd>) -> ClientStream {
    ClientStream { token, endpoint, sent: (opened - 2) * MS, opened: opened * MS, end }
}

/// Targets of a drill of control.
fn of(control: Control) -> Targets {
    Targets { control, ..targets() }
}

fn logged(instance: usize, token: u64, opened: u32, ended: Option<u32>) -> LoggedStream {
    LoggedStream { instance, token, opened: opened * MS, ended: ended.map(|at| at * MS), reason: None }
}

fn wrong_with(history: &History, control: Control) -> Vec<String> {
    check(history, of(control)).violations
}
