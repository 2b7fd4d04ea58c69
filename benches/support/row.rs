//! One line of a report: a figure, and a target where there is one.

use serde::{Deserialize, Serialize};

/// A figure beside its target.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(super) what: String,
    /// As `<= 14 KB`; empty for a figure without a target.
    pub(super) target: String,
    pub(super) measured: String,
    pub(super) holds: Option<bool>,
}

impl Row {
    /// A figure without a target.
    pub(crate) fn figure(what: &str, measured: f64, unit: &str) -> Self {
        Self { what: what.to_owned(), target: String::new(), measured: written(measured, unit), holds: None }
    }

    /// A figure that `target` bounds: `<`, `<=` or `>=`, a limit, and a unit where there is one.
    pub(crate) fn judged(what: &str, target: &str, measured: f64) -> Self {
        let mut words = target.splitn(3, ' ');
        let relation = words.next().unwrap_or_default();
        let limit: f64 = words
            .next()
            .and_then(|word| word.parse().ok())
            .expect("a target is a relation, a limit and a unit");
        let holds = match relation {
            "<" => measured < limit,
            "<=" => measured <= limit,
            ">=" => measured >= limit,
            other => panic!("unknown relation {other} in a target"),
        };
        Self {
            what: what.to_owned(),
            target: target.to_owned(),
            measured: written(measured, words.next().unwrap_or_default()),
            holds: Some(holds),
        }
    }
}

/// Three significant digits, or all digits before the point.
fn written(measured: f64, unit: &str) -> String {
    let decimals = match measured.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{measured:.decimals$} {unit}").trim_end().to_owned()
}
