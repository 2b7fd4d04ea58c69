//! Output of `tail`, and its end.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use vx11_kit::PATIENCE;

use crate::support::{Instance, Terminal};

#[tokio::test]
async fn each_event_is_a_line_of_id_type_and_data() {
    let instance = Instance::with(&[("INSTANCE_ID", "7")]).await;
    let mut tail = Terminal::of(&instance).start(&["tail"]);
    assert_eq!(tail.says("connected").await, "vx11-operator: connected to instance 7");
    for data in [json!({"type": "connected", "n": 1}), json!("\u{1b}[2Jgrüße"), json!(null)] {
        let id = instance.publish(data.clone()).await;
        assert_eq!(tail.line().await, format!("{id} message {data}"));
    }
}

#[tokio::test]
async fn with_json_each_event_is_an_object_and_messages_go_to_standard_error() {
    let instance = Instance::start().await;
    let mut tail = Terminal::of(&instance).start(&["tail", "--json"]);
    tail.says("connected to instance 1").await;
    let body =
        "{\"event\": \"order.paid\", \"data\": {\r\n  \"n\": 1.10,\n\t\"big\": 123456789012345678901}}";
    let publish = instance.post_as_principal("/operator/api/events");
    let published = publish.header("Content-Type", "application/json").body(body).send().await.unwrap();
    let id = published.json::<Value>().await.unwrap()["id"].clone();
    let line = tail.line().await;
    let data = r#"{ "n": 1.10, "big": 123456789012345678901}"#;
    assert_eq!(line, format!(r#"{{"id":{id},"event":"order.paid","data":{data}}}"#));
}

#[tokio::test]
async fn no_event_can_make_a_terminal_do_anything() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let (mut readable, mut json) = (terminal.start(&["tail"]), terminal.start(&["tail", "--json"]));
    readable.says("connected").await;
    json.says("connected").await;
    // JSON allows some control characters in strings unescaped, for example C1 characters and DEL.
    let nasty = "\u{9b}31m\u{7f}\u{202e}";
    let publish =
        instance.post_as_principal("/operator/api/events").header("Content-Type", "application/json");
    publish.body(format!("{{\"data\": \"{nasty}\"}}")).send().await.unwrap();
    assert!(readable.line().await.ends_with(r#" message "\u009b31m\u007f\u202e""#));
    let line = json.line().await;
    assert!(!line.contains(char::is_control), "{line:?}");
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["data"], json!(nasty));
}

#[tokio::test]
async fn it_ends_after_as_many_events_as_were_asked_for() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let first = instance.publish(json!(1)).await;
    for n in 2..=5 {
        instance.publish(json!(n)).await;
    }
    let ended = terminal.run(&["tail", "--from", &first, "--count", "3", "--json"]).await;
    assert_eq!(ended.code, 0);
    let data: Vec<_> = ended
        .output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].clone())
        .collect();
    assert_eq!(data, [json!(2), json!(3), json!(4)], "those after the event it was to begin after");
    assert_eq!(ended.errors, format!("vx11-operator: connected to instance 1, after event {first}\n"));
}

#[tokio::test]
async fn a_reset_before_the_first_event_is_reported() {
    let instance = Instance::start().await;
    let mut tail = Terminal::of(&instance).start(&["tail", "--from", "0badcafe-1-1"]);
    tail.says("reset (epoch): events after 0badcafe-1-1 are missing, for the log was lost").await;
    let id = instance.publish(json!(1)).await;
    assert_eq!(tail.line().await, format!("{id} message 1"));
}

#[tokio::test]
async fn it_ends_quietly_when_nobody_reads_even_if_nothing_is_published() {
    let instance = Instance::start().await;
    let (mut tail, output) = Terminal::of(&instance).start_unread(&["tail"]);
    tail.says("connected").await;
    let id = instance.publish(json!(1)).await;
    // As `head -1` does: it reads a line, and goes.
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line).await.unwrap();
    assert_eq!(line, format!("{id} message 1\n"));
    drop(output);
    let ended = tail.ended().await;
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
    instance.stream_ends_are("client", 1).await;
}

#[tokio::test]
async fn ctrl_c_ends_it_with_a_summary() {
    let instance = Instance::start().await;
    let mut tail = Terminal::of(&instance).start(&["tail"]);
    tail.says("connected").await;
    instance.publish(json!(1)).await;
    tail.line().await;
    tail.interrupt();
    let ended = tail.ended().await;
    assert_eq!((ended.code, ended.errors.as_str()), (0, "vx11-operator: 1 event, 0 reconnects, 0 resets\n"));
}

#[tokio::test]
async fn ctrl_c_ends_it_while_it_waits_for_someone_to_read() {
    let instance = Instance::start().await;
    let (mut tail, _output) = Terminal::of(&instance).start_unread(&["tail"]);
    tail.says("connected").await;
    // More than a pipe holds.
    for _ in 0..3 {
        instance.publish(json!("x".repeat(60_000))).await;
    }
    until_blocked(tail.pid()).await;
    tail.interrupt();
    assert_eq!(tail.ended().await.code, 0);
}

/// Waits until a thread of the process waits for room in a pipe.
async fn until_blocked(pid: u32) {
    vx11_kit::until("a write that waits", async || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let waits_in = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("wchan"));
        threads.filter_map(|thread| waits_in(thread).ok()).any(|place| place.contains("pipe"))
    })
    .await;
}

#[tokio::test]
async fn output_that_cannot_be_written_ends_it_with_1_and_the_reason() {
    let instance = Instance::start().await;
    let first = instance.publish(json!(1)).await;
    instance.publish(json!(2)).await;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (mut command, _) = Instance::command(&[
        ("VX11_OPERATOR_URL", &instance.base),
        ("VX11_PRINCIPAL_TOKEN", &instance.principal),
    ]);
    let command = command.args(["tail", "--from", &first]).stdout(full).stderr(Stdio::piped());
    let ended = command.spawn().unwrap().wait_with_output();
    let output = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("standard output cannot be written: No space left"), "{errors}");
}
