//! The results of drills that were run at full length under the documented load, kept in
//! `docs/measurements/drills.json`, and the page `drills.md` beside it that shows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checker::Times;
use crate::fault_run::Report;

const FILE: &str = "drills.json";
const PAGE: &str = "drills.md";
/// The drill whose chart is shown.
const CHARTED: &str = "12 ";
const INTRODUCTION: &str = "\
# Results of the drills

`make drill` writes this page; [drills.md](../drills.md) explains drills and targets. Each fault was
tried five times.
";
/// The table of drills with grants.
const GRANTS: [&str; 7] = [
    "drill",
    "streams judged",
    "of these from another's event id",
    "events judged, for each stream",
    "events beyond the grant",
    "requests beyond the grant refused",
    "requests beyond the grant accepted",
];
const TABLES: [(&str, [&str; 8]); 3] = [
    (
        "Tokens",
        [
            "drill",
            "tokens validated",
            "valid tokens refused",
            "requests not answered",
            "revoked tokens accepted",
            "longest acceptance during a cut, s",
            "secrets found",
            "date",
        ],
    ),
    (
        "Events and streams",
        [
            "drill",
            "events acknowledged",
            "lost",
            "received twice",
            "loss announced by reset",
            "longest without publishing, s",
            "streams lost",
            "99 % open again within, s",
        ],
    ),
    (
        "Times",
        [
            "drill",
            "noticed within, s",
            "recovered: median / longest, s",
            "breaker openings",
            "slowest request, ms",
            "99 % of requests, calm / fault, ms",
            "99 % of deliveries, calm / fault, ms",
            "time limits",
        ],
    ),
];

/// Content of [`FILE`].
#[derive(Default, Serialize, Deserialize)]
struct Results {
    /// A line for each second of a rolling restart.
    chart: String,
    drills: BTreeMap<u8, Drill>,
}

/// The latest results of a drill: cells of the three tables.
#[derive(Serialize, Deserialize)]
struct Drill {
    name: String,
    date: String,
    machine: String,
    tokens: [String; 6],
    events: [String; 7],
    times: [String; 7],
    /// Of a drill with grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grants: Option<[String; 6]>,
}

/// Adds the results of these drills to those in `folder`, and writes the page.
pub(super) fn keep(folder: &Path, reports: &[Report]) -> Result<(), String> {
    let file = folder.join(FILE);
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut results = Results::read(&file)?;
    for report in reports {
        let drill = Drill::of(report);
        let number = drill.name.split(' ').next().and_then(|number| number.parse().ok());
        results.drills.extend(number.map(|number| (number, drill)));
        if report.name.trim().starts_with(CHARTED) {
            results.chart.clone_from(&report.chart);
        }
    }
    let text = serde_json::to_string_pretty(&results).map_err(|error| failed(&error))?;
    std::fs::write(&file, text + "\n").map_err(|error| failed(&error))?;
    std::fs::write(folder.join(PAGE), results.page()).map_err(|error| failed(&error))
}

/// The page that shows the results kept in `folder`.
///
/// # Errors
/// The results cannot be read.
pub fn page(folder: &Path) -> Result<String, String> {
    Results::read(&folder.join(FILE)).map(|results| results.page())
}

impl Results {
    fn read(file: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let kept = std::fs::read(file).map_err(|error| failed(&error))?;
        serde_json::from_slice(&kept).map_err(|error| failed(&error))
    }

