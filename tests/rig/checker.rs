//! The checker: finds violations in a history. It uses neither instances nor Redis, so that tests
//! can give it a history with violations.

mod caps;
mod latencies;
mod listings;
mod occupancy;
mod publishing;
mod revoked;
mod rounds;
mod sequences;
mod starvation;
mod streams;
mod subjects;
mod ticket_uses;
mod tickets;
mod trespasses;
mod when_lost;

use std::collections::HashMap;
use std::time::Duration;

use vx11_kit::COME_BACK;

use crate::history::{Endpoint, History, Kind, Moment, Operation, Outcome};
use crate::summary::Summary;
pub use caps::Caps;
pub(crate) use caps::Occupied;
pub(crate) use latencies::percentile;
pub(crate) use listings::Listings;
pub(crate) use publishing::Publishing;
pub(crate) use revoked::Revoked;
pub(crate) use rounds::{Recoveries, Troubles, is_settled};
pub(crate) use sequences::{Sequences, all_reached, any_degraded, last_acknowledged};
pub(crate) use starvation::Starvation;
pub(crate) use streams::{Reconnects, all_open};
pub use streams::{Resumption, Since};
use subjects::Bans;
pub(crate) use subjects::Ends;
pub(crate) use ticket_uses::TicketUses;
pub(crate) use tickets::Tickets;
pub(crate) use trespasses::Trespasses;
pub(crate) use when_lost::WhenLost;

/// Allowed difference of clocks.
const LAST_SECONDS: Duration = Duration::from_secs(2);
/// Tickets that open streams for each one that is used through `authorise`.
pub(crate) const STREAMS_PER_USE: usize = 10;
/// Examples shown of each kind.
const EXAMPLES: usize = 5;
/// Answers that show slowness: a client that gives up, a server that gives up on the client, and an
/// instance that reads a request only after its drain has begun, for which nginx asks an
/// `EventSource` to come back later.
const TOO_SLOW: [&str; 3] = ["timed out", "408 Request Timeout", COME_BACK];

/// Targets of a fault run.
#[derive(Debug, Clone, Copy)]
pub struct Targets {
    /// Bound of every request, by the instances' histograms; one of their buckets.
    pub longest: Option<Duration>,
    /// Bound from a fault until [`detectors`](Self::detectors) instances stop using Redis.
    pub detection: Option<Duration>,
    /// Number of instances that have to notice.
    pub detectors: usize,
    /// Bound from the repair of Redis until all instances use it and have reconciled.
    pub recovery: Duration,
    /// Bound until a revocation holds on every instance; `None`: later acceptances are listed only.
    pub revocation: Option<Duration>,
    /// Bound of the p99 of requests during a fault.
    pub p99: Option<Duration>,
    /// Bound of that p99 as a multiple of the p99 without a fault.
    pub p99_times: Option<u32>,
    /// Bound of issuing and introspection through the load balancer.
    pub through_balancer: Option<Duration>,
    /// Streams may end with `reconnect` only.
    pub in_order: bool,
    /// Allowed difference of clocks; a token is not judged in its last seconds.
    pub clocks: Duration,
    /// Bound of openings of one instance's breaker.
    pub openings: u64,
    /// Bound of the streams that a subscriber loses in a round.
    pub reconnects: usize,
    /// A stream has to be lost in each round; otherwise nothing was broken.
    pub losses: bool,
    /// Bound until lost streams are open again.
    pub resumption: Option<Resumption>,
    /// Publishers may get `log_unavailable` from a fault until so long after recovery; `None`:
    /// never.
    pub refusals: Option<Duration>,
    /// Bound of the p99 of deliveries during a fault, as a multiple of the p99 without a fault.
    pub delivery_times: Option<f64>,
    /// Bound of events that are announced as lost, for all subscribers together.
    pub gaps: Option<usize>,
    /// Streams may also end because of their age.
    pub ages: bool,
    /// At least so many events have to be judged against the grants of streams.
    pub judged: usize,
    /// Caps, tickets or refusals, in a drill of these.
    pub control: Control,
    /// Treatment of durations.
    pub times: Times,
}

