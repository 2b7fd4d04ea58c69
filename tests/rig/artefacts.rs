//! Where the processes leave their logs: beside those of the operator's own tests, so that one search finds them all.

use std::fs::File;
use std::path::{Path, PathBuf};
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

/// What `CARGO_TARGET_TMPDIR` is for a test; Cargo does not tell libraries.
fn folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace.join(target).join("tmp/artefacts")
}
