//! One line about one fault, and the same with everything else as JSON.

mod control;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use vx11_kit::InstanceFigures;

use crate::checker::{Judged, Reconnects, Starvation, Troubles, is_excused, percentile};
use crate::history::{History, Kind, Moment, Operation, Outcome};

pub use control::ControlFigures;

/// The columns, with their widths.
const COLUMNS: [(&str, usize); 28] = [
    ("fault", 34),
    ("rounds", 6),
    ("issued", 6),
    ("validated", 9),
    ("VR", 3),
    ("UN", 3),
    ("SR", 3),
    ("LEAK", 4),
    ("acked", 6),
    ("EL", 3),
    ("DUP", 3),
    ("FOREIGN", 7),
    ("judged", 8),
    ("gaps", 4),
    ("no publishing s", 15),
    ("delivery p99 ms", 15),
    ("lost", 5),
    ("resumed s p99", 13),
    ("longest ms", 10),
    ("by server", 9),
    ("p99 ms calm/fault", 17),
    ("detect s", 8),
    ("recover s", 9),
    ("openings", 8),
    ("by signature", 12),
    ("reconciled", 10),
    ("cut SR s", 8),
    ("starved s", 9),
];

/// Time after recovery in which delayed events may still arrive.
const AFTERMATH: Duration = Duration::from_secs(4);

/// The figures of one fault.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Times something was broken.
    pub rounds: usize,
    /// Tokens issued.
    pub issued: usize,
    /// Answers about tokens that were not revoked, by introspection or by a stream.
    pub validated: usize,
    /// Tokens taken back.
    pub revoked: usize,
    /// Valid tokens refused.
    pub valid_refused: usize,
    /// Requests not answered, or with a status of 5xx.
    pub unanswered: usize,
    /// Revoked tokens accepted where they must not be.
    pub revoked_accepted: usize,
    /// The longest time after a revocation that its token was accepted during a fault.
    pub longest_in_fault: Duration,
    /// Places in which a secret was found, where that was looked for.
    pub leaks: Option<usize>,
    /// Events acknowledged to their publisher.
    pub acknowledged: usize,
    /// Attempts to publish with the answer `log_unavailable`.
    pub publishing_refused: usize,
    /// Attempts to publish of which nobody knew what became.
    pub publishing_unknown: usize,
    /// The longest time from such an answer to the next acknowledgement; unknown where none came.
    pub publishing_unavailable: Option<Duration>,
    /// Events that a subscriber should have got and did not, for all subscribers together.
    pub events_lost: usize,
    /// Events that a subscriber got again, for all subscribers together.
    pub events_twice: usize,
    /// Events that a subscriber got beyond its grant, for all subscribers together.
    pub foreign: usize,
    /// Events that were due in a sequence of a subscriber with a grant, for its topics or not, for
    /// all sequences together.
    pub judged: usize,
    /// Sequences of subscribers with a grant.
    pub begun: usize,
    /// Sequences among these that begin at the event id of another subscriber.
    pub others_ids: usize,
    /// Requests beyond a grant that were refused.
    pub trespasses_refused: usize,
    /// Requests beyond a grant that opened a stream.
    pub trespasses_accepted: usize,
    /// Events whose loss was announced by `reset`, for all subscribers together.
    pub events_announced: usize,
    /// Number of resets.
    pub resets: usize,
    /// From when an event was due until a subscriber had it, for 99 of a hundred, while nothing was
    /// broken.
    pub delivery_p99_calm: Option<Duration>,
    /// The same from a fault until all instances were well again.
    pub delivery_p99_fault: Option<Duration>,
    /// Number of lost streams.
    pub streams_lost: usize,
    /// The most that one subscriber lost in one round.
    pub most_lost: usize,
    /// Until a lost stream was open again, for 99 of a hundred; unknown where one never was.
    pub resumed: Option<Duration>,
    /// The longest request as its client saw it.
    pub longest: Duration,
    /// The same, counted from when it should have been sent.
    pub longest_from_due: Duration,
    /// The bound of the instances' histograms that no request exceeded, in microseconds.
    pub longest_by_server: u64,
    /// Of issuing and introspecting while nothing was broken.
    pub p99_calm: Duration,
    /// The same from a fault until all instances were well again.
    pub p99_fault: Duration,
    /// In how many rounds an instance stopped using Redis.
    pub detected: usize,
    /// The longest time until then.
    pub detection: Duration,
    /// The longest time from Redis being back until all instances were well.
    pub recovery: Duration,
    /// The middle one of these times.
    pub recovery_median: Duration,
    /// Starved time.
    pub starved: Duration,
    /// Of all instances together.
    pub counted: InstanceFigures,
    /// Commands, lists, caps and tickets.
    pub control: ControlFigures,
}

