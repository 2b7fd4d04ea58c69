//! Whether what was taken back was accepted all the same.

use std::time::Duration;

use super::Tokens;
use super::rounds::Troubles;
use super::subjects::{Bans, Bar};
use crate::history::{Endpoint, History, Kind, Moment, Operation, Outcome};

/// Revoked tokens that were accepted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revoked {
    /// Number of revoked tokens.
    pub(crate) count: usize,
    /// Violations as text: acceptances at a place and time where there must be none.
    pub(crate) late: Vec<String>,
    /// Violations as text: acceptances for longer than allowed, but not for long.
    pub(crate) slow: Vec<String>,
    /// Longest acceptance after a revocation during a cut, where instances cannot exchange
    /// revocations, as documented.
    pub(crate) listed: Vec<Moment>,
}

/// A revocation that takes this many times its time is not slow but missing.
const MISSING: u32 = 5;
/// Acceptances within this time after a revocation are not listed.
const LISTED_FROM: Duration = Duration::from_secs(1);

/// A revocation holds at once where it was made, as long as that instance lives, and everywhere
/// after `within`, except between the moment something breaks and as long after all is well again.
/// Without `within` it is only listed where not.
pub(super) fn judge(history: &History, tokens: &Tokens, bans: &Bans, within: Option<Duration>) -> Revoked {
    let count = tokens.revoked.values().filter(|it| it.outcome == Outcome::Yes).count();
    let troubles = within.map(|within| Troubles::of(history, within));
    let mut found = Revoked { count, ..Revoked::default() };
    let accepted = history.operations.iter().filter(|it| {
        (it.is_validation() || matches!(it.kind, Kind::Issue { .. })) && it.outcome == Outcome::Yes
    });
    for operation in accepted {
        for Bar { endpoint, since, words } in bars(tokens, bans, operation) {
            let after = operation.sent.saturating_sub(since);
            let is_own = operation.endpoint == endpoint
                && endpoint != Endpoint::Balancer
                && lived(history, endpoint, since);
            let is_late = after >= within.unwrap_or(LISTED_FROM);
            let is_judged = troubles.as_ref().is_some_and(|troubles| !troubles.contain(operation.sent));
            if is_own || (is_late && is_judged) {
                let is_missing = is_own || within.is_some_and(|within| after >= within * MISSING);
                let at = operation.endpoint;
                let list = if is_missing { &mut found.late } else { &mut found.slow };
                list.push(format!("{words} on {endpoint} at {since:?}, accepted on {at} {after:?} later"));
                // One for each acceptance.
                break;
            }
            if is_late {
                found.listed.push(after);
            }
        }
    }
    found
}

/// Everything because of which a request has to be refused.
fn bars(tokens: &Tokens, bans: &Bans, operation: &Operation) -> Vec<Bar> {
    let number = operation.token;
    let revoked = tokens.revoked.get(&number).filter(|it| {
        it.outcome == Outcome::Yes && it.answered <= operation.sent && operation.is_validation()
    });
    let revoked = revoked.map(|it| Bar {
        endpoint: it.endpoint,
        since: it.answered,
        words: format!("token {number} revoked"),
    });
    bans.bars(tokens, operation).into_iter().chain(revoked).collect()
}

/// Whether an instance has been the same since.
fn lived(history: &History, endpoint: Endpoint, since: Moment) -> bool {
    !history.outages.iter().any(|it| it.endpoint == endpoint && it.until.is_none_or(|until| until >= since))
}
