//! The clock of one instance is wrong.

use std::path::PathBuf;

use super::drilling::Drilling;
use super::table::CLOCK_OFF;

/// The instance.
const AHEAD: usize = 1;
/// Path of the library that offsets a process's clock (Debian's libfaketime).
const LIBRARIES: &str = "/usr/lib";

/// The clock of an instance is ahead from its next start on; it restarts in each round.
pub(super) async fn ahead(drilling: &mut Drilling) {
    let seconds = CLOCK_OFF.as_secs();
    let instance = &mut drilling.cluster.instances[AHEAD];
    instance.configure("LD_PRELOAD", &library().display().to_string());
    instance.configure("FAKETIME", &format!("+{seconds}s"));
    instance.configure("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    drilling.begin_fault().await;
    drilling.restart(AHEAD).await;
    drilling.last(1.0).await;
    let page = drilling.cluster.instances[AHEAD].metrics().await.expect("metrics answer");
    let line = page.lines().find(|line| line.starts_with("vx11_operator_redis_clock_skew_seconds"));
    let off = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default();
    if (off - CLOCK_OFF.as_secs_f64()).abs() > 1.0 {
        drilling.fault_run.complain(format!("an instance {seconds} s ahead says that it is off by {off} s"));
    }
    drilling.recover().await;
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir(LIBRARIES).expect("libraries can be listed").flatten();
    let candidates = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    candidates
        .into_iter()
        .find(|library| library.exists())
        .expect("libfaketime is installed: `make packages`")
}
