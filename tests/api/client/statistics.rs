//! Output of `stats` for one instance. For several: `redis/statistics.rs`.

use std::process::Stdio;

use serde_json::{Value, json};
use vx11_kit::{PATIENCE, Port};

use crate::support::{Front, Instance, Terminal};

#[tokio::test]
async fn it_prints_a_line_for_the_whole_and_a_row_without_colours() {
    let instance = Instance::with(&[("INSTANCE_ID", "7")]).await;
    let issued = instance.issue().await;
    instance.issue().await;
    let _stream = instance.open_stream(&issued.token).await;
    let ended = Terminal::of(&instance).run(&["stats"]).await;
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
    let expected = "backend memory   tokens 2   streams 1\n\
                    INSTANCE  BACKEND  BREAKER  TOKENS  STREAMS  SEEN\n\
                    7         memory   -             2        1  now\n";
    assert_eq!(ended.output, expected);
}

#[tokio::test]
async fn with_json_it_prints_one_object_on_one_line() {
    let instance = Instance::start().await;
    instance.issue().await;
    let ended = Terminal::of(&instance).run(&["stats", "--json"]).await;
    assert_eq!((ended.code, ended.output.lines().count()), (0, 1));
    let mut object: Value = serde_json::from_str(&ended.output).unwrap();
    // Seconds since an answer, which depend on the machine.
    let row = &mut object["instances"][0];
    for age in [row["seen_seconds_ago"].take(), row["own"]["said_seconds_ago"].take()] {
        assert!(age.as_f64().is_some_and(|age| age >= 0.0), "{age}");
    }
    let own = json!({
        "said_seconds_ago": null, "backend": "memory",
        "breaker": null, "fallback_entries": 0, "degraded_since": null,
    });
    let row = json!({"instance_id": "1", "seen_seconds_ago": null, "active": 1, "streams": 0, "own": own});
    let expected = json!({
        "backends": ["memory"], "cache_size": 1, "streams": 0, "degraded_since": null,
        "redis_memory_bytes": null, "redis_ops_per_sec": null, "instances": [row],
    });
    assert_eq!(object, expected);
}

#[tokio::test]
async fn colours_are_for_terminals_that_show_them_and_people_who_want_them() {
    let instance = Instance::start().await;
    for (variables, is_coloured) in [
        ([("TERM", "xterm"), ("NO_COLOR", "")], true),
        ([("TERM", "xterm"), ("NO_COLOR", "1")], false),
        ([("TERM", "dumb"), ("NO_COLOR", "")], false),
    ] {
        let terminal =
            variables.iter().fold(Terminal::of(&instance), |it, (name, value)| it.with(name, value));
        let ended = terminal.start_on_a_terminal(&["stats"]).ended().await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.output.contains("INSTANCE") && ended.output.lines().count() == 3, "{ended:?}");
        assert_eq!(ended.output.contains('\u{1b}'), is_coloured, "{variables:?}: {ended:?}");
    }
}

#[tokio::test]
async fn where_nobody_answers_it_ends_with_1_and_says_where_it_asked_and_what_to_set() {
    let port = Port::reserve();
    let url = format!("http://127.0.0.1:{}", port.number());
    let terminal = Terminal::bare().with("VX11_OPERATOR_URL", &url).with("VX11_PRINCIPAL_TOKEN", "x");
    for arguments in [["stats"].as_slice(), &["stats", "--json"]] {
        let ended = terminal.run(arguments).await;
        assert_eq!((ended.code, ended.output.as_str()), (1, ""));
        assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
        for words in [&url, "cannot connect: Connection refused", "VX11_OPERATOR_URL"] {
            assert!(ended.errors.contains(words), "{}", ended.errors);
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_services_is_none() {
    for body in ["hello", "{}", "[]", r#"{"backend": "memory", "cache_size": -1}"#] {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let front = Front::answering(&[&answer]).await;
        let terminal =
            Terminal::bare().with("VX11_OPERATOR_URL", &front.base).with("VX11_PRINCIPAL_TOKEN", "x");
        let ended = terminal.run(&["stats"]).await;
        assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{body}");
        assert!(ended.errors.contains("this is no vx11-operator"), "{}", ended.errors);
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_after_others_came_leaves_those_to_be_shown() {
    let instance = Instance::start().await;
    let stats = instance.get_as_principal("/operator/internal/cache-stats").send().await.unwrap();
    let body = stats.text().await.unwrap();
    let first =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let then = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let front = Front::answering(&[&first, then]).await;
    let ended = Terminal::of(&instance).with("VX11_OPERATOR_URL", &front.base).run(&["stats"]).await;
    assert_eq!((ended.code, ended.output.lines().count()), (0, 3), "{ended:?}");
    assert!(ended.errors.contains("not every instance has answered: 502 Bad Gateway"), "{}", ended.errors);
}

#[tokio::test]
async fn arguments_that_cannot_be_right_end_it_with_2() {
    for (arguments, complaint) in [
        (vec!["--watch", "0"], "1..=3600"),
        (vec!["--watch", "soon"], "invalid value"),
        (vec!["--watch", "--json"], "cannot be used with"),
        (vec!["1"], "unexpected argument"),
    ] {
        let ended = Terminal::bare().run(&[&["stats"], &arguments[..]].concat()).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.errors.contains(complaint), "{}", ended.errors);
    }
}

#[tokio::test]
async fn output_that_cannot_be_written_ends_it_with_1_and_the_reason() {
    let instance = Instance::start().await;
    for arguments in [["stats"].as_slice(), &["stats", "--watch"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (mut command, _) = Instance::command(&[
            ("VX11_OPERATOR_URL", &instance.base),
            ("VX11_PRINCIPAL_TOKEN", &instance.principal),
        ]);
        let command = command.args(arguments).stdout(full).stderr(Stdio::piped());
        let ended = command.spawn().unwrap().wait_with_output();
        let output = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("standard output cannot be written: No space left"), "{errors}");
    }
}
