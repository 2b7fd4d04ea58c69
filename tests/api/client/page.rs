//! `docs/command-line.md` is true: its examples are run, and print what it says.

use tokio::process::Command;

use crate::support::Instance;

const PAGE: &str = include_str!("../../../docs/command-line.md");
/// Between the outputs of two examples.
const RULE: &str = "----";

/// The examples, each with what it prints.
fn examples() -> Vec<(&'static str, &'static str)> {
    let mut examples: Vec<(&str, &str)> = Vec::new();
    let mut blocks = PAGE.split("```");
    while let (Some(_prose), Some(block)) = (blocks.next(), blocks.next()) {
        match (block.split_once('\n'), examples.last_mut()) {
            (Some(("sh", script)), _) => examples.push((script, "")),
            (Some(("text", printed)), Some(example)) => example.1 = printed,
            _ => panic!("neither an example nor what it prints: {block}"),
        }
    }
    examples
}

/// The text with ids made alike.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.matches('-').count() == 2 && word.len() > 20;
    let words = text.split_inclusive([' ', '\n', '"']);
    words
        .map(|word| if is_id(word) { format!("ID{}", &word[word.len() - 1..]) } else { word.to_owned() })
        .collect()
}

#[tokio::test]
async fn every_example_prints_what_the_page_says() {
    let examples = examples();
    assert!(examples.len() >= 5 && examples.iter().all(|(_, printed)| !printed.is_empty()), "{examples:?}");
    let instance = Instance::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vx11-operator"), folder.path().join("vx11-operator"))
        .unwrap();
    let scripts: Vec<_> = examples.iter().map(|(script, _)| *script).collect();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &scripts.join(&format!("echo '{RULE}'\n"))])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("VX11_OPERATOR_URL", &instance.base)
        .env("VX11_PRINCIPAL_TOKEN", &instance.principal)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(vx11_kit::PATIENCE, output).await.unwrap().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<_> = printed.split(&format!("{RULE}\n")).map(without_ids).collect();
    let expected: Vec<_> = examples.iter().map(|(_, printed)| without_ids(printed)).collect();
    assert_eq!(printed, expected, "{errors}");
}

#[test]
fn the_page_names_every_option_that_is_the_clients_own() {
    for option in [
        "--url",
        "--ca",
        "--config",
        "--from",
        "--json",
        "--count",
        "--event",
        "--topic",
        "--subject",
        "--ttl",
        "--key",
        "--patience",
        "--principal",
        "--instance",
        "--limit",
        "--token-id",
        "--stream-id",
        "--seconds",
        "--watch",
    ] {
        assert!(PAGE.contains(option), "{option}");
    }
}
