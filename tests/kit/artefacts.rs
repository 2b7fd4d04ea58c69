//! Artefacts: logs of all processes, in one folder, so that one search for secrets covers them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Path of the logs for people.
static KEPT: OnceLock<PathBuf> = OnceLock::new();

/// From now on logs are kept in this folder, one for each program, which is continued when the
/// program starts again.
pub fn keep_logs_in(folder: &Path) {
    KEPT.set(folder.to_owned()).expect("there is one folder for all logs");
}

/// Whether the processes are not a test's but somebody's who looks at them.
pub(crate) fn is_watched_by_a_person() -> bool {
    KEPT.get().is_some()
}

/// A log file for a program: a new one, named after the program, this test process and a running
/// number, unless a person is to read it.
#[must_use]
pub fn new_log(program: &str) -> (PathBuf, File) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let path = if let Some(kept) = KEPT.get() {
        kept.join(format!("{program}.log"))
    } else {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        artefacts().join(format!("{program}-{}-{number}.log", std::process::id()))
    };
    let file = OpenOptions::new().create(true).append(true).open(&path).expect("the log can be created");
    known(&LOGS).push(path.clone());
    (path, file)
}

/// Path of a report in a folder of the artefacts.
#[must_use]
pub fn report(folder_name: &str, file: &str) -> PathBuf {
    let folder = artefacts().join(folder_name);
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder.join(file)
}

/// All logs of this process so far.
static LOGS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// All secrets of this process so far.
static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Artefacts and secrets since some moment.
pub struct Traces {
    logs: usize,
    secrets: usize,
}

impl Traces {
    /// From now on.
    #[must_use]
    pub fn begin() -> Self {
        Self { logs: known(&LOGS).len(), secrets: known(&SECRETS).len() }
    }

    /// The logs since then.
    #[must_use]
    pub fn logs(&self) -> Vec<PathBuf> {
        known(&LOGS)[self.logs..].to_vec()
    }

    /// The secrets since then.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        known(&SECRETS)[self.secrets..].to_vec()
    }
}

fn known<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether secrets are kept to this process.
static NO_LEDGER: AtomicBool = AtomicBool::new(false);

/// From now on secrets are not written down: they are somebody's, and no test of the whole run
/// compares them.
pub fn keep_secrets_to_ourselves() {
    NO_LEDGER.store(true, Ordering::Relaxed);
}

/// Notes a secret that must not appear in any log, for `tests/secrets_stay_secret.rs` to compare.
pub fn remember_secret(secret: &str) {
    static LEDGER: OnceLock<File> = OnceLock::new();
    known(&SECRETS).push(secret.to_owned());
    if NO_LEDGER.load(Ordering::Relaxed) {
        return;
    }
    let mut ledger = LEDGER.get_or_init(|| {
        let ledger = artefacts().join("secrets.ledger");
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(ledger);
        opened.expect("the ledger can be opened")
    });
    // One short write in append mode: safe beside other tests.
    ledger.write_all(format!("{secret}\n").as_bytes()).expect("the ledger can be written");
}

/// Folder of logs, reports and the ledger of secrets; `make test` empties it first. It is in
/// `CARGO_TARGET_TMPDIR`, which Cargo does not set for libraries.
#[must_use]
pub fn artefacts() -> PathBuf {
    let folder = target().join("tmp/artefacts");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    workspace.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
