//! `.ci/deny` and its place in `.ci/verify`: which checks of the dependencies run, and what is said
//! of one that cannot. `cargo`, `make` and the like are fakes, because the real database of
//! advisories cannot be made to be out of reach, or to have one of ours in it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::shipped;

const NOT_CHECKED: &str = "Advisories were NOT checked";
const REST: &str = "cargo deny --all-features check licenses bans sources";
const FETCH: &str = "cargo deny fetch db";
const ADVISORIES: &str = "cargo deny --all-features check --disable-fetch advisories";

/// Programs of these names, which write down how they are called.
struct Fakes {
    folder: TempDir,
}

/// Status and output of a script.
struct Run {
    succeeded: bool,
    printed: String,
    /// Calls of the fakes, in order.
    calls: Vec<String>,
}

impl Fakes {
    /// Each with the shell commands that it runs, which see their arguments as `$*`.
    fn new(programs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, commands) in programs {
            let calls = folder.path().join("calls");
            let text = format!("#!/bin/sh\necho \"{name} $*\" >> '{}'\n{commands}\n", calls.display());
            let program = folder.path().join(name);
            std::fs::write(&program, text).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    /// Runs a script, which finds the fakes before everything else.
    fn run(&self, script: &Path) -> Run {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new(script).env("PATH", path).output().unwrap();
        let calls = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        Run {
            succeeded: output.status.success(),
            printed: String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
            calls: calls.lines().map(str::to_owned).collect(),
        }
    }
}

/// `.ci/deny` with a `cargo` that fails when it is called like one of these.
fn deny(failing: &[&str]) -> Run {
    let cases = failing.iter().map(|call| format!("'{}') exit 1 ;;\n", call.trim_start_matches("cargo ")));
    let cases = cases.collect::<Vec<_>>().concat();
    Fakes::new(&[("cargo", &format!("case \"$*\" in\n{cases}esac"))]).run(&shipped(".ci/deny"))
}

#[test]
fn advisories_are_checked_where_the_database_can_be_had() {
    let run = deny(&[]);
    assert!(run.succeeded && !run.printed.contains(NOT_CHECKED), "{}", run.printed);
    assert_eq!(run.calls, [REST, FETCH, ADVISORIES]);
}

#[test]
fn without_the_database_the_rest_is_checked_and_the_output_names_what_was_not() {
    let run = deny(&[FETCH]);
    assert!(run.succeeded && run.printed.starts_with(NOT_CHECKED), "{}", run.printed);
    assert_eq!(run.calls, [REST, FETCH]);
}

#[test]
fn a_database_that_does_not_answer_is_not_waited_for() {
    // As `timeout` ends when the time is over.
    let fakes = Fakes::new(&[("cargo", ""), ("timeout", "exit 124")]);
    let run = fakes.run(&shipped(".ci/deny"));
    assert!(run.succeeded && run.printed.starts_with(NOT_CHECKED), "{}", run.printed);
    assert_eq!(run.calls, [REST, format!("timeout --kill-after=5 60 {FETCH}").as_str()]);
}

#[test]
fn an_open_advisory_fails_the_check() {
    assert!(!deny(&[ADVISORIES]).succeeded);
}

#[test]
fn a_licence_a_crate_or_a_source_that_is_not_allowed_fails_the_check() {
    assert!(!deny(&[REST]).succeeded);
    assert!(!deny(&[REST, FETCH]).succeeded, "also without the database");
}

/// `.ci/verify` in a separate folder, where `make deny` prints a line and no container engine
/// answers.
fn verify(printed_by_deny: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let scripts = folder.path().join(".ci");
    std::fs::create_dir(&scripts).unwrap();
    std::fs::copy(shipped(".ci/verify"), scripts.join("verify")).unwrap();
    let make = format!("case \"$*\" in *deny) echo '{printed_by_deny}' ;; esac");
    Fakes::new(&[("make", &make), ("docker", "exit 1")]).run(&scripts.join("verify"))
}

#[test]
fn verify_runs_the_check_and_its_summary_says_what_was_left_out() {
    let run = verify("advisories ok, bans ok");
    assert!(run.succeeded && run.calls.iter().any(|call| call.ends_with(" deny")), "{:?}", run.calls);
    assert!(
        run.printed.contains(" 0 failed, 1 skipped") && !run.printed.contains(NOT_CHECKED),
        "{}",
        run.printed
    );
    let run = verify(&format!("{NOT_CHECKED}: why"));
    assert!(run.succeeded && run.printed.contains(" 0 failed, 2 skipped"), "{}", run.printed);
    assert!(run.printed.contains(&format!("{NOT_CHECKED}: why\nverify took ")), "{}", run.printed);
}

#[test]
fn ci_and_make_run_the_script() {
    let run = Fakes::new(&[("make", "")]).run(&shipped(".ci/run"));
    assert_eq!(run.calls, ["make verify"]);
    let dry = Command::new("make").args(["--dry-run", "deny"]).current_dir(shipped("")).output().unwrap();
    let commands = String::from_utf8(dry.stdout).unwrap();
    assert!(commands.lines().any(|line| line.trim() == ".ci/deny"), "{commands}");
}
