//! Requests, output and refusals of `publish`.

use serde_json::{Value, json};

use crate::support::{Front, Instance, Terminal};

#[tokio::test]
async fn it_prints_the_id_of_the_event_whose_data_arrives_as_it_was_written() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    let data = r#"{"b": 1.10, "a": [1e2]}"#;
    let written = "{\n \"lines\": true\n}\n";
    for (ended, event, expected) in [
        (terminal.run(&["publish", data]).await, "message", data),
        (terminal.run(&["publish", "--event", "order.paid", "-5"]).await, "order.paid", "-5"),
        (terminal.run_with_input(&["publish"], written.as_bytes()).await, "message", written.trim()),
        (terminal.run_with_input(&["publish", "-"], "\"grüße\"".as_bytes()).await, "message", "\"grüße\""),
    ] {
        assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
        let frame = stream.next().await.unwrap();
        assert_eq!(ended.output, format!("{}\n", frame.id));
        assert_eq!((frame.event.as_str(), frame.data.as_str()), (event, expected));
    }
}

#[tokio::test]
async fn text_that_is_not_json_is_refused_with_a_hint_and_not_repeated() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    for ended in [
        terminal.run(&["publish", "hello-there"]).await,
        terminal.run(&["publish", ""]).await,
        terminal.run(&["publish", "{\"hello-there\": }"]).await,
        terminal.run_with_input(&["publish"], b"hello-there").await,
        terminal.run(&["publish"]).await,
    ] {
        assert_eq!((ended.code, ended.output.as_str()), (2, ""));
        for words in ["not JSON", r#"vx11-operator publish '"like this"'"#] {
            assert!(ended.errors.contains(words), "{}", ended.errors);
        }
        assert!(!ended.errors.contains("hello-there"), "{}", ended.errors);
    }
    let ended = terminal.run_with_input(&["publish"], b"\"\xff\"").await;
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("UTF-8"), "{}", ended.errors);
    assert_eq!(instance.metric("vx11_operator_events_published_total").await, 0);
}

#[tokio::test]
async fn arguments_that_cannot_be_right_end_it_with_2() {
    let instance = Instance::start().await;
    let (long, large) = ("k".repeat(129), format!("\"{}\"", "x".repeat(70_000)));
    for (arguments, complaint) in [
        (vec!["--event", "reset", "1"], "reserved"),
        (vec!["--event", "a b", "1"], "an event type is"),
        (vec!["--key", "a b", "1"], "visible ASCII"),
        (vec!["--key", &long, "1"], "1 to 128"),
        (vec!["--patience", "0", "1"], "1..=600"),
        (vec!["1", "2"], "unexpected argument"),
        (vec![&large], "larger than 65536 bytes"),
    ] {
        let ended = Terminal::of(&instance).run(&[&["publish"], &arguments[..]].concat()).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{complaint}");
        assert!(ended.errors.contains(complaint), "{}", ended.errors);
    }
}

#[tokio::test]
async fn a_refused_event_ends_with_1_at_once_and_the_text_of_the_service() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
    // With what surrounds it, a little more than the service takes.
    let large = format!("\"{}\"", "x".repeat(65_530));
    for (data, words) in [(deep, "400 bad_request"), (large, "413 body_too_large")] {
        let ended = terminal.run_with_input(&["publish"], data.as_bytes()).await;
        assert_eq!((ended.code, ended.output.as_str()), (1, ""));
        let shown: Vec<_> = ended.errors.lines().collect();
        let words = format!("vx11-operator: not published at {}: {words}: ", instance.base);
        assert!(shown.len() == 1 && shown[0].starts_with(&words), "{shown:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_services_is_no_success() {
    let portal = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello";
    let front = Front::answering(&[portal]).await;
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance).with("VX11_OPERATOR_URL", &front.base);
    let ended = terminal.run(&["publish", "1"]).await;
    assert_eq!((ended.code, ended.output.as_str()), (3, ""));
    assert!(ended.errors.contains(&format!("{}: the answer is not", front.base)), "{}", ended.errors);
    assert_eq!(front.requests().len(), 1, "and is not asked for again");
}

#[tokio::test]
async fn what_is_published_can_be_followed_by_tail() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail", "--json", "--count", "20"]);
    tail.says("connected").await;
    for n in 0..20 {
        let id = terminal.run(&["publish", "--event", "n", &n.to_string()]).await.output;
        let expected: Value = json!({"id": id.trim(), "event": "n", "data": n});
        assert_eq!(tail.json().await, expected);
    }
    assert_eq!(tail.ended().await.code, 0);
}
