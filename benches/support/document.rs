//! Generates `docs/performance.md` from the present reports.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use vx11_operator::clock::{Clock, SystemClock};

use super::Report;

/// The benchmarks in the order in which the document shows them.
const BENCHMARKS: [&str; 7] = ["codec", "service", "streams", "events", "store", "redis", "cluster"];
const OPENING: &str = "\
# Performance

Written by `make bench`; do not edit. Server and load share the machine named below, and every ratio comes from
alternating rounds of one run, so that ratios can be compared between machines where absolute figures cannot.
";

/// Today, as `2026-01-03`.
pub(super) fn today() -> String {
    let mut now = SystemClock.now().rfc3339();
    now.truncate("2026-01-03".len());
    now
}

/// Writes the document from the reports in `folder`; a benchmark that has none keeps the section it
/// had.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let old = fs::read_to_string(&file)?;
    let mut document = format!("{OPENING}\n{}", machine());
    for name in BENCHMARKS {
        match fs::read(folder.join(name).with_extension("json")) {
            Ok(kept) => section(&mut document, name, &serde_json::from_slice(&kept)?),
            Err(_) => document.push_str(old_section(&old, name)),
        }
    }
    fs::write(file, document)
}

/// Former text about a benchmark, if there is one.
fn old_section<'a>(document: &'a str, name: &str) -> &'a str {
    let begins = document.find(&format!("\n## {name}\n"));
    let rest = begins.map_or("", |begins| &document[begins..]);
    rest[1.min(rest.len())..].find("\n## ").map_or(rest, |ends| &rest[..=ends])
}

fn section(document: &mut String, name: &str, Report { about, date, rows }: &Report) {
    let _ =
        write!(document, "\n## {name}\n\n{about} Measured on {date} by `cargo bench --bench {name}`.\n\n");
    document.push_str("| what | target | measured | holds |\n|---|---|---|---|\n");
    for row in rows {
        let holds = match row.holds {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let _ = writeln!(document, "| {} | {} | {} | {holds} |", row.what, row.target, row.measured);
    }
}

/// Machine of the measurements.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "Machine: {cores} cores, {model}, Linux {}.\n",
        kernel.split('-').next().unwrap_or_default().trim()
    )
}
