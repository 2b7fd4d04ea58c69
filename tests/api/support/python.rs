//! Python programs that are not ours, in virtual environments below the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

/// To install from the network on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// The folder of the programs of an environment, which is installed unless it is there already.
pub async fn python_environment(name: &str, requirements: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let environment = target.join(name);
    let stamp = environment.join("installed-requirements.txt");
    let lock = File::create(target.join(format!("{name}.lock"))).expect("the target folder can be written");
    // One environment is made at a time, for all tests.
    lock.lock().expect("a file can be locked");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        return environment.join("bin");
    }
    let file = target.join(format!("{name}-requirements.txt"));
    fs::write(&file, requirements).expect("the target folder can be written");
    run_to_end(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment), PATIENCE).await;
    let pip = ["install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run_to_end(Command::new(environment.join("bin/pip")).args(pip).arg(&file), PATIENCE).await;
    fs::write(&stamp, requirements).expect("the environment can be written");
    environment.join("bin")
}

/// Runs a program to its end; returns what it printed, or fails with it.
pub async fn run_to_end(command: &mut Command, patience: Duration) -> String {
    let output = tokio::time::timeout(patience, command.kill_on_drop(true).output()).await;
    let output = output.expect("the program ends in time").expect("the program can be started");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    // Without its arguments, which may contain a credential.
    assert!(output.status.success(), "{}:\n{text}", command.as_std().get_program().display());
    text
}
