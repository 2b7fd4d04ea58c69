//! The drills at full length, one after the other, with a table in the end.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde_json::json;

use super::{Binary, results, say};
use crate::drills::{DRILLS, Drill, Length, run as run_drill};
use crate::fault_run::Report;
use crate::summary::Summary;

/// Which drills, and how.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    binary: Binary,
    /// Only these, by number and separated by commas; all otherwise.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u8>,
    /// One short round of each, as `make verify` does.
    #[arg(long)]
    brief: bool,
    /// Streams that are kept open; no results are kept then.
    #[arg(long)]
    streams: Option<usize>,
    /// Events published a second; no results are kept then.
    #[arg(long)]
    events: Option<u32>,
    /// Path of the report.
    #[arg(long, default_value = "target/drills.json")]
    report: PathBuf,
    /// Folder of results, to which those of drills are added that were run at full length.
    #[arg(long)]
    results: Option<PathBuf>,
}

impl Options {
    fn length(&self) -> Length {
        let length = if self.brief { Length::brief() } else { Length::full() };
        Length {
            subscribers: self.streams.unwrap_or(length.subscribers),
            events: self.events.unwrap_or(length.events),
            ..length
        }
    }
}

/// Whether all targets were met.
pub(super) async fn run(options: Options) -> Result<bool, String> {
    let chosen = choose(&options.only)?;
    let length = options.length();
    let binary = options.binary.find()?;
    let started = Instant::now();
    let (mut reports, mut broken) = (Vec::new(), 0);
    for (index, drill) in chosen.iter().enumerate() {
        let lasts = drill.length(length);
        say(&format!(
            "[{}/{}] drill {}: {}, {} times, {} tokens and {} events a second, {} streams",
            index + 1,
            chosen.len(),
            drill.number,
            drill.fault,
            lasts.rounds,
            lasts.rate,
            lasts.events,
            lasts.subscribers
        ));
        let Some(report) = run_one(drill, length, &binary).await else {
            broken += 1;
            continue;
        };
        if drill.number == 12 {
            say(&report.chart);
        }
        for note in &report.notes {
            say(&format!("      {note}"));
        }
        for late in &report.verdict.late {
            say(&format!("      not counted: {late}"));
        }
        for violation in &report.verdict.violations {
            say(&format!("      MISSED {violation}"));
        }
        reports.push(report);
        // After each, so that nothing is lost with the next.
        write_report(&options.report, &reports)?;
    }
    say(&format!("\n{}", Summary::header()));
    for report in &reports {
        say(&report.verdict.summary.row(&report.name));
    }
    let missed = reports.iter().filter(|report| !report.verdict.violations.is_empty()).count();
    let is_documented = !options.brief && options.streams.is_none() && options.events.is_none();
    if let Some(folder) = options.results.filter(|_| is_documented) {
        results::keep(&folder, &reports)?;
    }
    let (met, missed, took) = (reports.len() - missed, missed + broken, minutes(started.elapsed()));
    say(&format!(
        "\n{met} drills met their targets, {missed} did not, in {took}. {}",
        options.report.display()
    ));
    Ok(missed == 0)
}

/// Runs one; none, if it could not be carried through. The others are run all the same.
async fn run_one(drill: &'static Drill, length: Length, binary: &Path) -> Option<Report> {
    let rounds = drill.length(length).rounds;
    let run = run_drill(drill, length, binary, |round| {
        say(&format!("      round {round} of {rounds}"));
    });
    // The panic has said why; nothing of the drill is used after it.
    let done = AssertUnwindSafe(run).catch_unwind().await;
    done.inspect_err(|_| say("      MISSED the drill could not be carried through")).ok()
}

fn choose(only: &[u8]) -> Result<Vec<&'static Drill>, String> {
    if only.is_empty() {
        return Ok(DRILLS.iter().collect());
    }
    let known = || DRILLS.map(|drill| drill.number.to_string()).join(", ");
    let chosen = only.iter().map(|number| {
        Drill::numbered(*number).ok_or_else(|| format!("there is no drill {number}; there are {}", known()))
    });
    chosen.collect()
}

fn write_report(file: &Path, reports: &[Report]) -> Result<(), String> {
    let all = json!(reports.iter().map(Report::json).collect::<Vec<_>>());
    std::fs::write(file, format!("{all:#}\n")).map_err(|error| format!("{}: {error}", file.display()))
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} minutes", time.as_secs() / 60, time.as_secs() % 60)
}