/// Targets of a drill of control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// None of these.
    Other,
    /// The open streams of subjects are bounded.
    Caps(Caps),
    /// At least so many tickets have to be opened by three clients at once, and a part of that used
    /// through `authorise`.
    Tickets(u16),
    /// Instances refuse while they cannot use Redis.
    Refuses,
}

/// Treatment of durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Durations over a bound are violations.
    Count,
    /// Durations are reported only: a machine that the load fills without a fault says nothing
    /// about the service.
    AreReported,
}

impl Targets {
    /// Targets of the service, for rounds with one fault of Redis each.
    #[must_use]
    pub fn of_rounds(rounds: u64) -> Self {
        Self {
            longest: Some(Duration::from_millis(250)),
            detection: None,
            detectors: 1,
            recovery: Duration::from_secs(3),
            revocation: Some(Duration::from_secs(1)),
            p99: None,
            p99_times: None,
            through_balancer: None,
            in_order: false,
            clocks: LAST_SECONDS,
            // One more for each: a returning Redis may be cut off once more, as by a failover.
            openings: 2 * rounds,
            reconnects: 0,
            losses: false,
            resumption: None,
            refusals: Some(Duration::from_secs(3)),
            gaps: None,
            delivery_times: None,
            ages: false,
            judged: 0,
            control: Control::Other,
            times: Times::Count,
        }
    }
}

/// Result of a check.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The figures.
    pub summary: Summary,
    /// Violations as text.
    pub violations: Vec<String>,
    /// Durations over a bound, where these are reported only.
    pub late: Vec<String>,
    /// Treatment of durations.
    pub times: Times,
}

/// Findings of one kind: their number, and examples as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    pub(crate) count: usize,
    examples: Vec<String>,
}

impl Findings {
    fn note(&mut self, words: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(words());
        }
    }
}

impl From<&[String]> for Findings {
    fn from(found: &[String]) -> Self {
        Self { count: found.len(), examples: found.iter().take(EXAMPLES).cloned().collect() }
    }
}

/// Violations as text.
#[derive(Default)]
struct Violations {
    violations: Vec<String>,
    late: Vec<String>,
}

impl Violations {
    fn wrong(&mut self, what: &str, found: &Findings) {
        self.violations.extend(words(what, found));
    }

    fn late(&mut self, what: &str, found: &Findings) {
        self.late.extend(words(what, found));
    }
}

fn words(what: &str, found: &Findings) -> Option<String> {
    (found.count > 0).then(|| format!("{} {what}: {}", found.count, found.examples.join("; ")))
}

/// All findings, by kind.
pub(crate) struct Judged {
    pub(crate) refused: usize,
    pub(crate) unanswered: usize,
    pub(crate) revoked: Revoked,
    pub(crate) recoveries: Recoveries,
    pub(crate) reconnects: Reconnects,
    pub(crate) publishing: Publishing,
    pub(crate) sequences: Sequences,
    pub(crate) trespasses: Trespasses,
    pub(crate) controlled: Controlled,
}

/// Findings about commands, lists, caps, tickets and refusals.
pub(crate) struct Controlled {
    pub(crate) ends: Ends,
    pub(crate) listings: Listings,
    pub(crate) occupied: Occupied,
    pub(crate) tickets: Tickets,
    pub(crate) ticket_uses: TicketUses,
    pub(crate) when_lost: WhenLost,
}

