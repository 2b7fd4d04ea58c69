//! The shipped files for Prometheus and Alertmanager are valid by their own tools, and complete:
//! each alert is tested in both states, has instructions, and has a page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::OnceCell;
use vx11_kit::{Prometheus, Rule};

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
/// Severity of the watchdog, which no receiver of people gets.
const SILENT: &str = "none";
/// Receivers by severity.
const RECEIVERS: [(&str, &str); 3] = [("critical", "on-call"), ("warning", "team"), ("info", "notes")];
/// Pages for what people report, some of them with alerts in the title; all others are of alerts.
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

/// Alerts that a title names before their severities in brackets, once for each severity:
/// `# RedisClockSkew (warning above 1 s, critical above 2 s)`.
fn named_in(title: &str) -> BTreeSet<(String, String)> {
    let mut named = BTreeSet::new();
    for (before, inside) in title.split(')').filter_map(|part| part.split_once(" (")) {
        let alert = before.rsplit(' ').next().unwrap();
        let severities = inside.split(|c: char| !c.is_ascii_alphabetic());
        let severities = severities.filter(|severity| *severity == SILENT || has_receiver(severity));
        named.extend(severities.map(|severity| (alert.to_owned(), severity.to_owned())));
    }
    named
}

fn has_receiver(severity: &str) -> bool {
    RECEIVERS.iter().any(|(known, _)| *known == severity)
}

/// The path of an alert's page below the root of the repository.
fn page_of(alert: &Rule) -> &str {
    let page = alert.annotations["runbook_url"].as_str();
    assert!(shipped(page).is_file(), "{}: there is no page {page}", alert.name);
    page
}

#[tokio::test]
async fn every_alert_has_a_severity_a_text_and_a_page_whose_title_names_it() {
    let index = text("docs/runbooks/README.md");
    for alert in alerts().await {
        let name = &alert.name;
        let severity = &alert.labels["severity"];
        let is_as_expected = if name == WATCHDOG { severity == SILENT } else { has_receiver(severity) };
        assert!(is_as_expected, "{name}: {severity}");
        for annotation in ["summary", "description"] {
            let text = &alert.annotations[annotation];
            assert!(text.len() > 20 && text.ends_with('.'), "{name}: {annotation}: {text:?}");
        }
        let page = page_of(alert);
        let title = text(page).lines().next().unwrap().to_owned();
        let is_named = named_in(&title).contains(&(name.clone(), severity.clone()));
        assert!(is_named, "{name} ({severity}) is not in the title of {page}: {title:?}");
        let file = page.strip_prefix("docs/runbooks/").unwrap_or_else(|| panic!("{name}: {page}"));
        assert!(index.contains(&format!("[{name}]({file})")), "{name} is not in the index with {file}");
    }
}

#[tokio::test]
async fn every_page_is_of_its_alerts_or_of_something_people_report_and_has_the_same_parts() {
    let mut of_alerts = BTreeMap::<_, BTreeSet<_>>::new();
    for alert in alerts().await {
        let named = (alert.name.clone(), alert.labels["severity"].clone());
        of_alerts.entry(stem(Path::new(page_of(alert)))).or_default().insert(named);
    }
    let index = text("docs/runbooks/README.md");
    let pages: BTreeSet<_> = files("docs/runbooks", "md").iter().map(|page| stem(page)).collect();
    let known = of_alerts.keys().cloned().chain(REPORTED.map(str::to_owned)).chain(["README".to_owned()]);
    assert_eq!(pages, known.collect::<BTreeSet<_>>());
    for page in pages.iter().filter(|page| *page != "README") {
        assert!(index.contains(&format!("]({page}.md)")), "{page} is not in the index");
        let text = text(&format!("docs/runbooks/{page}.md"));
        let title = text.lines().next().unwrap();
        let expected = of_alerts.remove(page).unwrap_or_default();
        assert_eq!(named_in(title), expected, "{page}: alerts in its title, and those that lead to it");
        let parts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let expected = ["What you see", "What it means", "What to run", "What to do", "When it is over"];
        assert_eq!(parts, expected, "{page}");
    }
}

#[test]
fn a_title_names_alerts_with_their_severities() {
    let title = "# Slow (at times): TokenIssueSlow (info), RedisClockSkew (warning above 1 s, critical)";
    let named = |alert: &str, severity: &str| (alert.to_owned(), severity.to_owned());
    let expected = [
        named("RedisClockSkew", "critical"),
        named("RedisClockSkew", "warning"),
        named("TokenIssueSlow", "info"),
    ];
    assert_eq!(named_in(title), expected.into());
    assert_eq!(named_in("# Rolling back"), BTreeSet::new());
}

#[tokio::test]
async fn no_alert_of_the_predecessor_is_missing() {
    let names: BTreeSet<_> = alerts().await.iter().map(|alert| alert.name.as_str()).collect();
    let missing: Vec<_> = OF_THE_PREDECESSOR.iter().filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn every_alert_goes_to_the_receiver_of_its_severity_and_the_watchdog_to_the_dead_mans_switch() {
    let routing = format!("--config.file={}", shipped("deploy/alertmanager/alertmanager.yml").display());
    for alert in alerts().await {
        let severity = &alert.labels["severity"];
        let known = RECEIVERS.iter().find(|(known, _)| known == severity);
        let receiver = known.map_or("dead-mans-switch", |(_, receiver)| receiver);
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
