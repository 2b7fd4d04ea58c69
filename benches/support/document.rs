//! The page `docs/measurements/performance.md`, generated from the reports in the folder beside it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use vx11_operator::clock::{Clock, SystemClock};

use super::Report;

/// The benchmarks in the order in which the document shows them.
const BENCHMARKS: [&str; 8] =
    ["codec", "service", "streams", "events", "topics", "store", "redis", "cluster"];
/// Columns of a line of prose.
const WIDTH: usize = 100;
const OPENING: &str = "\
# Performance

For somebody who asks how fast the service is, or has changed something that may make it slower.
`make bench` measures and writes this page.

## Method

- Server and load generator share the machine and its cores.
- A ratio compares rounds that alternate within one run. Ratios can be compared between machines,
  absolute figures cannot.
- \"Half within\" is the median, \"99 % within\" the 99th percentile.
- A missed target fails `make bench`.

Each section adds its method.
";

/// Today, as `2026-01-03`.
pub(super) fn today() -> String {
    let mut now = SystemClock.now().rfc3339();
    now.truncate("2026-01-03".len());
    now
}

/// Writes the page from the reports in `folder`.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    let mut document = OPENING.to_owned();
    for name in BENCHMARKS {
        let kept = match fs::read(folder.join(name).with_extension("json")) {
            // One that has not run yet has no section.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            kept => kept?,
        };
        section(&mut document, name, &serde_json::from_slice(&kept)?);
    }
    let all = conclusion(&document);
    let _ = write!(document, "\n## Conclusion\n\n{all}");
    fs::write(folder.with_extension("md"), document)
}

fn section(document: &mut String, name: &str, Report { about, date, machine, rows }: &Report) {
    let mut table = "| figure | target | measured | target met |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let holds = match row.holds {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let _ = writeln!(table, "| {} | {} | {} | {holds} |", row.what, row.target, row.measured);
    }
    let method = wrapped(&format!("**Method.** {about}"));
    let measured = wrapped(&format!("Measured on {date} by `cargo bench --bench {name}`, {machine}."));
    let verdict = conclusion(&table);
    let _ = write!(document, "\n## {name}\n\n{method}\n{measured}\n{table}\n**Conclusion.** {verdict}");
}

/// Says how many of the targets in `tables` are met, and which are not.
fn conclusion(tables: &str) -> String {
    let met = tables.lines().filter(|line| line.ends_with("| yes |")).count();
    let missed = tables.lines().filter(|line| line.ends_with("| **no** |"));
    let missed: Vec<_> =
        missed.filter_map(|line| line.trim_start_matches("| ").split(" | ").next()).collect();
    if missed.is_empty() {
        return format!("All {met} targets are met.\n");
    }
    let all = met + missed.len();
    wrapped(&format!("{met} of {all} targets are met. Missed: {}.", missed.join("; ")))
}

/// The paragraph in lines of at most [`WIDTH`] columns.
fn wrapped(paragraph: &str) -> String {
    let (mut lines, mut column) = (String::new(), 0);
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if column > 0 {
            let fits = column + 1 + length <= WIDTH;
            lines.push(if fits { ' ' } else { '\n' });
            column = if fits { column + 1 } else { 0 };
        }
        lines.push_str(word);
        column += length;
    }
    lines.push('\n');
    lines
}

/// Machine of the measurements.
pub(super) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{cores} cores, {model}, Linux {kernel}")
}
