//! The drills at full length, one after the other, with a table in the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Binary, say};
use crate::drills::{DRILLS, Drill, Length, run as run_drill};
use crate::summary::Summary;
use crate::trial::{Report, Turn};

/// Between these the table stands in the document.
const MARKS: [&str; 2] = ["<!-- drills: begin -->", "<!-- drills: end -->"];

/// Which drills, and how.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    binary: Binary,
    /// Only these, by number and separated by commas; all otherwise.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u8>,
    /// One short round of each, as `make test` does with some.
    #[arg(long)]
    brief: bool,
    /// Where the report is written.
    #[arg(long, default_value = "target/drills.json")]
    report: PathBuf,
    /// A document whose table is written anew, when all drills were run at full length.
    #[arg(long)]
    document: Option<PathBuf>,
}

/// Whether all targets were met.
pub(super) async fn run(options: Options) -> Result<bool, String> {
    let binary = options.binary.find()?;
    let chosen = choose(&options.only)?;
    let length = if options.brief { Length::brief() } else { Length::full() };
    let started = Instant::now();
    let mut reports = Vec::new();
    for (index, drill) in chosen.iter().enumerate() {
        say(&format!(
            "[{}/{}] drill {}: {}, {} times, {} tokens a second, {} streams",
            index + 1,
            chosen.len(),
            drill.number,
            drill.fault,
            length.rounds,
            length.rate,
            length.subscribers
        ));
        let report = run_drill(Turn::wait().await, drill, length, &binary, |round| {
            say(&format!("      round {round} of {}", length.rounds));
        })
        .await;
        if drill.number == 12 {
            say(&report.chart);
        }
        for violation in &report.verdict.violations {
            say(&format!("      MISSED {violation}"));
        }
        reports.push(report);
    }
    say(&format!("\n{}", Summary::header()));
    for report in &reports {
        say(&report.verdict.summary.row(&report.name));
    }
    let missed = reports.iter().filter(|report| !report.verdict.violations.is_empty()).count();
    write_report(&options.report, &reports)?;
    if let Some(document) = options.document.filter(|_| options.only.is_empty() && !options.brief) {
        write_document(&document, &reports)?;
    }
    let (met, took) = (reports.len() - missed, minutes(started.elapsed()));
    say(&format!(
        "\n{met} drills met their targets, {missed} did not, in {took}. {}",
        options.report.display()
    ));
    Ok(missed == 0)
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

fn write_document(file: &Path, reports: &[Report]) -> Result<(), String> {
    let words = |error: std::io::Error| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(words)?;
    let parts =
        text.split_once(MARKS[0]).and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{}: no place for the table", file.display()))?;
    let cells = |row: &str| {
        format!(
            "| {} |\n",
            row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | ")
        )
    };
    let mut table = cells(&Summary::header());
    table.push_str(
        &"|---".repeat(Summary::header().split("  ").filter(|cell| !cell.trim().is_empty()).count()),
    );
    table.push_str("|\n");
    for report in reports {
        table.push_str(&cells(&report.verdict.summary.row(report.name.trim())));
    }
    let rolling = reports.iter().find(|report| report.name.trim().starts_with("12 "));
    let chart = rolling
        .map(|report| format!("\nOne rolling restart, second by second:\n\n```text\n{}```\n", report.chart));
    let machine = machine();
    let text =
        format!("{before}{}\n{machine}\n\n{table}{}{}{after}", MARKS[0], chart.unwrap_or_default(), MARKS[1]);
    std::fs::write(file, text).map_err(words)
}

/// The machine and the day, in one line.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let today = std::process::Command::new("date").arg("+%F").output().map(|output| output.stdout);
    let today = String::from_utf8_lossy(&today.unwrap_or_default()).trim().to_owned();
    format!("`make drill` on {today}, {cores} shared cores ({}).", model.trim_start_matches([':', ' ', '\t']))
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} minutes", time.as_secs() / 60, time.as_secs() % 60)
}
