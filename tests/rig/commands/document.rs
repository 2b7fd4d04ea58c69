//! The table in `docs/drills.md`: a row for each drill and load, replaced when it is run at full
//! length.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checker::Times;
use crate::drills::Length;
use crate::fault_run::Report;
use crate::summary::Summary;

/// Markers around the generated part.
const TABLE: [&str; 2] = ["<!-- drills: begin -->\n", "<!-- drills: end -->"];
const CHART: [&str; 2] = ["<!-- chart: begin -->\n", "<!-- chart: end -->"];
/// The drill whose chart is shown.
const CHARTED: &str = "12 ";

/// Replaces the rows of these drills, and the chart if it is among them.
pub(super) fn update(file: &Path, length: Length, reports: &[Report]) -> Result<(), String> {
    let words = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut text = std::fs::read_to_string(file).map_err(words)?;
    let no_place = || format!("{}: no place for the table", file.display());
    let today = today();
    let old = between(&text, TABLE).ok_or_else(no_place)?;
    let mut rows: BTreeMap<(u8, String), String> =
        old.lines().filter_map(|row| Some((key_of(row)?, row.to_owned()))).collect();
    let load = format!("{} x {}", length.subscribers, length.events);
    for report in reports {
        let row = report.verdict.summary.row(report.name.trim());
        let times = match report.verdict.times {
            Times::Count => "count",
            Times::AreTold => "told",
        };
        let row = cells(with_load(&row, &load).chain([times, &today]));
        rows.extend(key_of(&row).map(|key| (key, row)));
    }
    let header = cells(with_load(&Summary::header(), "streams x events/s").chain(["times", "date"]));
    let line = "|---".repeat(header.matches(" | ").count() + 1);
    let rows = rows.into_values().collect::<Vec<_>>().join("\n");
    let table = format!("{}\n\n{header}\n{line}|\n{rows}\n", machine());
    text = replace(&text, TABLE, &table).ok_or_else(no_place)?;
    if let Some(charted) = reports.iter().find(|report| report.name.trim().starts_with(CHARTED)) {
        let chart = format!("```text\n{}```\n", charted.chart);
        text = replace(&text, CHART, &chart).ok_or_else(no_place)?;
    }
    std::fs::write(file, text).map_err(words)
}

fn between<'a>(text: &'a str, [begin, end]: [&str; 2]) -> Option<&'a str> {
    Some(text.split_once(begin)?.1.split_once(end)?.0)
}

fn replace(text: &str, marks: [&str; 2], new: &str) -> Option<String> {
    let (before, rest) = text.split_once(marks[0])?;
    let (_, after) = rest.split_once(marks[1])?;
    Some(format!("{before}{}{new}{}{after}", marks[0], marks[1]))
}

/// Which drill a row is about, and under which load, if it is one.
fn key_of(row: &str) -> Option<(u8, String)> {
    let mut cells = row.strip_prefix("| ")?.split(" | ");
    let number = cells.next()?.split(' ').next()?.parse().ok()?;
    Some((number, cells.next()?.to_owned()))
}

/// The cells of a row, which has wide gaps between them, and the load behind the fault.
fn with_load<'a>(row: &'a str, load: &'a str) -> impl Iterator<Item = &'a str> {
    let mut cells = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
    cells.next().into_iter().chain([load]).chain(cells)
}

fn cells<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// The machine, in one line.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("`make drill`, {cores} shared cores ({}).", model.trim_start_matches([':', ' ', '\t']))
}

/// As `2026-01-31`, of this machine's own clock.
fn today() -> String {
    let output = std::process::Command::new("date").arg("+%F").output();
    String::from_utf8_lossy(&output.map(|output| output.stdout).unwrap_or_default()).trim().to_owned()
}