impl Controlled {
    fn judge(
        history: &History,
        (tokens, bans): (&Tokens, &Bans),
        control: Control,
        violations: &mut Violations,
    ) -> Self {
        let may_replace = matches!(control, Control::Caps(Caps { replaces: true, .. }));
        let ends = subjects::judge(history, tokens, bans, may_replace);
        violations
            .wrong("refusals to issue without a block", &subjects::refused_issues(history, tokens, bans));
        violations.wrong("streams that a command did not end", &ends.missed);
        violations.late("bounds on ending streams exceeded", &ends.late);
        violations.wrong("streams ended without a command", &ends.others);
        let listings = listings::judge(history);
        violations.wrong("open streams in no list", &listings.lost);
        violations.wrong("lists that differ from the truth", &listings.wrong);
        violations.wrong("failed instances that no list names", &listings.unnamed);
        let occupied = caps::judge(history, control);
        violations.wrong("subjects with more streams than their cap", &occupied.over);
        violations.wrong("refusals below a cap", &occupied.wrong);
        violations.wrong("streams that made room wrongly", &occupied.replaced_wrongly);
        violations.wrong("caps that were not tried", &occupied.void.as_slice().into());
        let tickets = tickets::judge(history, control);
        violations.wrong("tickets with two streams", &tickets.doubled);
        violations.late("tickets with two streams on starved instances", &tickets.doubled_by_starved);
        violations.wrong("tickets refused within the rule", &tickets.wrong);
        violations.wrong("tickets opened too late", &tickets.late);
        violations.wrong("tickets that were not tried", &tickets.void.as_slice().into());
        let needed =
            if let Control::Tickets(needed) = control { usize::from(needed) / STREAMS_PER_USE } else { 0 };
        let ticket_uses = ticket_uses::judge(history, needed);
        violations.wrong("tickets that two requests used", &ticket_uses.doubled);
        let by_starved = &ticket_uses.doubled_by_starved;
        violations.late("tickets that two requests used on starved instances", by_starved);
        violations.wrong("tickets that a request used too late", &ticket_uses.late);
        violations.wrong("requests refused within the rule", &ticket_uses.wrong);
        violations.wrong("requests that were not tried", &ticket_uses.void.as_slice().into());
        let when_lost = match control {
            Control::Refuses => when_lost::judge(history),
            _ => WhenLost::default(),
        };
        violations.wrong("tokens accepted without Redis", &when_lost.accepted);
        violations.wrong("faults without refusals", &when_lost.void);
        Self { ends, listings, occupied, tickets, ticket_uses, when_lost }
    }
}

