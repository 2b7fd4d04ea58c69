//! Chart of a round, second by second, as text.

use std::fmt::Write;
use std::time::Duration;

use crate::history::{Endpoint, History, Kind, Outcome, Round, StreamTurn};

/// Before the round and after it.
const MARGIN: u64 = 2;
/// The longest bar.
const WIDTH: usize = 40;

/// Chart of the first round of a history: requests answered and failed through the load balancer,
/// the slowest of them, open streams, and instances that stopped and started.
pub(crate) fn chart(history: &History) -> String {
    let Some(round) = history.rounds.first() else { return String::new() };
    let seconds = span(history, round);
    let rows: Vec<_> = seconds.map(|second| Row::of(history, second)).collect();
    let most = rows.iter().map(|row| row.answered).max().unwrap_or(0).max(1);
    let mut chart =
        format!("{:>4}  {:>8}  {:>6}  {:>10}  {:>7}\n", "s", "answered", "failed", "longest ms", "streams");
    for row in rows {
        let bar = "#".repeat((row.answered * WIDTH).div_ceil(most));
        let line = format!(
            "{:>4}  {:>8}  {:>6}  {:>10}  {:>7}  {bar:WIDTH$}  {}",
            row.second,
            row.answered,
            row.failed,
            row.longest.as_millis(),
            row.streams,
            row.what.join(", ")
        );
        let _ = writeln!(chart, "{}", line.trim_end());
    }
    chart
}

fn span(history: &History, round: &Round) -> std::ops::RangeInclusive<u64> {
    let over = round.over.unwrap_or(history.length);
    round.from.as_secs().saturating_sub(MARGIN)..=(over.as_secs() + MARGIN).min(history.length.as_secs())
}

struct Row {
    second: u64,
    answered: usize,
    failed: usize,
    longest: Duration,
    streams: usize,
    what: Vec<String>,
}

impl Row {
    fn of(history: &History, second: u64) -> Self {
        let is_now = |at: Duration| at.as_secs() == second;
        let through =
            history.operations.iter().filter(|it| it.endpoint == Endpoint::Balancer && it.kind != Kind::Look);
        let now: Vec<_> = through.filter(|it| is_now(it.answered)).collect();
        let failed = now.iter().filter(|it| matches!(it.outcome, Outcome::Unanswered(_))).count();
        let (mut opened, mut lost) = (0, 0);
        for moment in history.streams.iter().filter(|it| it.at.as_secs() <= second) {
            match moment.turn {
                StreamTurn::Opened => opened += 1,
                StreamTurn::Lost(_) | StreamTurn::Left => lost += 1,
            }
        }
        let went =
            history.outages.iter().filter(|it| is_now(it.from)).map(|it| format!("{} goes", it.endpoint));
        let came = history.outages.iter().filter(|it| it.until.is_some_and(is_now));
        let came = came.map(|it| format!("{} is back", it.endpoint));
        Self {
            second,
            answered: now.len() - failed,
            failed,
            longest: now.iter().map(|it| it.took()).max().unwrap_or_default(),
            streams: opened - lost,
            what: went.chain(came).collect(),
        }
    }
}