    fn page(&self) -> String {
        let mut page = INTRODUCTION.to_owned();
        for (index, (title, head)) in TABLES.iter().enumerate() {
            let _ = write!(page, "\n## {title}\n\n{}\n{}|\n", line(head), "|---".repeat(head.len()));
            for drill in self.drills.values() {
                let cells = match index {
                    0 => drill.tokens.iter().chain([&drill.date]).collect::<Vec<_>>(),
                    1 => drill.events.iter().collect(),
                    _ => drill.times.iter().collect(),
                };
                let _ = writeln!(page, "{}", line([&drill.name].into_iter().chain(cells)));
            }
        }
        page.push_str(&self.grants());
        page.push_str("\n## Machines\n\n");
        let mut machines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (number, drill) in &self.drills {
            machines.entry(&drill.machine).or_default().push(number.to_string());
        }
        for (machine, drills) in machines {
            let _ = writeln!(page, "- {machine}: {}", drills.join(", "));
        }
        let _ = write!(
            page,
            "\n## A rolling restart, second by second\n\n\
             Each instance has ten seconds to end its streams, spread evenly. Their clients open them again\n\
             elsewhere after up to two seconds.\n\n```text\n{}```\n",
            self.chart
        );
        page
    }

    /// The section of drills with grants, if there are any.
    fn grants(&self) -> String {
        let rows = self.drills.values().filter_map(|drill| Some((&drill.name, drill.grants.as_ref()?)));
        let rows: Vec<_> = rows.map(|(name, cells)| line(std::iter::once(name).chain(cells))).collect();
        if rows.is_empty() {
            return String::new();
        }
        format!(
            "\n## Grants\n\nThese drills try other drills' faults, each once.\n\n{}\n{}|\n{}\n",
            line(GRANTS),
            "|---".repeat(GRANTS.len()),
            rows.join("\n")
        )
    }
}

impl Drill {
    fn of(report: &Report) -> Self {
        let summary = &report.verdict.summary;
        let pair =
            |calm: Option<Duration>, fault: Option<Duration>| format!("{} / {}", millis(calm), millis(fault));
        let was_noticed = summary.detected > 0;
        let recovered = format!("{} / {}", hundredths(summary.recovery_median), hundredths(summary.recovery));
        let if_noticed = |text: String| if was_noticed { text } else { "-".to_owned() };
        Self {
            name: report.name.trim().to_owned(),
            date: today(),
            machine: machine(),
            tokens: [
                summary.validated.to_string(),
                summary.valid_refused.to_string(),
                summary.unanswered.to_string(),
                summary.revoked_accepted.to_string(),
                tenths(summary.longest_in_fault),
                summary.leaks.map_or("-".to_owned(), |leaks| leaks.to_string()),
            ],
            events: [
                summary.acknowledged.to_string(),
                summary.events_lost.to_string(),
                summary.events_twice.to_string(),
                summary.events_announced.to_string(),
                summary.publishing_unavailable.map_or("until the end".to_owned(), tenths),
                summary.streams_lost.to_string(),
                summary.resumed.map_or("not all".to_owned(), tenths),
            ],
            times: [
                if_noticed(hundredths(summary.detection)),
                if_noticed(recovered),
                summary.counted.transitions.get("open").unwrap_or(&0).to_string(),
                summary.longest.as_millis().to_string(),
                pair(Some(summary.p99_calm), Some(summary.p99_fault)),
                pair(summary.delivery_p99_calm, summary.delivery_p99_fault),
                match report.verdict.times {
                    Times::Count => "checked".to_owned(),
                    Times::AreReported => "printed only".to_owned(),
                },
            ],
            grants: (summary.begun > 0).then(|| {
                let figures = [
                    summary.begun,
                    summary.others_ids,
                    summary.judged,
                    summary.foreign,
                    summary.trespasses_refused,
                    summary.trespasses_accepted,
                ];
                figures.map(|figure| figure.to_string())
            }),
        }
    }
}

fn tenths(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

fn hundredths(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| time.as_millis().to_string())
}

fn line(cells: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|cell| cell.as_ref().to_owned()).collect();
    format!("| {} |", cells.join(" | "))
}

/// The machine, in one line.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cores} shared cores ({})", model.trim_start_matches([':', ' ', '\t']))
}

/// As `2026-01-31`, by this machine's clock.
fn today() -> String {
    let output = std::process::Command::new("date").arg("+%F").output();
    String::from_utf8_lossy(&output.map(|output| output.stdout).unwrap_or_default()).trim().to_owned()
}