/// Checks a history.
#[must_use]
pub fn check(history: &History, targets: Targets) -> Verdict {
    let (tokens, bans) = (Tokens::of(history), Bans::of(history));
    let mut found = Violations::default();
    let refused = tokens.valid_and_refused(history, &bans, targets.clocks);
    found.wrong("valid tokens refused", &refused[..].into());
    let publishing = publishing::judge(history, targets);
    let unanswered = history
        .operations
        .iter()
        .filter(|it| !is_excused(history, it.endpoint, it.sent, it.answered))
        .filter(|it| !caps::is_full(&it.outcome))
        .filter(|it| targets.control != Control::Refuses || !when_lost::is_right(history, it))
        .filter_map(words_of_unanswered);
    let (overdue, unanswered): (Vec<_>, Vec<_>) = unanswered
        .chain(publishing.unanswered.iter().cloned())
        .partition(|words| TOO_SLOW.iter().any(|it| words.contains(it)));
    found.wrong("requests not answered", &unanswered[..].into());
    found.late("requests not answered in time", &overdue[..].into());
    found.late("events of which nobody knew in time what became", &publishing.overdue);
    let revoked = revoked::judge(history, &tokens, &bans, targets.revocation);
    found.wrong("revoked tokens accepted", &revoked.late[..].into());
    found.late("revoked tokens accepted for too long", &revoked.slow[..].into());
    let controlled = Controlled::judge(history, (&tokens, &bans), targets.control, &mut found);
    let sequences = sequences::judge(history);
    found.wrong("events acknowledged and lost", &sequences.lost);
    found.wrong("events received twice", &sequences.twice);
    let over = targets.gaps.filter(|gaps| sequences.announced > *gaps);
    let over = over.map(|gaps| format!("{} announced, allowed are {gaps}", sequences.announced));
    found.wrong("bounds on gaps exceeded", &over.as_slice().into());
    found.wrong("events out of order", &sequences.disordered);
    found.wrong("events received under another id than acknowledged", &sequences.renamed);
    found.wrong("streams left with the word that the log cannot be reached", &sequences.left_degraded);
    found.wrong("events received beyond a grant", &sequences.foreign);
    found.wrong("events received as of another topic", &sequences.mislabelled);
    let judged = sequences.judged;
    let few = (judged < targets.judged).then(|| format!("{judged}, at least {} are needed", targets.judged));
    found.wrong("numbers of judged events too small", &few.as_slice().into());
    let trespasses = trespasses::judge(history);
    found.wrong("requests beyond a grant accepted", &trespasses.accepted);
    found.wrong("loads whose requests beyond a grant were never refused", &trespasses.void.as_slice().into());
    found.wrong("events acknowledged twice as different ones", &publishing.doubled);
    found.late("events never acknowledged", &publishing.given_up);
    let reconnects = streams::judge(history, targets);
    found.wrong("streams lost", &reconnects.violations[..].into());
    found.late("bounds on resuming exceeded", &reconnects.late.as_slice().into());
    let recoveries = rounds::judge(history, targets);
    found.wrong("rounds without recovery", &recoveries.never[..].into());
    found.late("rounds not detected or without recovery in time", &recoveries.late[..].into());
    let (own, slow_own): (Vec<_>, Vec<_>) =
        instances(history, targets).into_iter().partition(|(_, is_slow)| !is_slow);
    let texts = |found: Vec<(String, bool)>| found.into_iter().map(|(text, _)| text).collect::<Vec<_>>();
    found.wrong("instances with figures out of bounds", &texts(own)[..].into());
    found.late("instances with breakers that timeouts opened", &texts(slow_own)[..].into());
    found.late("instances with requests that took too long", &long(history, targets)[..].into());
    let judged = Judged {
        refused: refused.len(),
        unanswered: unanswered.len() + overdue.len() + publishing.overdue.count,
        revoked,
        recoveries,
        reconnects,
        publishing,
        sequences,
        trespasses,
        controlled,
    };
    let summary = Summary::of(history, &judged);
    found.late("latencies out of bounds", &slow(&summary, targets)[..].into());
    let waited = targets.through_balancer.map(|bound| waited_for_long(history, bound)).unwrap_or_default();
    found.late("requests through the balancer took too long", &waited[..].into());
    // An empty history must not pass.
    let validated = history.operations.iter().any(|it| it.kind == Kind::Introspect);
    let nothing = (!validated).then(|| "no token was validated".to_owned());
    found.wrong("logs of nothing", &nothing.as_slice().into());
    let Violations { mut violations, mut late } = found;
    if targets.times == Times::Count {
        violations.append(&mut late);
    }
    Verdict { summary, violations, late, times: targets.times }
}

fn words_of_unanswered(operation: &Operation) -> Option<String> {
    let Outcome::Unanswered(words) = &operation.outcome else { return None };
    let Operation { kind, endpoint, sent, .. } = operation;
    Some(format!("{kind:?} on {endpoint} at {sent:?}: {words}"))
}

/// Violations of the bounds of latencies during a fault.
fn slow(summary: &Summary, targets: Targets) -> Vec<String> {
    let (calm, during) = (summary.p99_calm, summary.p99_fault);
    let bounds = targets.p99.into_iter().chain(targets.p99_times.map(|times| calm * times));
    let exceeded = bounds.filter(|bound| during > *bound);
    let slow =
        exceeded.map(|bound| format!("p99 {during:?} during a fault, {calm:?} otherwise; over {bound:?}"));
    let (calm, during) = (summary.delivery_p99_calm, summary.delivery_p99_fault);
    let bound = |times| calm.unwrap_or_default().mul_f64(times);
    let late = targets.delivery_times.filter(|times| during.unwrap_or(Duration::MAX) > bound(*times));
    let late =
        late.map(|times| format!("p99 of deliveries {during:?}, {calm:?} otherwise; over {times} times"));
    slow.chain(late).collect()
}

/// Requests through the load balancer over the bound, without starved time.
fn waited_for_long(history: &History, bound: Duration) -> Vec<String> {
    let starvation = Starvation::of(history);
    let hot = |it: &&Operation| matches!(it.kind, Kind::Issue { .. } | Kind::Introspect);
    let through = history.operations.iter().filter(|it| it.endpoint == Endpoint::Balancer).filter(hot);
    let long = through.filter(|it| it.took().saturating_sub(starvation.within(it.sent, it.answered)) > bound);
    long.map(|it| format!("{:?} at {:?} took {:?}", it.kind, it.sent, it.took())).collect()
}

