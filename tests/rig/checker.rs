//! What did not hold, by the operation log alone. Pure: it knows neither instances nor Redis, so that it can be shown a
//! log in which something went wrong.

mod famines;
mod latencies;
mod revoked;
mod rounds;

use std::collections::HashMap;
use std::time::Duration;

use crate::journal::{Account, Kind, Moment, Operation, Outcome};
use crate::summary::Summary;
pub(crate) use famines::Famines;
pub(crate) use latencies::percentile;
pub(crate) use revoked::Revoked;
pub(crate) use rounds::{Recoveries, Troubles, is_settled};

/// Clocks may differ by so much, so a token's last two seconds are not judged.
const LAST_SECONDS: Duration = Duration::from_secs(2);
/// So many of each sort are told in full.
const TOLD: usize = 5;

/// What has to hold.
#[derive(Debug, Clone, Copy)]
pub struct Targets {
    /// For every request, by the instances' own clocks; one of the bounds of their histogram.
    pub longest: Duration,
    /// From Redis being back until all instances use it and hold nothing back.
    pub recovery: Duration,
    /// Until a revocation holds everywhere.
    pub revocation: Duration,
    /// How often the breaker of one instance may open.
    pub openings: u64,
}

impl Targets {
    /// Those of the service, for so many rounds with one fault each.
    #[must_use]
    pub fn of_rounds(rounds: u64) -> Self {
        Self {
            longest: Duration::from_millis(250),
            recovery: Duration::from_secs(3),
            revocation: Duration::from_secs(1),
            // One more for each: what comes back may be cut off once more, as by a failover.
            openings: 2 * rounds,
        }
    }
}

/// Figures, and what of them is not as it should be.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The figures.
    pub summary: Summary,
    /// What did not hold, in words; empty if everything did.
    pub violations: Vec<String>,
}

/// Judges an operation log.
#[must_use]
pub fn check(account: &Account, targets: Targets) -> Verdict {
    let tokens = Tokens::of(account);
    let mut violations = Vec::new();
    let mut tell = |what: &str, found: &[String]| {
        if !found.is_empty() {
            let examples = found.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
            violations.push(format!("{} {what}: {examples}", found.len()));
        }
    };
    let refused = tokens.valid_and_refused(account);
    tell("valid tokens refused", &refused);
    let unanswered: Vec<_> = account.operations.iter().filter_map(words_of_unanswered).collect();
    tell("requests not answered", &unanswered);
    let revoked = revoked::judge(account, &tokens, targets.revocation);
    tell("revoked tokens accepted", &revoked.late);
    let ends: Vec<_> =
        account.stream_ends.iter().map(|end| format!("instance {} at {:?}", end.instance, end.at)).collect();
    tell("streams ended", &ends);
    let recoveries = rounds::judge(account, targets.recovery);
    tell("rounds without recovery in time", &recoveries.late);
    let own = instances(account, targets);
    tell("instances with figures out of bounds", &own);
    // A log of nothing must not pass for one of a service without faults.
    let validated = account.operations.iter().any(|it| it.kind == Kind::Introspect);
    let nothing = (!validated).then(|| "no token was validated".to_owned());
    tell("logs of nothing", nothing.as_slice());
    let summary = Summary::of(account, refused.len(), unanswered.len(), &revoked, &recoveries);
    Verdict { summary, violations }
}

fn words_of_unanswered(operation: &Operation) -> Option<String> {
    let Outcome::Unanswered(words) = &operation.outcome else { return None };
    let Operation { kind, instance, sent, .. } = operation;
    Some(format!("{kind:?} on instance {instance} at {sent:?}: {words}"))
}

/// What the instances say themselves. Their histograms do not say when a request took long; as many as their clients
/// saw taking long in a famine are the famine's.
fn instances(account: &Account, targets: Targets) -> Vec<String> {
    let mut found = Vec::new();
    let famines = Famines::of(account);
    let starved = |index: usize| {
        let slow = account.operations.iter().filter(|it| it.took() > targets.longest);
        let slow = slow.filter(|it| it.instance == index && it.kind != Kind::Look);
        let starved = slow
            .filter(|it| it.took().saturating_sub(famines.within(it.sent, it.answered)) <= targets.longest);
        u64::try_from(starved.count()).unwrap_or(u64::MAX)
    };
    for (index, own) in account.instances.iter().enumerate() {
        let bound = u64::try_from(targets.longest.as_micros()).unwrap_or(u64::MAX);
        let longer = own.longer_than(bound);
        if longer > starved(index) {
            let starved = starved(index);
            found.push(format!(
                "instance {index}: {longer} requests over {:?}, {starved} of them starved",
                targets.longest
            ));
        }
        let openings = own.transitions.get("open").copied().unwrap_or(0);
        if openings > targets.openings {
            found.push(format!("instance {index}: its breaker opened {openings} times"));
        }
        if own.stream_ends > 0 {
            found.push(format!("instance {index}: it ended {} streams", own.stream_ends));
        }
    }
    found
}

/// Tokens by their numbers: as issued, and when revoked.
struct Tokens<'a> {
    issued: HashMap<u64, (&'a Operation, Duration)>,
    /// The revocations that were asked for; they may have been carried out without an answer.
    revoked: HashMap<u64, &'a Operation>,
}

impl<'a> Tokens<'a> {
    fn of(account: &'a Account) -> Self {
        let (mut issued, mut revoked) = (HashMap::new(), HashMap::new());
        for operation in &account.operations {
            match operation.kind {
                Kind::Issue { life } if operation.outcome == Outcome::Yes => {
                    issued.insert(operation.token, (operation, life));
                }
                Kind::Revoke => {
                    revoked.insert(operation.token, operation);
                }
                _ => {}
            }
        }
        Self { issued, revoked }
    }

    /// When it is certain that a token may be refused for its age.
    fn judged_until(&self, token: u64) -> Option<Moment> {
        let (issued, life) = self.issued.get(&token)?;
        Some(issued.sent + life.saturating_sub(LAST_SECONDS))
    }

    fn valid_and_refused(&self, account: &Account) -> Vec<String> {
        let refused = account.operations.iter().filter(|it| {
            matches!(it.kind, Kind::Introspect | Kind::OpenStream)
                && it.outcome == Outcome::No
                && self.judged_until(it.token).is_some_and(|end| it.answered <= end)
                && self.revoked.get(&it.token).is_none_or(|revoked| revoked.sent > it.answered)
        });
        let words = refused.map(|it| {
            let (issued, _) = self.issued[&it.token];
            format!(
                "token {} issued by instance {} at {:?}, refused ({:?}) by instance {} at {:?}",
                it.token, issued.instance, issued.answered, it.kind, it.instance, it.answered
            )
        });
        words.collect()
    }
}
