//! `tail` and `publish` with topics, and positions that come without an event.

use serde_json::{Value, json};

use crate::support::{Front, Instance, Terminal, limited, planted};

#[tokio::test]
async fn tail_prints_the_events_of_the_topics_that_it_names_and_no_others() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail", "--json", "--topic", "orders/*", "--topic", "users/7"]);
    tail.says("connected").await;
    let mut expected = Vec::new();
    for (n, topic, is_read) in [
        (1, "orders/17", true),
        (2, "orders", false),
        (3, "default", false),
        (4, "users/8", false),
        (5, "users/7", true),
    ] {
        let published = terminal.run(&["publish", "--topic", topic, &n.to_string()]).await;
        assert_eq!(published.code, 0, "{}", published.errors);
        if is_read {
            let id = published.output.trim();
            expected.push(json!({"id": id, "event": "message", "topic": topic, "data": n}));
        }
    }
    for expected in expected {
        assert_eq!(tail.json().await, expected);
    }
}

#[tokio::test]
async fn a_line_for_people_has_the_topic_after_the_type_and_default_is_not_named() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail", "--topic", "*"]);
    tail.says("connected").await;
    for (topic, shown) in [("orders/17", "order.paid@orders/17"), ("default", "order.paid")] {
        let published = terminal.run(&["publish", "--event", "order.paid", "--topic", topic, "1"]).await;
        assert_eq!(tail.line().await, format!("{} {shown} 1", published.output.trim()));
    }
}

#[tokio::test]
async fn without_topics_both_use_default() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail", "--json"]);
    tail.says("connected").await;
    terminal.run(&["publish", "--topic", "orders/17", "1"]).await;
    let id = terminal.run(&["publish", "2"]).await.output;
    assert_eq!(tail.json().await, json!({"id": id.trim(), "event": "message", "data": 2}));
}

#[tokio::test]
async fn an_event_in_several_topics_is_one_event_and_has_the_first_that_is_read() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail", "--json", "--topic", "c", "--topic", "b"]);
    tail.says("connected").await;
    let both = terminal.run(&["publish", "--topic", "a", "--topic", "b", "--topic", "c", "1"]).await;
    assert_eq!((both.code, both.output.lines().count()), (0, 1), "{}", both.errors);
    terminal.run(&["publish", "--topic", "c", "2"]).await;
    for (topic, data) in [("b", 1), ("c", 2)] {
        let line = tail.json().await;
        assert_eq!((&line["topic"], &line["data"]), (&json!(topic), &json!(data)), "once");
    }
}

#[tokio::test]
async fn tail_can_begin_with_what_the_log_has() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    for n in 1..=4 {
        for topic in ["a", "b"] {
            terminal.run(&["publish", "--topic", topic, &n.to_string()]).await;
        }
    }
    for (from, expected) in [("start", vec![1, 2, 3, 4]), ("-2", vec![3, 4]), ("-9", vec![1, 2, 3, 4])] {
        let count = expected.len().to_string();
        let ended =
            terminal.run(&["tail", "--topic", "a", "--from", from, "--count", &count, "--json"]).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        let lines = ended.output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let data: Vec<_> = lines.map(|line| line["data"].clone()).collect();
        assert_eq!(json!(data), json!(expected), "{from}");
    }
}

#[tokio::test]
async fn tail_resumes_after_the_position_of_a_heartbeat_and_prints_nothing_for_it() {
    // The front answers one request of each connection.
    let token = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"sse_token\":\"t\"}";
    let stream = |frames: &str| {
        let greeting = "id: e-1\ndata: {\"type\":\"connected\",\"instance_id\":\"1\"}\n\n";
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{greeting}{frames}")
    };
    let (quiet, plain) = (stream(": heartbeat\nid: e-7\n\n"), stream(""));
    let front = Front::answering(&[token, &quiet, token, &plain, token, &plain]).await;
    let terminal =
        Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted()).with("VX11_OPERATOR_URL", &front.base);
    let mut tail = terminal.start(&["tail", "--from", "-5"]);
    tail.says("connected to instance 1, after event e-7").await;
    tail.interrupt();
    let ended = tail.ended().await;
    assert_eq!((ended.code, ended.output.as_str()), (0, ""), "{}", ended.errors);
    let requests = front.requests().concat();
    let heads: Vec<_> = requests.split("\r\n\r\n").filter(|head| head.contains("/events/stream")).collect();
    let last_id =
        |head: &str| head.lines().find_map(|line| line.strip_prefix("last-event-id: ").map(str::to_owned));
    assert!(heads[0].contains("/events/stream?from=-5 ") && last_id(heads[0]).is_none(), "{heads:?}");
    assert!(heads[1].contains("/events/stream ") && last_id(heads[1]).as_deref() == Some("e-7"), "{heads:?}");
}

#[tokio::test]
async fn a_quiet_topic_resumes_at_the_position_of_the_log() {
    let instance = Instance::with(&[
        ("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "1"),
        ("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "4"),
        ("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "1"),
    ])
    .await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail", "--topic", "quiet"]);
    tail.says("connected to instance 1").await;
    let elsewhere = terminal.run(&["publish", "1"]).await.output;
    tail.says(&format!("connected to instance 1, after event {}", elsewhere.trim())).await;
    tail.interrupt();
    let ended = tail.ended().await;
    assert_eq!((ended.code, ended.output.as_str()), (0, ""), "{}", ended.errors);
}

#[tokio::test]
async fn a_topic_that_the_principal_may_not_use_ends_the_command_with_2_at_once() {
    let (instance, secret) = limited("rights = ['issue', 'publish']\ntopics = ['orders/*']").await;
    let terminal = Terminal::of(&instance).with("VX11_PRINCIPAL_TOKEN", &secret);
    for (command, topic) in [
        (["tail", "--topic", "users/7"].as_slice(), "users/7"),
        (&["tail"], "default"),
        (&["publish", "--topic", "users/7", "1"], "users/7"),
        (&["publish", "--topic", "orders/1", "--topic", "users/7", "1"], "users/7"),
        (&["token", "issue", "--topic", "orders/1", "--topic", "*"], "*"),
    ] {
        let ended = terminal.run(command).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{command:?}: {}", ended.errors);
        let begins = format!("vx11-operator: {} does not permit this: 403 not_permitted: ", instance.base);
        assert!(ended.errors.starts_with(&begins) && ended.errors.contains(topic), "{}", ended.errors);
        assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    }
    assert_eq!(instance.metric("vx11_operator_events_published_total").await, 0);
    let permitted = terminal.run(&["publish", "--topic", "orders/1", "1"]).await;
    assert_eq!(permitted.code, 0, "{}", permitted.errors);
}

#[tokio::test]
async fn a_right_that_the_principal_lacks_ends_the_command_with_2_at_once() {
    let (instance, secret) = limited("rights = ['introspect']").await;
    let terminal = Terminal::of(&instance).with("VX11_PRINCIPAL_TOKEN", &secret);
    for (command, right) in [
        (["tail"].as_slice(), "issue"),
        (&["publish", "1"], "publish"),
        (&["token", "issue"], "issue"),
        (&["stats"], "observe"),
        (&["stats", "--watch"], "observe"),
    ] {
        let ended = terminal.run(command).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{command:?}: {}", ended.errors);
        assert!(
            ended.errors.contains("403 not_permitted") && ended.errors.contains(right),
            "{}",
            ended.errors
        );
    }
}

#[tokio::test]
async fn what_is_no_topic_or_pattern_is_refused_with_2_before_anything_is_sent() {
    let terminal = Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted());
    for (arguments, complaint) in [
        (["tail", "--topic", "orders*"].as_slice(), "a pattern is a topic"),
        (&["tail", "--topic", ""], "a pattern is a topic"),
        (&["token", "issue", "--topic", "a//b"], "a pattern is a topic"),
        (&["publish", "--topic", "orders/*", "1"], "a topic is 1 to 128"),
        (&["publish", "--topic", "a b", "1"], "a topic is 1 to 128"),
        (&["tail", "--from", "-1001"], "-N with N from 1 to 1000"),
    ] {
        let ended = terminal.run(arguments).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(complaint), "{}", ended.errors);
    }
}