impl Summary {
    pub(crate) fn of(history: &History, judged: &Judged) -> Self {
        let Judged { revoked, recoveries, reconnects, publishing, sequences, trespasses, .. } = judged;
        let is_judged = |it: &&Operation| {
            it.kind != Kind::Look && !is_excused(history, it.endpoint, it.sent, it.answered)
        };
        let requests = || history.operations.iter().filter(is_judged);
        let troubles = Troubles::of(history, Duration::ZERO);
        let unpublished = Troubles::of(history, AFTERMATH);
        let (during, calm): (Vec<_>, Vec<_>) = requests()
            .filter(|it| is_hot(it) && it.sent >= history.calm_from)
            .partition(|it| troubles.contain(it.sent));
        let p99 = |some: Vec<&Operation>| percentile(some.into_iter().map(Operation::from_due).collect(), 99);
        let counted = sum(&history.instances);
        Self {
            rounds: history.rounds.len(),
            issued: requests().filter(|it| is_issued(it)).count(),
            validated: requests().filter(|it| it.is_validation()).count(),
            revoked: revoked.count,
            valid_refused: judged.refused,
            unanswered: judged.unanswered,
            revoked_accepted: revoked.late.len() + revoked.slow.len(),
            longest_in_fault: revoked.listed.iter().max().copied().unwrap_or_default(),
            leaks: None,
            acknowledged: publishing.acknowledged,
            publishing_refused: publishing.refused,
            publishing_unknown: publishing.unknown,
            publishing_unavailable: publishing.unavailable,
            events_lost: sequences.lost.count,
            events_twice: sequences.twice.count,
            foreign: sequences.foreign.count,
            judged: sequences.judged,
            begun: sequences.begun,
            others_ids: sequences.others_ids,
            trespasses_refused: trespasses.refused,
            trespasses_accepted: trespasses.accepted.count,
            events_announced: sequences.announced,
            resets: sequences.resets,
            delivery_p99_calm: delivery_p99(history, |from, until| !unpublished.overlap(from, until)),
            delivery_p99_fault: delivery_p99(history, |from, until| troubles.overlap(from, until)),
            streams_lost: reconnects.lost,
            most_lost: reconnects.most,
            resumed: resumed(reconnects),
            longest: requests().map(Operation::took).max().unwrap_or_default(),
            longest_from_due: requests()
                .map(|it| it.answered.saturating_sub(it.due))
                .max()
                .unwrap_or_default(),
            longest_by_server: counted.longest(),
            p99_calm: p99(calm),
            p99_fault: p99(during),
            detected: recoveries.detected.len(),
            detection: recoveries.detected.iter().max().copied().unwrap_or_default(),
            recovery: recoveries.took.iter().max().copied().unwrap_or_default(),
            recovery_median: percentile(recoveries.took.clone(), 50),
            starved: Starvation::of(history).within(Duration::ZERO, history.length),
            counted,
            control: ControlFigures::of(&judged.controlled),
        }
    }

    /// The names of what [`row`](Self::row) shows.
    #[must_use]
    pub fn header() -> String {
        line(&COLUMNS.map(|(name, _)| name.to_owned()))
    }

    /// One line.
    #[must_use]
    pub fn row(&self, fault: &str) -> String {
        let by_server = match self.longest_by_server {
            u64::MAX => "> 10 s".to_owned(),
            micros => format!("<={}", micros / 1000),
        };
        line(&[
            fault.to_owned(),
            self.rounds.to_string(),
            self.issued.to_string(),
            self.validated.to_string(),
            self.valid_refused.to_string(),
            self.unanswered.to_string(),
            self.revoked_accepted.to_string(),
            self.leaks.map_or("-".to_owned(), |leaks| leaks.to_string()),
            self.acknowledged.to_string(),
            self.events_lost.to_string(),
            self.events_twice.to_string(),
            self.foreign.to_string(),
            self.judged.to_string(),
            self.events_announced.to_string(),
            self.publishing_unavailable
                .map_or("for good".to_owned(), |time| format!("{:.1}", time.as_secs_f64())),
            format!("{}/{}", millis(self.delivery_p99_calm), millis(self.delivery_p99_fault)),
            self.streams_lost.to_string(),
            self.resumed.map_or("never".to_owned(), |resumed| format!("{:.2}", resumed.as_secs_f64())),
            format!("{}/{}", self.longest.as_millis(), self.longest_from_due.as_millis()),
            by_server,
            format!("{}/{}", self.p99_calm.as_millis(), self.p99_fault.as_millis()),
            format!("{:.2}x{}", self.detection.as_secs_f64(), self.detected),
            format!("{:.2}/{:.2}", self.recovery_median.as_secs_f64(), self.recovery.as_secs_f64()),
            self.counted.transitions.get("open").unwrap_or(&0).to_string(),
            self.counted.degraded_accepts.to_string(),
            self.counted.reconciled.to_string(),
            format!("{:.1}", self.longest_in_fault.as_secs_f64()),
            format!("{:.1}", self.starved.as_secs_f64()),
        ])
    }

