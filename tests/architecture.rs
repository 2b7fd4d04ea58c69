//! The direction in which data flows, held by reading the `use crate::` lines of every source file.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules in the order a request meets them; each may use those behind it, never those before it.
const ORDER: [&str; 9] =
    ["app", "http", "service", "identity", "control", "events", "store", "redis", "token"];
/// Values that are handed down: everyone may use them, except for `config`, which only `app` may.
const HANDED_DOWN: [&str; 10] = [
    "clock",
    "audit",
    "lifecycle",
    "limits",
    "metrics",
    "principal",
    "subject",
    "telemetry",
    "topic",
    "config",
];
/// Modules that values may use which all parts share: each other, and for checking a configuration
/// the types of its values.
const CONFIG_MAY_USE: [&str; 5] = ["events", "identity", "store", "redis", "token"];

/// Source files except those of unit tests, which may reach further.
fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The names that follow `prefix` in a file. Tests inside a file may reach further.
fn names_after(prefix: &str, file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let names = code.split(prefix).skip(1);
    let end = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    names.map(|rest| rest[..end(rest)].to_owned()).collect()
}

/// Modules and the modules they use, from the text of all files under `src`.
fn arrows() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut arrows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        arrows.entry(module).or_default().extend(names_after("crate::", &file));
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
    let programs = ["main", "lib", "healthcheck", "reload"];
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

/// The modules of a folder, each with those beside it that it imports as `prefix` and a name.
fn siblings(folder: &Path, prefix: &str) -> BTreeMap<String, Vec<String>> {
    let mut siblings = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut files = Vec::new();
        if path.is_dir() {
            source_files(&path, &mut files);
        } else if !["lib", "mod"].contains(&module.as_str()) {
            files.push(path);
        }
        if !files.is_empty() {
            siblings.insert(module, files.iter().flat_map(|file| names_after(prefix, file)).collect());
        }
    }
    siblings
}

#[test]
fn modules_of_the_client_import_only_siblings_and_without_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/cli/src");
    for (folder, prefix) in [(root.clone(), "crate::"), (root.join("stats"), "super::")] {
        let mut siblings = siblings(&folder, prefix);
        for (module, used) in &siblings {
            let unknown: Vec<_> = used.iter().filter(|name| !siblings.contains_key(*name)).collect();
            assert!(unknown.is_empty(), "{module} must import {unknown:?} from where it is defined");
        }
        // Remove modules that import none of those left, until no more can be removed.
        loop {
            let left: Vec<_> = siblings.keys().cloned().collect();
            siblings.retain(|_, used| used.iter().any(|name| left.contains(name)));
            if siblings.len() == left.len() {
                break;
            }
        }
        assert!(siblings.is_empty(), "a circle of imports is among these: {siblings:?}");
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
