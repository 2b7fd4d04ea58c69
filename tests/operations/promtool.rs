//! The shipped files for Prometheus and Alertmanager are valid by their own tools, and complete:
//! each alert is tested in both states, has instructions, and has a page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::OnceCell;
use vx11_rig::{Prometheus, Rule};

use crate::shipped;

/// The alerts of 000, of its table of thresholds as well, and of 003.
const OF_THE_PREDECESSOR: [&str; 10] = [
    "EphemeralTokenCacheMemoryLeak",
    "ExcessiveSSETokenIssuance",
    "GatewayLatencyHigh",
    "HighEphemeralTokenRequestRate",
    "HighPrincipalTokenUsageInSSE",
    "HighTokenValidationFailureRate",
    "SSEStreamsDropped",
    "SSEValidationFailureSpike",
    "UnusuallyHighCacheSize",
    "VX11OperatorDown",
];
/// The alert that is never silent, and of no severity.
pub(crate) const WATCHDOG: &str = "Watchdog";
/// Receivers by severity.
const TOLD: [(&str, &str); 3] = [("critical", "on-call"), ("warning", "team"), ("info", "notes")];
/// Pages for what people report; all others are of alerts.
const REPORTED: [&str; 6] = ["cache-growth", "recovery", "rollback", "slowness", "sse-403", "token-abuse"];

/// The alerts as Prometheus reads them; it is asked once for all tests.
async fn alerts() -> &'static [Rule] {
    static ALERTS: OnceCell<Vec<Rule>> = OnceCell::const_new();
    let read = async || {
        let rules = Prometheus::start(&[]).await.rules().await;
        rules.into_iter().filter(|rule| rule.is_alert).collect()
    };
    ALERTS.get_or_init(read).await
}

/// The files of a folder that end so, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(shipped(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn text(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Runs a tool that has to be content; what it says.
pub(crate) fn content(program: &str, arguments: &[&str], files: &[PathBuf]) -> String {
    let run = Command::new(program).args(arguments).args(files).output().unwrap();
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(run.status.success(), "{program} {}:\n{said}", arguments.join(" "));
    said
}

#[test]
fn configuration_and_rules_are_valid() {
    let said = content("promtool", &["check", "config"], &[shipped("deploy/prometheus/prometheus.yml")]);
    let rules = [files("deploy/prometheus/rules", "yml"), files("deploy/prometheus/rules/alerts", "yml")];
    assert!(said.contains(&format!("{} rule files found", rules.concat().len())), "{said}");
    content("promtool", &["check", "rules", "--lint=all", "--lint-fatal"], &rules.concat());
    content("amtool", &["check-config"], &[shipped("deploy/alertmanager/alertmanager.yml")]);
}

#[test]
fn every_test_of_the_rules_passes() {
    content("promtool", &["test", "rules"], &files("deploy/prometheus/tests", "yml"));
}

#[tokio::test]
async fn every_alert_is_tested_firing_and_silent_in_each_severity() {
    let tests = files("deploy/prometheus/tests", "yml");
    let tests: String = tests.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    // One piece for each expression that is evaluated, with what is expected of it.
    let cases: Vec<_> = tests.split("- expr: ").skip(1).collect();
    for alert in alerts().await {
        let severity = format!("severity=\"{}\"", alert.labels["severity"]);
        let asked = format!("ALERTS{{alertname=\"{}\"", alert.name);
        let cases = cases.iter().filter(|case| case.starts_with(&asked));
        let cases: Vec<_> = cases.map(|case| case.split_once('\n').unwrap()).collect();
        let fires = |(_, expected): &&(&str, &str)| {
            expected.contains("alertstate=\"firing\"") && expected.contains(&severity)
        };
        // Nothing is expected of it in this severity, or in any.
        let is_silent = |(asked, expected): &&(&str, &str)| {
            expected.contains("exp_samples: []")
                && (asked.contains(&severity) || !asked.contains("severity="))
        };
        let (firing, silent) = (cases.iter().filter(fires).count(), cases.iter().filter(is_silent).count());
        let is_tested = firing >= 1 && (silent >= 1) != (alert.name == WATCHDOG);
        assert!(is_tested, "{} ({severity}): {firing} fire, {silent} do not", alert.name);
    }
}

