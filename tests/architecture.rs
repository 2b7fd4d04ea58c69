//! The direction in which data flows, held by reading the `use crate::` lines of every source file.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules in the order a request meets them; each may use those behind it, never those before it.
const ORDER: [&str; 7] = ["app", "http", "service", "events", "store", "redis", "token"];
/// Values that are handed down: everyone may use them.
const HANDED_DOWN: [&str; 8] =
    ["clock", "audit", "lifecycle", "limits", "metrics", "principal", "telemetry", "config"];
/// Modules that values may use which all parts share: each other, and for checking a configuration
/// the types of its values.
const CONFIG_MAY_USE: [&str; 4] = ["events", "store", "redis", "token"];

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Modules and the modules they use, from the text of all files under `src`.
fn arrows() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut arrows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // Tests inside a file may reach further.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        let used = code.match_indices("crate::").map(|(at, found)| {
            let rest = &code[at + found.len()..];
            rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())].to_owned()
        });
        arrows.entry(module).or_default().extend(used);
    }
    arrows
}

fn is_allowed(from: &str, to: &str) -> bool {
    let place = |module: &str| ORDER.iter().position(|known| *known == module);
    match (place(from), place(to)) {
        _ if from == to => true,
        (Some(from), Some(to)) => from < to,
        // `config` reads the whole; only the composition root may know it.
        (Some(_), None) if to == "config" => from == "app",
        (Some(_), None) => HANDED_DOWN.contains(&to),
        (None, Some(_)) => from == "config" && CONFIG_MAY_USE.contains(&to),
        (None, None) => HANDED_DOWN.contains(&to) && to != "config",
    }
}

#[test]
fn data_flows_one_way() {
    let arrows = arrows();
    for module in ORDER.iter().chain(&HANDED_DOWN) {
        assert!(arrows.contains_key(*module), "the map names {module}, which does not exist");
    }
    let programs = ["main", "lib", "healthcheck"];
    for (from, targets) in arrows.iter().filter(|(from, _)| !programs.contains(&from.as_str())) {
        for to in targets {
            assert!(is_allowed(from, to), "src/{from} must not use {to}");
        }
    }
}

#[test]
fn the_client_does_not_know_the_service() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/cli");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("path ="), "crates/cli must not depend on another crate of this repository");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    assert!(!files.is_empty());
    for file in files {
        let knows = std::fs::read_to_string(&file).unwrap().contains("vx11_operator");
        assert!(!knows, "{} must not know the service", file.display());
    }
}

#[test]
fn only_the_program_knows_the_client() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    for file in files.iter().filter(|file| !file.ends_with("src/main.rs")) {
        let knows = std::fs::read_to_string(file).unwrap().contains("vx11_cli");
        assert!(!knows, "{} must not know the client", file.display());
    }
}

#[test]
fn only_http_and_the_composition_root_know_actix() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let may = relative.starts_with("http/") || ["app.rs", "main.rs"].contains(&relative.as_str());
        let knows = std::fs::read_to_string(&file).unwrap().contains("actix_web");
        assert!(may || !knows, "src/{relative} must not know actix");
    }
}