/// Whether the target could not be expected to answer.
pub(crate) fn is_excused(history: &History, endpoint: Endpoint, sent: Moment, answered: Moment) -> bool {
    let mut own = history.outages.iter().filter(|it| it.endpoint == endpoint);
    own.any(|it| it.from <= answered && it.until.is_none_or(|until| sent <= until))
}

/// Violations in the figures of the instances, and whether slowness explains them. On a machine
/// without a free processor, calls of Redis miss their deadline, and three in a row open a breaker.
fn instances(history: &History, targets: Targets) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (index, own) in history.instances.iter().enumerate() {
        let openings = own.transitions.get("open").copied().unwrap_or(0);
        if openings > targets.openings {
            let only_timeouts = own.faults.iter().all(|(reason, count)| reason == "timeout" || *count == 0);
            let has_timeouts = own.faults.get("timeout").is_some_and(|count| *count > 0);
            let text = format!("instance {index}: its breaker opened {openings} times");
            found.push((text, has_timeouts && only_timeouts));
        }
        if own.stream_ends > 0 && targets.reconnects == 0 {
            found.push((format!("instance {index}: it ended {} streams", own.stream_ends), false));
        }
    }
    found
}

/// Violations in the instances' histograms. A histogram has no times, so as many requests are
/// excused as clients saw taking long in starved time.
fn long(history: &History, targets: Targets) -> Vec<String> {
    let Some(longest) = targets.longest else { return Vec::new() };
    let bound = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    let counted = history.instances.iter().enumerate().filter_map(|(index, own)| {
        let (longer, starved) = (own.longer_than(bound), starved(history, index, longest));
        (longer > starved).then(|| {
            format!("instance {index}: {longer} requests over {longest:?}, {starved} of them starved")
        })
    });
    counted.collect()
}

/// Number of requests that took an instance too long in starved time.
fn starved(history: &History, index: usize, longest: Duration) -> u64 {
    let starvation = Starvation::of(history);
    // The instance behind the load balancer is unknown; it may be this one.
    let own = |endpoint: Endpoint| endpoint == Endpoint::Instance(index) || endpoint == Endpoint::Balancer;
    let slow = history.operations.iter().filter(|it| it.took() > longest && it.kind != Kind::Look);
    let starved = slow
        .filter(|it| own(it.endpoint))
        .filter(|it| it.took().saturating_sub(starvation.within(it.sent, it.answered)) <= longest);
    u64::try_from(starved.count()).unwrap_or(u64::MAX)
}

/// Tokens by number: issue and revocation.
struct Tokens<'a> {
    issued: HashMap<u64, (&'a Operation, Duration)>,
    /// Requested revocations, which may have been carried out without an answer.
    revoked: HashMap<u64, &'a Operation>,
}

impl<'a> Tokens<'a> {
    fn of(history: &'a History) -> Self {
        let (mut issued, mut revoked) = (HashMap::new(), HashMap::new());
        for operation in &history.operations {
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

    /// Time from which a token may be refused for its age.
    fn judged_until(&self, token: u64, clocks: Duration) -> Option<Moment> {
        let (issued, life) = self.issued.get(&token)?;
        Some(issued.sent + life.saturating_sub(clocks))
    }

    fn valid_and_refused(&self, history: &History, bans: &Bans, clocks: Duration) -> Vec<String> {
        let refused = history.operations.iter().filter(|it| {
            it.is_validation()
                && it.outcome == Outcome::No
                && self.judged_until(it.token, clocks).is_some_and(|end| it.answered <= end)
                && self.revoked.get(&it.token).is_none_or(|revoked| revoked.sent > it.answered)
                && !bans.may_refuse(self, it)
        });
        let words = refused.map(|it| {
            let (issued, _) = self.issued[&it.token];
            format!(
                "token {} issued by {} at {:?}, refused ({:?}) by {} at {:?}",
                it.token, issued.endpoint, issued.answered, it.kind, it.endpoint, it.answered
            )
        });
        words.collect()
    }
}
