//! Where the processes leave their logs: beside those of the operator's own tests, so that one search finds them all.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new log file, named after the program, this test process and a running number.
pub(crate) fn new_log(program: &str) -> (PathBuf, File) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = folder();
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    let path = folder.join(format!("{program}-{}-{number}.log", std::process::id()));
    let file = File::create(&path).expect("the log can be created");
    (path, file)
}

/// A file for what was found out, in a folder of its own.
pub(crate) fn report(folder_name: &str, file: &str) -> PathBuf {
    let folder = folder().join(folder_name);
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder.join(file)
}

/// Notes a secret that must not appear in any log, for `tests/secrets_stay_secret.rs` to compare.
pub fn remember_secret(secret: &str) {
    static LEDGER: OnceLock<File> = OnceLock::new();
    let mut ledger = LEDGER.get_or_init(|| {
        std::fs::create_dir_all(folder()).expect("the target folder can be written");
        let opened = OpenOptions::new().create(true).append(true).open(folder().join("secrets.ledger"));
        opened.expect("the ledger can be opened")
    });
    // One short write in append mode: safe beside other tests.
    ledger.write_all(format!("{secret}\n").as_bytes()).expect("the ledger can be written");
}

/// What `CARGO_TARGET_TMPDIR` is for a test; Cargo does not tell libraries.
fn folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace.join(target).join("tmp/artefacts")
}
