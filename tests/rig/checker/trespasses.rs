//! Whether anybody reached beyond a grant.

use super::Findings;
use crate::history::{History, Outcome};

/// Attempts to reach beyond a grant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trespasses {
    /// Number of attempts that were refused.
    pub(crate) refused: usize,
    /// Attempts that opened a stream.
    pub(crate) accepted: Findings,
    /// Violation as text: there were attempts, and none was refused, so that they prove nothing.
    pub(super) void: Option<String>,
}

pub(super) fn judge(history: &History) -> Trespasses {
    let mut found = Trespasses::default();
    for trespass in &history.trespasses {
        match trespass.outcome {
            Outcome::Yes => found
                .accepted
                .note(|| format!("subscriber {} at {:?} {}", trespass.subscriber, trespass.at, trespass.way)),
            Outcome::No => found.refused += 1,
            Outcome::Unanswered(_) => {}
        }
    }
    let first = history.trespasses.first().filter(|_| found.refused == 0);
    found.void =
        first.map(|first| format!("the first, {}, was answered with {:?}", first.way, first.outcome));
    found
}
