//! Grafana's dashboards, as far as they can be judged without Grafana: their structure, and what
//! their panels ask.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use vx11_kit::hurried;

use crate::shipped;

/// Grafana's grid is so wide.
const WIDTH: u64 = 24;
/// Replacements for Grafana's variables, with times as in a rule.
const VARIABLES: [(&str, &str); 4] =
    [("$__rate_interval", "1m"), ("$__range", "1h"), ("$job", "vx11-operator"), ("$instance", ".+")];

/// A panel that shows something.
pub(crate) struct Panel {
    pub(crate) description: String,
    /// Its expressions, with shortened times.
    pub(crate) expressions: Vec<String>,
}

impl Panel {
    /// Whether the panel shows it itself.
    pub(crate) fn is_empty_while_all_is_well(&self) -> bool {
        self.description.contains("Empty while all is well.")
    }
}

/// Those of all dashboards.
pub(crate) fn panels() -> Vec<Panel> {
    let panel = |panel: &Value| Panel {
        description: text(&panel["description"]).to_owned(),
        expressions: targets(panel).map(|target| hurried(&filled(target))).collect(),
    };
    dashboards().iter().flat_map(|dashboard| shown(dashboard).map(panel).collect::<Vec<_>>()).collect()
}

/// Expression of the first panel about the overall state.
pub(crate) fn question() -> String {
    filled(&first()["targets"][0])
}

/// The expression as Grafana would send it.
fn filled(target: &Value) -> String {
    let fill = |text: String, (name, value): &(&str, &str)| text.replace(name, value);
    let filled = VARIABLES.iter().fold(text(&target["expr"]).to_owned(), fill);
    assert!(!filled.contains('$'), "an unknown variable: {filled}");
    filled
}

/// The first panel of the first dashboard.
fn first() -> Value {
    let dashboards = dashboards();
    let cluster = dashboards.iter().find(|dashboard| dashboard["title"] == "vx11 cluster").unwrap();
    let place = |panel: &&Value| ["y", "x"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    shown(cluster).min_by_key(place).unwrap().clone()
}

fn dashboards() -> Vec<Value> {
    let files = std::fs::read_dir(shipped("deploy/grafana/dashboards")).unwrap();
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    files.map(|file| read(file.unwrap().path())).collect()
}

/// The panels but for the rows' headings.
fn shown(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

fn targets(panel: &Value) -> impl Iterator<Item = &Value> {
    panel["targets"].as_array().unwrap().iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The cells of the grid that a panel covers.
fn cells(panel: &Value) -> impl Iterator<Item = (u64, u64)> {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    assert!(x + w <= WIDTH, "{} is too wide", panel["title"]);
    (x..x + w).flat_map(move |column| (y..y + h).map(move |row| (column, row)))
}

#[test]
fn panels_have_a_name_an_explanation_a_source_and_a_place_of_their_own() {
    let mut names = BTreeSet::new();
    for dashboard in dashboards() {
        assert!(names.insert(text(&dashboard["uid"]).to_owned()), "{} twice", dashboard["uid"]);
        let (mut numbers, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = text(&panel["title"]);
            assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{title}: another has its number");
            assert!(cells(panel).all(|cell| taken.insert(cell)), "{title} covers another");
        }
        for panel in shown(&dashboard) {
            let title = text(&panel["title"]);
            assert!(text(&panel["description"]).ends_with('.'), "{title} explains nothing");
            let mut letters = BTreeSet::new();
            for target in targets(panel) {
                assert!(letters.insert(text(&target["refId"])), "{title}: two queries of one letter");
                let sources = [&target["datasource"]["uid"], &panel["datasource"]["uid"]];
                assert!(sources.iter().all(|uid| **uid == "${datasource}"), "{title}: {sources:?}");
            }
            assert!(!letters.is_empty(), "{title} asks nothing");
        }
    }
    assert_eq!(names.len(), 2);
}

#[test]
fn the_cluster_begins_with_the_answer_to_whether_it_is_all_right() {
    let first = first();
    assert_eq!(first["title"], "Is it all right?");
    let answers = first["fieldConfig"]["defaults"]["mappings"][0]["options"].as_object().unwrap();
    let answers: Vec<_> = answers
        .iter()
        .map(|(value, answer)| (value.as_str(), text(&answer["text"]), text(&answer["color"])))
        .collect();
    assert_eq!(answers, [("0", "All right", "green"), ("1", "Degraded", "orange"), ("2", "Failing", "red")]);
}
