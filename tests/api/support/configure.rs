//! Starting with a configuration that may not do.

use tempfile::TempDir;
use vx11_kit::{PATIENCE, remember_secret};

use super::instance::{Instance, random_hex};

/// Runs to the end and returns exit code and everything printed.
pub async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let (mut command, log) = Instance::command(environment);
    let status = command.args(arguments).status();
    let status = tokio::time::timeout(PATIENCE, status).await;
    let status = status.expect("it ends in time").expect("it can be started");
    let printed = std::fs::read_to_string(log).expect("the log can be read");
    (status.code().expect("it ends by itself"), printed)
}

/// The complaint about these variables.
pub async fn complaint(environment: &[(&str, &str)]) -> String {
    let (code, printed) = run(&["check-config"], environment).await;
    assert_eq!(code, 2, "{environment:?}: {printed}");
    assert!(printed.contains("the configuration cannot be used"), "{printed}");
    printed
}

/// The complaint about a file with this content.
pub async fn complaint_about_file(content: &str) -> String {
    let (_folder, file) = file(content);
    let (code, printed) = run(&["check-config", "--config", &file], &[]).await;
    assert_eq!(code, 2, "{content}: {printed}");
    printed
}

/// A configuration or secret file, gone with its folder.
pub fn file(content: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("operator.toml");
    std::fs::write(&file, content).expect("the folder can be written");
    let name = file.to_str().expect("a name in UTF-8").to_owned();
    (folder, name)
}

/// A secret that must not be repeated.
pub fn planted() -> String {
    let secret = random_hex();
    remember_secret(&secret);
    secret
}
