//! Load by `wrk`, as much as the server takes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use tempfile::TempDir;

/// So many that the server has something to do while some of them wait for Redis.
const CONNECTIONS: u32 = 128;
/// As many as the server has workers: with fewer, the load would be the bottleneck and hide
/// differences.
const THREADS: u32 = 2;

/// One kind of request, repeated.
pub(crate) struct Load {
    url: String,
    /// Holds the script while it is needed.
    folder: TempDir,
}

/// Result of a round.
#[derive(Deserialize)]
pub(crate) struct Round {
    /// Requests answered.
    pub(crate) requests: f64,
    /// Requests answered in a second.
    pub(crate) per_second: f64,
    /// Milliseconds within which 99 % were answered.
    pub(crate) p99: f64,
    /// Requests not answered, or not with success.
    failed: f64,
}

impl Load {
    /// POSTs of `body` to `path` of the `server`, which is its address and its principal's
    /// credential.
    pub(crate) fn post(server: (SocketAddr, &str), path: &str, content_type: &str, body: &str) -> Self {
        let (address, principal) = server;
        let folder = tempfile::tempdir().expect("a temporary folder can be created");
        let script = format!(
            r#"wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["Content-Type"] = "{content_type}"
wrk.headers["X-VX11-Token"] = "{principal}"
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format('\n{{"requests": %d, "per_second": %f, "p99": %f, "failed": %d}}\n',
        summary.requests, summary.requests / summary.duration * 1e6, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#
        );
        std::fs::write(script_in(folder.path()), script).expect("a script can be written there");
        Self { url: format!("http://{address}{path}"), folder }
    }

    /// Loads the server for `seconds`.
    pub(crate) fn run(&self, seconds: u32) -> Round {
        self.run_with(CONNECTIONS, seconds)
    }

    /// Loads the server for `seconds` with so many requests at a time.
    pub(crate) fn run_with(&self, connections: u32, seconds: u32) -> Round {
        let output = Command::new("wrk")
            .args(["--connections", &connections.to_string()])
            .args(["--threads", &THREADS.to_string()])
            .args(["--duration", &format!("{seconds}s")])
            .arg("--script")
            .arg(script_in(self.folder.path()))
            .arg(&self.url)
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("wrk is missing: apt-get install wrk")
            }
            Err(error) => panic!("wrk cannot be started: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let round = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        let round: Round = round.unwrap_or_else(|| {
            panic!("wrk failed: {said}{}", String::from_utf8_lossy(&output.stderr));
        });
        assert!(round.failed < 1.0, "{} requests failed: {said}", round.failed);
        round
    }
}

fn script_in(folder: &Path) -> std::path::PathBuf {
    folder.join("load.lua")
}
