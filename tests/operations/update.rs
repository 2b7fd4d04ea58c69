//! `deploy/compose/update`, as far as it can be tried without an engine: what it does to a
//! deployment is tried by `deploy/compose/test/run`.

use std::process::{Command, Output};

use crate::shipped;

fn update(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(shipped("deploy/compose/update"));
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn wrong_use_and_a_failed_update_have_different_exit_codes() {
    for arguments in [
        &["--to"][..],
        &["--to", ""],
        &["--to", "image", "--rollback"],
        &["--wait", "0"],
        &["--wait"],
        &["image"],
    ] {
        let output = update(arguments, &[]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {errors}");
        assert!(errors.starts_with("update: ") && errors.contains("--help"), "{arguments:?}: {errors}");
    }
}

#[test]
fn it_explains_itself() {
    let output = update(&["--help"], &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("--rollback") && said.contains("Exit code"), "{said}");
}

#[test]
fn without_an_engine_nothing_is_begun() {
    let output = update(&[], &[("DOCKER_HOST", "tcp://127.0.0.1:1")]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("docker"), "{errors}");
}
