//! Whether what was taken back was accepted all the same.

use std::time::Duration;

use super::Tokens;
use super::rounds::Troubles;
use crate::journal::{Account, Kind, Moment, Outcome};

/// Revoked tokens that were accepted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revoked {
    /// How many were revoked.
    pub(crate) count: usize,
    /// In words; where and when it must not happen.
    pub(crate) late: Vec<String>,
    /// How long after the revocation; where instances cannot hear of one another, which is known and stated.
    pub(crate) listed: Vec<Moment>,
}

/// A revocation holds at once where it was made, and everywhere after `within`, except between the moment something
/// breaks and as long after all is well again.
pub(super) fn judge(account: &Account, tokens: &Tokens, within: Duration) -> Revoked {
    let count = tokens.revoked.values().filter(|it| it.outcome == Outcome::Yes).count();
    let troubles = Troubles::of(account, within);
    let mut found = Revoked { count, ..Revoked::default() };
    for operation in &account.operations {
        let is_accepted = matches!(operation.kind, Kind::Introspect | Kind::OpenStream)
            && operation.outcome == Outcome::Yes;
        let revoked = tokens.revoked.get(&operation.token).filter(|it| it.outcome == Outcome::Yes);
        let Some(revoked) = revoked.filter(|it| is_accepted && it.answered <= operation.sent) else {
            continue;
        };
        let after = operation.sent.saturating_sub(revoked.answered);
        let is_own = operation.instance == revoked.instance;
        if is_own || (after >= within && !troubles.contain(operation.sent)) {
            let (number, by, at) = (operation.token, revoked.instance, operation.instance);
            found.late.push(format!(
                "token {number} revoked on instance {by} at {:?}, accepted on {at} {after:?} later",
                revoked.answered
            ));
        } else if after >= within {
            found.listed.push(after);
        }
    }
    found
}
