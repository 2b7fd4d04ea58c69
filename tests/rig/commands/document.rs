//! The tables in `docs/drills.md`: a row for each drill, replaced when it is run at full length
//! under the documented load.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::checker::Times;
use crate::fault_run::Report;

/// A generated table: the name in its markers, its head, and the cells of a drill behind its name.
struct Table {
    name: &'static str,
    head: [&'static str; 8],
    cells: fn(&Report) -> [String; 7],
}

const TABLES: [Table; 3] = [
    Table {
        name: "tokens",
        head: [
            "drill",
            "tokens validated",
            "valid tokens refused",
            "requests not answered",
            "revoked tokens accepted",
            "longest acceptance during a cut, s",
            "secrets found",
            "date",
        ],
        cells: tokens,
    },
    Table {
        name: "events",
        head: [
            "drill",
            "events acknowledged",
            "lost",
            "received twice",
            "loss announced by reset",
            "longest without publishing, s",
            "streams lost",
            "99 % open again within, s",
        ],
        cells: events,
    },
    Table {
        name: "times",
        head: [
            "drill",
            "noticed within, s",
            "recovered: median / longest, s",
            "breaker openings",
            "slowest request, ms",
            "99 % of requests, calm / fault, ms",
            "99 % of deliveries, calm / fault, ms",
            "time limits",
        ],
        cells: times,
    },
];
const CHART: &str = "chart";
/// The drill whose chart is shown.
const CHARTED: &str = "12 ";

/// Replaces the rows of these drills, and the chart if it is among them.
pub(super) fn update(file: &Path, reports: &[Report]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut text = std::fs::read_to_string(file).map_err(failed)?;
    for table in &TABLES {
        let old = between(&text, table.name).ok_or_else(|| no_place(file, table.name))?;
        let mut rows: BTreeMap<u8, String> =
            old.lines().filter_map(|row| Some((number_of(row)?, row.to_owned()))).collect();
        for report in reports {
            let name = report.name.trim().to_owned();
            let row = line([name].into_iter().chain((table.cells)(report)));
            rows.extend(number_of(&row).map(|number| (number, row)));
        }
        let head = line(table.head.map(str::to_owned));
        let rows: Vec<_> = rows.into_values().collect();
        let table_text = format!("{head}\n{}|\n{}\n", "|---".repeat(table.head.len()), rows.join("\n"));
        text = replace(&text, table.name, &table_text).ok_or_else(|| no_place(file, table.name))?;
    }
    if let Some(charted) = reports.iter().find(|report| report.name.trim().starts_with(CHARTED)) {
        let chart = format!("```text\n{}```\n", charted.chart);
        text = replace(&text, CHART, &chart).ok_or_else(|| no_place(file, CHART))?;
    }
    std::fs::write(file, text).map_err(failed)
}

fn tokens(report: &Report) -> [String; 7] {
    let summary = &report.verdict.summary;
    [
        summary.validated.to_string(),
        summary.valid_refused.to_string(),
        summary.unanswered.to_string(),
        summary.revoked_accepted.to_string(),
        seconds(summary.longest_in_fault),
        summary.leaks.map_or("-".to_owned(), |leaks| leaks.to_string()),
        today(),
    ]
}

fn events(report: &Report) -> [String; 7] {
    let summary = &report.verdict.summary;
    [
        summary.acknowledged.to_string(),
        summary.events_lost.to_string(),
        summary.events_twice.to_string(),
        summary.events_announced.to_string(),
        summary.publishing_unavailable.map_or("until the end".to_owned(), seconds),
        summary.streams_lost.to_string(),
        summary.resumed.map_or("not all".to_owned(), seconds),
    ]
}

fn times(report: &Report) -> [String; 7] {
    let summary = &report.verdict.summary;
    let pair =
        |calm: Option<Duration>, fault: Option<Duration>| format!("{} / {}", millis(calm), millis(fault));
    let was_noticed = summary.detected > 0;
    let noticed = if was_noticed { hundredths(summary.detection) } else { "-".to_owned() };
    let recovered = format!("{} / {}", hundredths(summary.recovery_median), hundredths(summary.recovery));
    [
        noticed,
        if was_noticed { recovered } else { "-".to_owned() },
        summary.counted.transitions.get("open").unwrap_or(&0).to_string(),
        summary.longest.as_millis().to_string(),
        pair(Some(summary.p99_calm), Some(summary.p99_fault)),
        pair(summary.delivery_p99_calm, summary.delivery_p99_fault),
        match report.verdict.times {
            Times::Count => "checked".to_owned(),
            Times::AreTold => "printed only".to_owned(),
        },
    ]
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

fn hundredths(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| time.as_millis().to_string())
}

fn line(cells: impl IntoIterator<Item = String>) -> String {
    format!("| {} |", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

fn no_place(file: &Path, name: &str) -> String {
    format!("{}: no lines <!-- {name}: begin --> and <!-- {name}: end -->", file.display())
}

fn marks(name: &str) -> [String; 2] {
    [format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->")]
}

fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let [begin, end] = marks(name);
    Some(text.split_once(&begin)?.1.split_once(&end)?.0)
}

fn replace(text: &str, name: &str, new: &str) -> Option<String> {
    let [begin, end] = marks(name);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{new}{end}{after}"))
}

/// The number of the drill that a row is about, if it is one.
fn number_of(row: &str) -> Option<u8> {
    row.strip_prefix("| ")?.split(' ').next()?.parse().ok()
}

/// As `2026-01-31`, by this machine's clock.
fn today() -> String {
    let output = std::process::Command::new("date").arg("+%F").output();
    String::from_utf8_lossy(&output.map(|output| output.stdout).unwrap_or_default()).trim().to_owned()
}
