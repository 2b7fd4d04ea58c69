//! The ledger: logs of the tests, and every secret they used, for `tests/secrets_stay_secret.rs`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// The folder of logs, screenshots and the ledger; `make test` empties it first.
pub fn artefacts() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("artefacts");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// Notes a secret that must not appear in any log.
pub fn remember_secret(secret: &str) {
    let ledger = artefacts().join("secrets.ledger");
    let mut ledger =
        OpenOptions::new().create(true).append(true).open(ledger).expect("the ledger can be opened");
    // One short write in append mode: safe beside other tests.
    ledger.write_all(format!("{secret}\n").as_bytes()).expect("the ledger can be written");
}
