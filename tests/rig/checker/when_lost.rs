//! Instances that refuse while they cannot use Redis (`redis.when_lost = "refuse"`).

use std::time::Duration;

use vx11_kit::COME_BACK;

use super::Findings;
use crate::history::{Endpoint, History, Kind, Operation, Outcome};

/// Time after a fault in which instances accept again.
const ACCEPTING: Duration = Duration::from_secs(3);
/// Parts of the answer of an instance that refuses.
const REFUSAL: [&str; 3] = ["503", "store_unavailable", "Retry-After"];

/// Results of instances that refuse while they cannot use Redis.
#[derive(Debug, Clone, Default)]
pub(crate) struct WhenLost {
    /// Number of refusals of tokens.
    pub(crate) refused: usize,
    /// Number of refusals to issue.
    pub(crate) not_issued: usize,
    /// Tokens that were issued or accepted without Redis.
    pub(super) accepted: Findings,
    /// Violations as text: faults during which nothing was refused.
    pub(super) void: Findings,
}

/// Whether a request was refused in the right way, at a time at which it may be.
pub(super) fn is_right(history: &History, operation: &Operation) -> bool {
    let mut rounds = history.rounds.iter();
    is_refusal(operation)
        && rounds.any(|round| {
            round.from <= operation.answered
                && round.back.is_none_or(|back| operation.sent <= back + ACCEPTING)
        })
}

fn is_refusal(operation: &Operation) -> bool {
    let Outcome::Unanswered(words) = &operation.outcome else { return false };
    // nginx asks an `EventSource` to come back later.
    let is_translated =
        operation.endpoint == Endpoint::Balancer && operation.kind == Kind::OpenStream && words == COME_BACK;
    concerns_a_token(operation) && (is_translated || REFUSAL.iter().all(|part| words.contains(part)))
}

fn concerns_a_token(operation: &Operation) -> bool {
    operation.is_validation() || matches!(operation.kind, Kind::Issue { .. })
}

/// Judges instances that refuse.
pub(super) fn judge(history: &History) -> WhenLost {
    let mut found = WhenLost::default();
    let instances = history.observations.iter().map(|it| it.instance + 1).max().unwrap_or(0);
    for partition in &history.partitions {
        let until = partition.until.unwrap_or(history.length);
        let (mut refused, mut not_issued) = (0, 0);
        let within = history.operations.iter().filter(|it| it.sent >= partition.from && it.answered <= until);
        for operation in within.filter(|it| concerns_a_token(it)) {
            let is_cut = match operation.endpoint {
                Endpoint::Instance(instance) => partition.cut.contains(&instance),
                Endpoint::Balancer => partition.cut.len() == instances,
            };
            if is_cut && operation.outcome == Outcome::Yes {
                let Operation { kind, token, endpoint, sent, .. } = operation;
                found.accepted.note(|| format!("token {token}, {kind:?} on {endpoint} at {sent:?}"));
            }
            let count = if operation.is_validation() { &mut refused } else { &mut not_issued };
            *count += usize::from(is_refusal(operation));
        }
        // Issues go through the balancer, which finds another instance.
        let is_void = refused == 0 || (not_issued == 0 && partition.cut.len() == instances);
        if is_void {
            let from = partition.from;
            found.void.note(|| format!("from {from:?}: {refused} tokens refused, {not_issued} not issued"));
        }
        found.refused += refused;
        found.not_issued += not_issued;
    }
    found
}
