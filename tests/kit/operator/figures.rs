//! Figures of an instance, read from its metrics.

use std::collections::BTreeMap;

/// The routes of the hot path: what waits for Redis.
const ROUTES: [&str; 3] =
    ["/operator/api/events/sse-token", "/operator/api/tokens/introspect", "/operator/api/tokens/revoke"];
/// Ends of streams that are nobody's fault.
const EXPECTED_ENDS: [&str; 7] =
    ["blocked", "client", "ended", "grant_ended", "lease_lost", "replaced", "revoked"];

/// Figures of an instance since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceFigures {
    /// Requests that issue, introspect or revoke, by the upper bound of their time in microseconds:
    /// so many took no longer. The last bound is [`u64::MAX`].
    pub requests: BTreeMap<u64, u64>,
    /// Transitions of the breaker, by the state it went to.
    pub transitions: BTreeMap<String, u64>,
    /// Calls of Redis that failed, by reason.
    pub faults: BTreeMap<String, u64>,
    /// Streams that ended, but for those whose client left, and those that a command, a cap or a
    /// grant ended.
    pub stream_ends: u64,
    /// Tokens accepted without an answer of Redis.
    pub degraded_accepts: u64,
    /// Tokens and revocations brought to Redis afterwards.
    pub reconciled: u64,
}

impl InstanceFigures {
    /// Reads a page of metrics.
    #[must_use]
    pub fn read(page: &str) -> Self {
        let mut figures = Self::default();
        for line in page.lines().filter_map(|line| line.strip_prefix("vx11_operator_")) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            // Durations have fractions and are of no interest here.
            let Ok(value) = value.parse::<u64>() else { continue };
            match name {
                "http_request_duration_seconds_bucket" if is_hot(labels) => {
                    *figures.requests.entry(bound(labels)).or_default() += value;
                }
                "breaker_transitions_total" => {
                    figures.transitions.insert(label(labels, "to").to_owned(), value);
                }
                "store_faults_total" => {
                    figures.faults.insert(label(labels, "reason").to_owned(), value);
                }
                "sse_streams_ended_total" if !EXPECTED_ENDS.contains(&label(labels, "reason")) => {
                    figures.stream_ends += value;
                }
                "degraded_accepts_total" => figures.degraded_accepts = value,
                "reconciled_tokens_total" => figures.reconciled = value,
                _ => {}
            }
        }
        figures
    }

    /// Number of requests over this bound in µs, which is a bucket of the histogram.
    #[must_use]
    pub fn longer_than(&self, micros: u64) -> u64 {
        let all = self.requests.get(&u64::MAX).copied().unwrap_or(0);
        let within = self.requests.range(..=micros).next_back().map_or(0, |(_, count)| *count);
        all - within
    }

    /// The lowest bound that all requests kept, in microseconds.
    #[must_use]
    pub fn longest(&self) -> u64 {
        let all = self.requests.get(&u64::MAX).copied().unwrap_or(0);
        self.requests.iter().find(|(_, count)| **count == all).map_or(0, |(bound, _)| *bound)
    }
}

fn is_hot(labels: &str) -> bool {
    ROUTES.contains(&label(labels, "route"))
}

fn bound(labels: &str) -> u64 {
    let seconds: f64 = label(labels, "le").parse().expect("a bound is a number");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "infinity becomes the maximum"
    )]
    let micros = (seconds * 1e6).round() as u64;
    micros
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let found = labels.split([',', '{', '}']).find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
    found.map_or("", |value| value.trim_end_matches('"'))
}
