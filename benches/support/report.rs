//! Report of a benchmark: rows of a table that are printed, and kept as JSON in
//! `docs/measurements/performance`.

mod document;
mod row;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

pub(crate) use row::Row;

/// One benchmark's last run.
#[derive(Serialize, Deserialize)]
struct Report {
    /// Subject and conditions of the measurement, in a sentence or two.
    about: String,
    /// The day of the run, as `2026-01-03`.
    date: String,
    machine: String,
    rows: Vec<Row>,
}

/// Runs the benchmark `name`, reports its rows, and fails where a target is missed. Does nothing
/// unless Cargo asks for a measurement: `cargo test --all-targets` also starts benchmarks, to see
/// that they start.
pub(crate) fn run(name: &str, about: &str, measure: impl FnOnce() -> Vec<Row>) -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let rows = measure();
    print(name, &rows);
    let report =
        Report { about: about.to_owned(), date: document::today(), machine: document::machine(), rows };
    keep(name, &report).expect("the report can be written below docs/measurements");
    if report.rows.iter().all(|row| row.holds != Some(false)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is run for")]
fn print(name: &str, rows: &[Row]) {
    let width = |cell: fn(&Row) -> &str| rows.iter().map(|row| cell(row).chars().count()).max();
    let what = width(|row| &row.what).unwrap_or(0);
    let target = width(|row| &row.target).unwrap_or(0).max("target".len());
    let measured = width(|row| &row.measured).unwrap_or(0).max("measured".len());
    println!("\n{name:<what$}  {:>target$}  {:>measured$}", "target", "measured");
    for row in rows {
        let (holds, end) = match row.holds {
            Some(true) => ("  pass", ""),
            Some(false) => ("  FAIL", "  <--"),
            None => ("", ""),
        };
        println!("{:<what$}  {:>target$}  {:>measured$}{holds}{end}", row.what, row.target, row.measured);
    }
}

/// Keeps the rows, and writes the page of all benchmarks.
fn keep(name: &str, report: &Report) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/measurements/performance");
    let text = serde_json::to_string_pretty(report)? + "\n";
    fs::write(folder.join(name).with_extension("json"), text)?;
    document::write(&folder)
}