#[tokio::test]
async fn every_alert_says_how_grave_it_is_what_happens_what_to_do_and_where_to_read_on() {
    let index = text("docs/runbooks/README.md");
    for alert in alerts().await {
        let name = &alert.name;
        let severity = &alert.labels["severity"];
        let is_known = TOLD.iter().any(|(known, _)| known == severity);
        assert_ne!(is_known, name == WATCHDOG, "{name}: {severity}");
        for annotation in ["summary", "description"] {
            let told = &alert.annotations[annotation];
            assert!(told.len() > 20 && told.ends_with('.'), "{name}: {annotation}: {told:?}");
        }
        let page = &alert.annotations["runbook_url"];
        let file = page.strip_prefix("docs/runbooks/").unwrap_or_else(|| panic!("{name}: {page}"));
        let plain = file.strip_suffix(".md").unwrap().replace('-', "");
        assert_eq!(plain, name.to_lowercase(), "a page is named as its alert");
        let title = text(page).lines().next().unwrap().to_owned();
        assert!(title.starts_with(&format!("# {name} (")) && title.contains(severity), "{name}: {title:?}");
        assert!(index.contains(&format!("[{name}]({file})")), "{file} is not in the index");
    }
}

#[tokio::test]
async fn every_page_is_of_an_alert_or_of_something_people_report_and_has_the_same_parts() {
    let of_alerts = alerts().await.iter().map(|alert| &alert.annotations["runbook_url"]);
    let of_alerts: BTreeSet<_> = of_alerts.map(|page| stem(Path::new(page))).collect();
    let index = text("docs/runbooks/README.md");
    let pages: BTreeSet<_> = files("docs/runbooks", "md").iter().map(|page| stem(page)).collect();
    let known = of_alerts.into_iter().chain(REPORTED.map(str::to_owned)).chain(["README".to_owned()]);
    assert_eq!(pages, known.collect::<BTreeSet<_>>());
    for page in pages.iter().filter(|page| *page != "README") {
        assert!(index.contains(&format!("]({page}.md)")), "{page} is not in the index");
        let text = text(&format!("docs/runbooks/{page}.md"));
        let parts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let expected = ["What you see", "What it means", "What to run", "What to do", "When it is over"];
        assert_eq!(parts, expected, "{page}");
    }
}

#[tokio::test]
async fn no_alert_of_the_predecessor_is_missing() {
    let names: BTreeSet<_> = alerts().await.iter().map(|alert| alert.name.as_str()).collect();
    let missing: Vec<_> = OF_THE_PREDECESSOR.iter().filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn every_alert_is_told_to_those_whom_its_severity_concerns_and_the_watchdog_to_the_dead_mans_switch() {
    let routing = format!("--config.file={}", shipped("deploy/alertmanager/alertmanager.yml").display());
    for alert in alerts().await {
        let severity = &alert.labels["severity"];
        let told = TOLD.iter().find(|(known, _)| known == severity);
        let receiver = told.map_or("dead-mans-switch", |(_, receiver)| receiver);
        let verify = format!("--verify.receivers={receiver}");
        let labels = [format!("alertname={}", alert.name), format!("severity={severity}")];
        content("amtool", &["config", "routes", "test", &routing, &verify, &labels[0], &labels[1]], &[]);
    }
}

#[tokio::test]
async fn alertmanager_holds_back_alerts_that_exist() {
    let names: BTreeSet<_> = alerts().await.iter().map(|alert| alert.name.as_str()).collect();
    let routing = text("deploy/alertmanager/alertmanager.yml");
    let mentions = routing.lines().filter_map(|line| line.split_once("alertname ="));
    let words = mentions.flat_map(|(_, names)| names.split(|c: char| !c.is_ascii_alphanumeric()));
    let mentioned: BTreeSet<_> = words.filter(|name| !name.is_empty()).collect();
    assert!(mentioned.len() >= 10, "{mentioned:?}");
    assert!(mentioned.is_subset(&names), "{:?}", mentioned.difference(&names));
}
