//! `make observe` as it ships, but for the port.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use vx11_kit::{PATIENCE, Port};

use crate::shipped;

/// The script; dropping it terminates it, and its Prometheus with it.
struct Script(Child);

impl Script {
    fn terminate(&self) {
        // It has no number once it has been waited for.
        if let Some(pid) = self.0.id() {
            let sent = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
            assert!(sent.unwrap().success());
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.terminate();
    }
}

#[tokio::test]
async fn prometheus_answers_at_the_printed_address_until_it_is_terminated_and_leaves_nothing() {
    let (port, temporary) = (Port::reserve(), tempfile::tempdir().unwrap());
    let mut script = Command::new(shipped("deploy/prometheus/observe"));
    script.env("PORT", port.number().to_string()).env("TMPDIR", temporary.path());
    let mut running = Script(script.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut said = async || timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(said().await.starts_with("Prometheus looks at the cluster"));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for page in ["alerts", "targets"] {
        let line = said().await;
        let url = line.trim().strip_prefix(page).unwrap().trim();
        assert!(client.get(url).send().await.unwrap().status().is_success(), "{line}");
    }

    let taken = script.stdout(Stdio::null()).stderr(Stdio::piped()).output().await.unwrap();
    let complaint = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(taken.status.code() == Some(1) && complaint.contains("PORT="), "{complaint}");

    running.terminate();
    let ended = timeout(PATIENCE, running.0.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "data is left behind");
}
