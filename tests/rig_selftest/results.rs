//! The page of results shows the kept results.

use std::path::Path;

use serde_json::{Value, json};

/// A page that was changed by hand, or not written again, says something else than the results.
#[test]
fn the_page_of_results_in_the_repository_shows_the_kept_results() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/measurements");
    let page = std::fs::read_to_string(folder.join("drills.md")).unwrap();
    assert_eq!(page, vx11_rig::results_page(&folder).unwrap());
}

/// The page of these results of drills.
fn page(drills: &Value) -> String {
    let folder = tempfile::tempdir().expect("a folder can be created");
    let results = json!({ "chart": "", "drills": drills }).to_string();
    std::fs::write(folder.path().join("drills.json"), results).expect("a file can be written");
    vx11_rig::results_page(folder.path()).expect("the results can be read")
}

#[test]
fn results_without_grants_stay_readable_and_results_with_grants_have_a_table() {
    let old = json!({
        "name": "1 a fault", "date": "2026-01-31", "machine": "a machine",
        "tokens": vec!["0"; 6], "events": vec!["0"; 7], "times": vec!["0"; 7],
    });
    assert!(!page(&json!({ "1": old })).contains("Grants"));
    let mut new = old.clone();
    new["name"] = "34 topics and grants".into();
    new["grants"] = json!(["8", "3", "10000000", "0", "5", "0"]);
    let page = page(&json!({ "1": old, "34": new }));
    let (_, section) = page.split_once("## Grants").expect("a section");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows[2..], ["| 34 topics and grants | 8 | 3 | 10000000 | 0 | 5 | 0 |"], "{section}");
}