    /// Everything.
    #[must_use]
    pub fn json(&self) -> Value {
        let seconds = |time: Duration| time.as_secs_f64();
        let mut all = json!({
            "rounds": self.rounds,
            "issued": self.issued,
            "validated": self.validated,
            "revoked": self.revoked,
            "valid_refused": self.valid_refused,
            "unanswered": self.unanswered,
            "revoked_accepted": self.revoked_accepted,
            "longest_acceptance_after_revocation_in_a_fault_seconds": seconds(self.longest_in_fault),
            "leaks": self.leaks,
            "events_acknowledged": self.acknowledged,
            "events_lost": self.events_lost,
            "events_received_twice": self.events_twice,
            "events_announced_as_lost": self.events_announced,
            "resets": self.resets,
            "publishing_refused": self.publishing_refused,
            "publishing_outcome_unknown": self.publishing_unknown,
            "publishing_unavailable_longest_seconds": self.publishing_unavailable.map(seconds),
            "delivery_p99_calm_seconds": self.delivery_p99_calm.map(seconds),
            "delivery_p99_fault_seconds": self.delivery_p99_fault.map(seconds),
            "streams_lost": self.streams_lost,
            "most_streams_lost_by_one_subscriber_in_a_round": self.most_lost,
            "resumed_p99_seconds": self.resumed.map(seconds),
            "longest_seconds": seconds(self.longest),
            "longest_from_due_seconds": seconds(self.longest_from_due),
            "longest_by_server_at_most_microseconds": self.longest_by_server,
            "p99_calm_seconds": seconds(self.p99_calm),
            "p99_fault_seconds": seconds(self.p99_fault),
            "detected_rounds": self.detected,
            "detection_longest_seconds": seconds(self.detection),
            "recovery_median_seconds": seconds(self.recovery_median),
            "recovery_longest_seconds": seconds(self.recovery),
            "starved_seconds": seconds(self.starved),
            "breaker_transitions": self.counted.transitions,
            "store_faults": self.counted.faults,
            "degraded_accepts": self.counted.degraded_accepts,
            "reconciled": self.counted.reconciled,
        });
        let of_grants = json!({
            "foreign": self.foreign,
            "judged": self.judged,
            "sequences": self.begun,
            "sequences_at_anothers_event_id": self.others_ids,
            "requests_beyond_a_grant_refused": self.trespasses_refused,
            "requests_beyond_a_grant_accepted": self.trespasses_accepted,
        });
        if let (Value::Object(all), Value::Object(of_grants)) = (&mut all, of_grants) {
            all.extend(of_grants);
            all.insert("control".to_owned(), self.control.json());
        }
        all
    }
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1000.0))
}

fn line(cells: &[String; COLUMNS.len()]) -> String {
    let mut line = String::new();
    for (index, (cell, (_, width))) in cells.iter().zip(COLUMNS).enumerate() {
        let _ = if index == 0 { write!(line, "{cell:width$}") } else { write!(line, "  {cell:>width$}") };
    }
    line
}

fn resumed(reconnects: &Reconnects) -> Option<Duration> {
    let took: Option<Vec<_>> = reconnects.took.iter().copied().collect();
    took.map(|took| percentile(took, 99))
}

/// Deliveries of events that were due in these seconds.
fn delivery_p99(history: &History, is_meant: impl Fn(Moment, Moment) -> bool) -> Option<Duration> {
    let second = Duration::from_secs(1);
    let meant = history.deliveries.times.iter().filter(|(from, _)| {
        let from = Duration::from_secs(**from);
        from >= history.calm_from && is_meant(from, from + second)
    });
    let mut all: Option<Histogram<u32>> = None;
    for (_, times) in meant {
        match &mut all {
            Some(all) => all.add(times).expect("histograms of the same bounds"),
            None => all = Some(times.clone()),
        }
    }
    all.map(|all| Duration::from_micros(all.value_at_quantile(0.99)))
}

fn is_issued(operation: &Operation) -> bool {
    matches!(operation.kind, Kind::Issue { .. }) && operation.outcome == Outcome::Yes
}

fn is_hot(operation: &Operation) -> bool {
    matches!(operation.kind, Kind::Introspect | Kind::Issue { .. })
}

/// Sum of the instances' figures.
fn sum(instances: &[InstanceFigures]) -> InstanceFigures {
    let mut all = InstanceFigures::default();
    for own in instances {
        for (bound, count) in &own.requests {
            *all.requests.entry(*bound).or_default() += count;
        }
        add(&mut all.transitions, &own.transitions);
        add(&mut all.faults, &own.faults);
        all.stream_ends += own.stream_ends;
        all.degraded_accepts += own.degraded_accepts;
        all.reconciled += own.reconciled;
    }
    all
}

fn add(all: &mut BTreeMap<String, u64>, own: &BTreeMap<String, u64>) {
    for (name, count) in own {
        *all.entry(name.clone()).or_default() += count;
    }
}
