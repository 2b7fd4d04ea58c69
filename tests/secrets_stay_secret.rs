//! After all other tests: none of the tokens and principals they used appears in anything they
//! logged. Runs last, by name and in `make test`, and fails when there is nothing to look at.

use std::path::{Path, PathBuf};

use vx11_kit::Secrets;

fn artefacts() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("artefacts")
}

fn logs(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

#[test]
fn no_secret_of_the_test_run_is_in_any_log() {
    let ledger = std::fs::read_to_string(artefacts().join("secrets.ledger"))
        .expect("the ledger is there: run `make test`, which runs the other tests first");
    let secrets = Secrets::new(ledger.lines());
    let logs = logs(&artefacts());
    assert!(
        secrets.count() > 20 && logs.len() > 10,
        "only {} secrets and {} logs",
        secrets.count(),
        logs.len()
    );
    let mentions_a_stream =
        |log: &PathBuf| String::from_utf8_lossy(&std::fs::read(log).unwrap()).contains("?token=***");
    assert!(logs.iter().any(mentions_a_stream), "streams were opened by token and logged");
    assert_eq!(secrets.in_files(&logs), Vec::<String>::new());
}

#[test]
fn a_planted_secret_is_found_in_each_spelling() {
    let secret = "d10a0321-8097-8b72-b613-62be5e9f16ca";
    let secrets = Secrets::new([secret, "short"]);
    assert_eq!(secrets.count(), 1);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("instance.log");
    let leaks = || secrets.in_files(&logs(folder.path()));
    for planted in
        [secret.to_owned(), secret.to_uppercase(), secret.replace('-', ""), secret.replace('-', "%2d")]
    {
        std::fs::write(&log, format!("fine\nGET /stream?token={planted} 200\nfine\n")).unwrap();
        assert_eq!(leaks(), [format!("{}:2", log.display())], "{planted}");
    }
    std::fs::write(&log, "GET /stream?token=*** 200, a short word\n").unwrap();
    assert_eq!(leaks(), Vec::<String>::new());
}
