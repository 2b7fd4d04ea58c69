//! A shell in which the commands of a page are run. What a page leaves to the deployment (how its
//! instances are restarted one by one, how its clients are given another credential) is a function
//! there, which the test carries out.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::shipped;

/// Steps that a page leaves to the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// All instances, one after the other.
    RollingRestart,
    /// All instances, together.
    RestartAtOnce,
    /// Clients present the first credential of the file from now on.
    MoveClients,
}

/// The functions that pages call, and the name of the command that failed.
const FUNCTIONS: &str = r#"
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
set -E
errand() {
  local answer
  exec 9<> "/dev/tcp/127.0.0.1/$DESK"
  echo "$1" >&9
  read -r answer <&9
  exec 9>&-
  [ "$answer" = done ]
}
rolling_restart() { errand rolling_restart; }
restart_at_once() { errand restart_at_once; }
move_clients() { errand move_clients; }
"#;

/// Runs commands from the root of the repository, as somebody types them one after the other, in an
/// environment. The error is what they printed, with the command that failed.
pub(crate) async fn run(
    commands: &str,
    environment: &[(&str, String)],
    mut carry_out: impl AsyncFnMut(Errand),
) -> Result<(), String> {
    let desk = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("{FUNCTIONS}{commands}")])
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .env("DESK", desk.local_addr().unwrap().port().to_string())
        .current_dir(shipped(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut ended = std::pin::pin!(child.wait_with_output());
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.unwrap(),
            visit = desk.accept() => {
                let mut visitor = BufReader::new(visit.unwrap().0);
                let mut words = String::new();
                visitor.read_line(&mut words).await.unwrap();
                let errand = match words.trim() {
                    "rolling_restart" => Errand::RollingRestart,
                    "restart_at_once" => Errand::RestartAtOnce,
                    "move_clients" => Errand::MoveClients,
                    other => panic!("no errand: {other}"),
                };
                carry_out(errand).await;
                visitor.write_all(b"done\n").await.unwrap();
            }
        }
    };
    let [said, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    output.status.success().then_some(()).ok_or_else(|| format!("{}\n{said}\n{errors}", output.status))
}
