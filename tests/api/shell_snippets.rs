//! The forwarder that users copy, from the page on control. It runs unchanged, except for the file
//! of its position.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use serde_json::{Value, json};
use tempfile::TempDir;
use vx11_kit::until;

use crate::support::{Front, Instance, issue_with, with_principals};

const CONTROL: &str = include_str!("../../docs/control.md");
/// File of the position in the script.
const POSITION: &str = "/var/lib/stream-webhook/position";

/// The running script, which leads a process group.
struct Forwarder(Child);

impl Forwarder {
    fn start(folder: &Path, instance: &Instance, webhook: &str) -> Self {
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .arg(folder.join("forward"))
            .env_clear()
            .env("PATH", path)
            .env("VX11_OPERATOR_URL", &instance.base)
            .env("VX11_PRINCIPAL_TOKEN_FILE", folder.join("credential"))
            .env("WEBHOOK", webhook);
        Self(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Forwarder {
    /// Kills it with all that it has started.
    fn drop(&mut self) {
        let killed = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        assert!(killed.unwrap().success());
        self.0.wait().unwrap();
    }
}

/// A folder with the script, the program and the credential.
fn prepared(credential: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let blocks = CONTROL.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut scripts = blocks.filter(|block| block.starts_with("#!/bin/bash\n") && block.contains(POSITION));
    let script = scripts.next().expect("the page has the script");
    let position = folder.path().join("position");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("forward", &script.replace(POSITION, position.to_str().unwrap()));
    write("credential", credential);
    let program = folder.path().join("vx11-operator");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vx11-operator"), program).unwrap();
    folder
}

/// The events that the webhook got, in order.
fn forwarded(webhook: &Front) -> Vec<Value> {
    let requests = webhook.requests();
    let bodies = requests.iter().filter_map(|request| Some(request.split_once("\r\n\r\n")?.1));
    bodies.filter_map(|body| serde_json::from_str(body).ok()).collect()
}

/// Waits for an event of this topic about the subject.
async fn about(webhook: &Front, topic: &str, subject: &str) -> Value {
    let is_it = |event: &Value| event["topic"] == topic && event["data"]["subject"] == subject;
    vx11_kit::eventually(&format!("{topic} of {subject}"), async || {
        forwarded(webhook).into_iter().find(is_it)
    })
    .await
}

#[tokio::test]
async fn the_forwarder_repeats_an_event_until_it_is_taken_and_goes_on_after_the_last_one() {
    let (instance, credentials) =
        with_principals(&[("forwarder", &["issue", "observe"], &["*"])], "events.stream_topics = true").await;
    let answer =
        |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let (failure, taken) = (answer("500 Internal Server Error"), answer("204 No Content"));
    let webhook = Front::answering(&[&failure, &taken]).await;
    let folder = prepared(&credentials[0]);
    let open = async |subject: &str| {
        let issued = issue_with(&instance, &json!({ "subject": subject })).await;
        instance.open_stream(issued["sse_token"].as_str().unwrap()).await
    };

    let forwarder = Forwarder::start(folder.path(), &instance, &webhook.base);
    // The opening of the stream that it reads, which the webhook has refused once.
    until("an event twice", async || forwarded(&webhook).len() == 2).await;
    let both = forwarded(&webhook);
    assert_eq!((&both[0], &both[0]["topic"]), (&both[1], &json!("$streams/opened")));
    let stream = open("user-7").await;
    let opened = about(&webhook, "$streams/opened", "user-7").await;
    until("the position to be kept", async || {
        let position = std::fs::read_to_string(folder.path().join("position")).unwrap_or_default();
        position.trim() == opened["id"]
    })
    .await;
    drop(forwarder);

    // Nobody forwards these until it runs again.
    drop(stream);
    let _stream = open("user-8").await;
    let _forwarder = Forwarder::start(folder.path(), &instance, &webhook.base);
    about(&webhook, "$streams/closed", "user-7").await;
    about(&webhook, "$streams/opened", "user-8").await;
    let all = forwarded(&webhook);
    let ids: BTreeSet<_> = all.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len() - 1, "only the first came twice: {all:?}");
}
