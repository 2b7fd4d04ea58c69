//! The clients in `clients`: each of them against the table of client cases, and the examples and
//! checks of the Python client.
#![expect(unreachable_pub, reason = "a module of `tests/api`, where it is public to every test")]

#[path = "../api/support/python.rs"]
mod python;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use vx11_kit::{Operator, new_principal};

use python::{python_environment, run_to_end};

const BINARY: &str = env!("CARGO_BIN_EXE_vx11-operator");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const REQUIREMENTS: &str = include_str!("requirements.txt");
const README: &str = include_str!("../../clients/python/README.md");
/// Address of the service in the examples.
const SERVICE: &str = "http://127.0.0.1:8001";
/// Bound for all cases of a client, on a busy machine. The command bounds each case itself.
const PATIENCE: Duration = Duration::from_mins(5);

async fn environment() -> PathBuf {
    python_environment("python-client", REQUIREMENTS).await
}

/// Runs `clients/cases/run.py`, which fails if a case does not hold.
async fn run_cases(arguments: &[&str]) {
    let script = Path::new(ROOT).join("clients/cases/run.py");
    run_to_end(Command::new("python3").arg(script).args(arguments), PATIENCE).await;
}

async fn run_python_cases(client: &str) {
    let program = environment().await.join("python");
    run_cases(&[client, "--program", &program.to_string_lossy()]).await;
}

#[tokio::test]
async fn every_case_holds_for_the_synchronous_python_client() {
    run_python_cases("python").await;
}

#[tokio::test]
async fn every_case_holds_for_the_asynchronous_python_client() {
    run_python_cases("python-async").await;
}

#[tokio::test]
async fn every_case_holds_for_the_browser_client() {
    run_cases(&["browser"]).await;
}

#[tokio::test]
async fn every_case_holds_for_the_command_line() {
    run_cases(&["command-line", "--program", BINARY]).await;
}

#[tokio::test]
async fn the_page_of_client_cases_is_that_of_the_table() {
    run_cases(&["page"]).await;
}

#[tokio::test]
async fn the_examples_of_the_python_client_run() {
    let principal = new_principal();
    let instance = Operator::start(Path::new(BINARY), &principal, &[]).await;
    let python = environment().await.join("python");
    let examples =
        README.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut printed = String::new();
    for example in examples {
        assert!(example.contains(SERVICE), "the example names the service");
        let example = example.replace(SERVICE, &format!("http://{}", instance.address()));
        let mut command = Command::new(&python);
        command.arg("-c").arg(example).env("VX11_PRINCIPAL_TOKEN", &principal);
        command.env("PYTHONPATH", Path::new(ROOT).join("clients/python/src"));
        printed += &run_to_end(&mut command, PATIENCE).await;
    }
    let expected = "a page of the user 7 gets a token for 300 seconds\norders/18 order.paid {'order': 18}\nnews hello True\n";
    assert_eq!(printed, expected);
}

#[tokio::test]
async fn the_python_client_passes_its_tests_and_checks() {
    let programs = environment().await;
    let package = Path::new(ROOT).join("clients/python");
    for (program, arguments) in [
        ("python", ["-W", "error", "-m", "unittest", "discover", "tests"].as_slice()),
        ("ruff", &["check", ".", "../cases"]),
        ("ruff", &["format", "--check", ".", "../cases"]),
        ("mypy", &[]),
    ] {
        let mut command = Command::new(programs.join(program));
        command.args(arguments).current_dir(&package).env("PYTHONPATH", package.join("src"));
        run_to_end(&mut command, PATIENCE).await;
    }
}
