//! After all other tests: none of the tokens and principals they used appears in anything they logged. Runs last,
//! by name and in `make test`, and fails when there is nothing to look at.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;

fn artefacts() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("artefacts")
}

/// Shorter texts, such as a test's "wrong", occur in logs by themselves.
const SHORTEST_SECRET: usize = 16;

fn secrets(ledger: &str) -> BTreeSet<String> {
    ledger.lines().filter(|secret| secret.len() >= SHORTEST_SECRET).map(str::to_owned).collect()
}

/// The ways in which a secret may be written down by accident; letters may be of either case.
fn spellings(secret: &str) -> [String; 3] {
    [secret.to_owned(), secret.replace('-', ""), secret.replace('-', "%2D")]
}

/// Lines of the logs in `folder` that contain one of the secrets, as `file:line`.
fn leaks(folder: &Path, secrets: &BTreeSet<String>) -> Vec<String> {
    let needles = secrets.iter().flat_map(|secret| spellings(secret));
    let search = AhoCorasick::builder().ascii_case_insensitive(true).build(needles).unwrap();
    let mut found = Vec::new();
    for (file, text) in logs(folder) {
        let leaking = (1..).zip(text.lines()).filter(|(_, line)| search.is_match(line));
        found.extend(leaking.map(|(number, _)| format!("{}:{number}", file.display())));
    }
    found
}

fn logs(folder: &Path) -> Vec<(PathBuf, String)> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| (path.clone(), String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()))
        .collect()
}

#[test]
fn no_secret_of_the_test_run_is_in_any_log() {
    let ledger = std::fs::read_to_string(artefacts().join("secrets.ledger"))
        .expect("the ledger is there: run `make test`, which runs the other tests first");
    let secrets = secrets(&ledger);
    let logs = logs(&artefacts());
    assert!(secrets.len() > 20 && logs.len() > 10, "only {} secrets and {} logs", secrets.len(), logs.len());
    assert!(
        logs.iter().any(|(_, text)| text.contains("?token=***")),
        "streams were opened by token and logged"
    );
    assert_eq!(leaks(&artefacts(), &secrets), Vec::<String>::new());
}

#[test]
fn a_planted_secret_is_found_in_each_spelling() {
    let secret = "d10a0321-8097-8b72-b613-62be5e9f16ca";
    let secrets = secrets(&format!("{secret}\nshort\n"));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("instance.log");
    for planted in
        [secret.to_owned(), secret.to_uppercase(), secret.replace('-', ""), secret.replace('-', "%2d")]
    {
        std::fs::write(&log, format!("fine\nGET /stream?token={planted} 200\nfine\n")).unwrap();
        assert_eq!(leaks(folder.path(), &secrets), [format!("{}:2", log.display())], "{planted}");
    }
    std::fs::write(&log, "GET /stream?token=*** 200\n").unwrap();
    assert_eq!(leaks(folder.path(), &secrets), Vec::<String>::new());
}
