//! Whether what was taken back was accepted all the same.

use std::time::Duration;

use super::Tokens;
use super::rounds::Troubles;
use crate::history::{History, Kind, Moment, Outcome, Place};

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
pub(super) fn judge(history: &History, tokens: &Tokens, within: Option<Duration>) -> Revoked {
    let count = tokens.revoked.values().filter(|it| it.outcome == Outcome::Yes).count();
    let troubles = within.map(|within| Troubles::of(history, within));
    let mut found = Revoked { count, ..Revoked::default() };
    for operation in &history.operations {
        let is_accepted = matches!(operation.kind, Kind::Introspect | Kind::OpenStream)
            && operation.outcome == Outcome::Yes;
        let revoked = tokens.revoked.get(&operation.token).filter(|it| it.outcome == Outcome::Yes);
        let Some(revoked) = revoked.filter(|it| is_accepted && it.answered <= operation.sent) else {
            continue;
        };
        let after = operation.sent.saturating_sub(revoked.answered);
        let is_own = operation.place == revoked.place
            && operation.place != Place::Balancer
            && lived(history, revoked.place, revoked.answered);
        let is_late = after >= within.unwrap_or(LISTED_FROM);
        let is_judged = troubles.as_ref().is_some_and(|troubles| !troubles.contain(operation.sent));
        if is_own || (is_late && is_judged) {
            let is_missing = is_own || within.is_some_and(|within| after >= within * MISSING);
            let (number, by, at) = (operation.token, revoked.place, operation.place);
            let list = if is_missing { &mut found.late } else { &mut found.slow };
            list.push(format!(
                "token {number} revoked on {by} at {:?}, accepted on {at} {after:?} later",
                revoked.answered
            ));
        } else if is_late {
            found.listed.push(after);
        }
    }
    found
}

/// Whether an instance has been the same since.
fn lived(history: &History, place: Place, since: Moment) -> bool {
    !history.outages.iter().any(|it| it.place == place && it.until.is_none_or(|until| until >= since))
}
