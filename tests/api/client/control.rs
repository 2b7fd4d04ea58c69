//! `streams`, `end`, `block`, `unblock` and `revoke`: what they ask for, and what they print.

use serde_json::{Value, json};

use crate::support::{Ended, Front, Instance, Terminal, issue_with, limited, planted};

const COMMANDS: [&[&str]; 5] = [
    &["streams"],
    &["end", "--subject", "ada"],
    &["block", "--subject", "ada", "--seconds", "60"],
    &["unblock", "--subject", "ada"],
    &["revoke", "--subject", "ada"],
];

/// A terminal before a service that gives this answer.
async fn before(status: &str, body: &str) -> (Front, Terminal) {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    let front = Front::answering(&[&format!("{head}\r\n\r\n{body}")]).await;
    let terminal =
        Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted()).with("VX11_OPERATOR_URL", &front.base);
    (front, terminal)
}

/// The lines of both outputs.
fn printed(ended: &Ended) -> (i32, Vec<&str>, Vec<&str>) {
    let errors = ended.errors.lines().map(|line| line.strip_prefix("vx11-operator: ").unwrap_or(line));
    (ended.code, ended.output.lines().collect(), errors.collect())
}

/// A token of the subject `ada` for these topics, and its id.
async fn token_of_ada(instance: &Instance, topics: &[&str]) -> (String, String) {
    let issued = issue_with(instance, &json!({ "subject": "ada", "topics": topics })).await;
    let text = |name: &str| issued[name].as_str().unwrap().to_owned();
    (text("sse_token"), text("token_id"))
}

#[tokio::test]
async fn streams_lists_those_that_match_every_option() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let (token, token_id) = token_of_ada(&instance, &["orders/*", "users/7"]).await;
    let _of_ada = instance.open_stream(&token).await;
    let _of_nobody = instance.open_stream(&instance.issue().await.token).await;
    let list = async |arguments: &[&str]| {
        let ended = terminal.run(&[["streams", "--json"].as_slice(), arguments].concat()).await;
        assert_eq!((ended.code, ended.errors.as_str(), ended.output.lines().count()), (0, "", 1));
        serde_json::from_str::<Value>(&ended.output).unwrap()
    };
    let all = list(&[]).await;
    assert_eq!((all["streams"].as_array().map(Vec::len), &all["missing"]), (Some(2), &json!([])), "{all}");
    let of = |subject: &Value| {
        let mut streams = all["streams"].as_array().into_iter().flatten();
        streams.find(|stream| stream["subject"] == *subject).expect("it is listed")
    };
    let (ours, other) = (of(&json!("ada")), of(&Value::Null));
    assert_eq!((&ours["token_id"], &ours["subject"]), (&json!(token_id), &json!("ada")));
    assert_eq!((&ours["topics"], &ours["principal"]), (&json!(["orders/*", "users/7"]), &json!("operator")));
    for (arguments, matches) in [
        (["--subject", "ada"], vec![ours]),
        (["--subject", "a&d=a#%"], vec![]),
        (["--topic", "orders/17"], vec![ours]),
        (["--topic", "default"], vec![other]),
        (["--principal", "operator"], all["streams"].as_array().unwrap().iter().collect()),
        (["--principal", "another"], vec![]),
        (["--instance", "1"], all["streams"].as_array().unwrap().iter().collect()),
    ] {
        assert_eq!(list(&arguments).await["streams"], json!(matches), "{arguments:?}");
    }
    assert_eq!(list(&["--subject", "ada", "--topic", "default"]).await["streams"], json!([]));

    let _another_of_ada = instance.open_stream(&token).await;
    let ended = terminal.run(&["streams", "--subject", "ada", "--limit", "1"]).await;
    let (code, lines, errors) = printed(&ended);
    assert_eq!((code, lines.len(), errors.len()), (0, 2, 1), "{ended:?}");
    assert!(lines[0].starts_with("STREAM ") && lines[1].contains(" ada "), "{lines:?}");
    assert!(lines[1].ends_with(" orders/* users/7"), "{lines:?}");
    assert!(errors[0].contains("there are more streams") && errors[0].contains("--limit"), "{errors:?}");
}

#[tokio::test]
async fn end_ends_exactly_the_streams_that_it_names() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let of_stream = async |arguments: &[&str], ended: &str, left: u64| {
        let done = terminal.run(&[["end"].as_slice(), arguments].concat()).await;
        assert_eq!(printed(&done), (0, vec![ended], vec![]), "{arguments:?}");
        instance.metric_becomes("vx11_operator_sse_streams_open", left).await;
    };
    let (token, token_id) = token_of_ada(&instance, &["orders/*"]).await;
    let _bystander = instance.open_stream(&instance.issue().await.token).await;
    let _streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    let list = terminal.run(&["streams", "--json", "--subject", "ada"]).await.output;
    let list: Value = serde_json::from_str(&list).unwrap();
    let stream_id = list["streams"][0]["stream_id"].as_str().unwrap().to_owned();
    of_stream(&["--stream-id", &stream_id], "1 stream ended, on all instances", 2).await;
    of_stream(&["--stream-id", &stream_id], "0 streams ended, on all instances", 2).await;
    of_stream(&["--token-id", &token_id], "1 stream ended, on all instances", 1).await;
    let _streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    of_stream(&["--topic", "orders/17"], "2 streams ended, on all instances", 1).await;
    let _streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    of_stream(&["--subject", "ada"], "2 streams ended, on all instances", 1).await;
    of_stream(&["--principal", "operator"], "1 stream ended, on all instances", 0).await;
}

#[tokio::test]
async fn a_subject_is_revoked_blocked_and_unblocked() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let (before, _) = token_of_ada(&instance, &["default"]).await;
    let done = terminal.run(&["revoke", "--subject", "ada"]).await;
    assert_eq!(printed(&done), (0, vec!["the tokens that ada has are revoked, on all instances"], vec![]));
    instance.refuses(&before).await;

    let done = terminal.run(&["block", "--subject", "ada", "--seconds", "3600"]).await;
    let (code, lines, errors) = printed(&done);
    assert_eq!((code, lines.len(), errors.len()), (0, 1, 0), "{done:?}");
    let (begins, ends) = ("ada is blocked until 20", "Z, on all instances");
    assert!(lines[0].starts_with(begins) && lines[0].ends_with(ends), "{lines:?}");
    let refused = terminal.run(&["token", "issue", "--subject", "ada"]).await;
    assert_eq!((refused.code, refused.output.as_str()), (1, ""));
    assert!(refused.errors.contains("403 subject_blocked: "), "{}", refused.errors);

    let done = terminal.run(&["unblock", "--subject", "ada"]).await;
    assert_eq!(printed(&done), (0, vec!["ada is not blocked any more, on all instances"], vec![]));
    let (token, _) = token_of_ada(&instance, &["default"]).await;
    instance.open_stream(&token).await;
}

#[tokio::test]
async fn each_order_is_sent_once_with_exactly_what_was_given() {
    for (command, answer, request) in [
        (COMMANDS[0], r#"{"streams":[]}"#, "GET /operator/api/streams HTTP/1.1"),
        (
            &["streams", "--subject", "a&b", "--topic", "x/y", "--instance", "2", "--limit", "7"],
            r#"{"streams":[]}"#,
            "GET /operator/api/streams?subject=a%26b&topic=x%2Fy&instance=2&limit=7 HTTP/1.1",
        ),
        (COMMANDS[1], r#"{"ended":0,"effective":"cluster"}"#, "POST /operator/api/streams/end HTTP/1.1"),
        (
            COMMANDS[2],
            r#"{"effective":"cluster","until":"2026-01-03T20:00:00Z"}"#,
            "POST /operator/api/subjects/block HTTP/1.1",
        ),
        (COMMANDS[3], r#"{"effective":"cluster"}"#, "POST /operator/api/subjects/unblock HTTP/1.1"),
        (COMMANDS[4], r#"{"effective":"cluster"}"#, "POST /operator/api/subjects/revoke HTTP/1.1"),
    ] {
        let (front, terminal) = before("200 OK", answer).await;
        let ended = terminal.run(command).await;
        assert_eq!(ended.code, 0, "{command:?}: {}", ended.errors);
        let requests = front.requests();
        assert_eq!((requests.len(), requests[0].lines().next()), (1, Some(request)));
    }
}

#[tokio::test]
async fn instances_that_did_not_answer_and_the_reach_of_an_order_are_printed() {
    let (_front, terminal) = before("200 OK", r#"{"streams":[],"missing":["2","3"]}"#).await;
    let ended = terminal.run(&["streams"]).await;
    let (code, lines, errors) = printed(&ended);
    assert_eq!((code, lines.len(), errors.len()), (0, 1, 1), "{ended:?}");
    assert!(errors[0].contains("no answer within a second from instances 2, 3"), "{errors:?}");

    let body = r#"{"ended":2,"effective":"instance","missing":["2"]}"#;
    let (_front, terminal) = before("200 OK", body).await;
    let ended = terminal.run(&["end", "--subject", "ada"]).await;
    let (code, lines, errors) = printed(&ended);
    assert_eq!((code, lines.len(), errors.len()), (0, 1, 1), "{ended:?}");
    assert!(lines[0].starts_with("2 streams ended, on the instance that answered; "), "{lines:?}");
    assert!(errors[0].contains("from instance 2:"), "{errors:?}");
}

#[tokio::test]
async fn a_failure_says_whether_the_order_may_have_been_carried_out() {
    for command in &COMMANDS[1..] {
        let (front, terminal) = before("503 Service Unavailable", r#"{"code":"store_unavailable"}"#).await;
        let ended = terminal.run(command).await;
        assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{command:?}");
        let begins = format!("vx11-operator: not known whether it was done at {}: 503 ", front.base);
        assert!(
            ended.errors.starts_with(&begins) && ended.errors.contains("does no harm"),
            "{}",
            ended.errors
        );
        let (front, terminal) = before("429 Too Many Requests", r#"{"code":"rate_limited"}"#).await;
        let ended = terminal.run(command).await;
        assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{command:?}");
        let ends = format!(" at {}: 429 rate_limited: \n", front.base);
        assert!(ended.errors.ends_with(&ends) && !ended.errors.contains("not known"), "{}", ended.errors);
    }
}

#[tokio::test]
async fn a_right_that_the_principal_lacks_ends_it_with_2() {
    let (instance, secret) = limited("rights = ['issue']").await;
    let terminal = Terminal::of(&instance).with("VX11_PRINCIPAL_TOKEN", &secret);
    for (n, command) in COMMANDS.iter().enumerate() {
        let ended = terminal.run(command).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{command:?}: {}", ended.errors);
        let right = if n == 0 { "observe" } else { "control" };
        assert!(ended.errors.contains("403 not_permitted"), "{}", ended.errors);
        assert!(ended.errors.contains(right), "{}", ended.errors);
    }
}

#[tokio::test]
async fn arguments_that_cannot_be_right_end_it_with_2_before_anything_is_sent() {
    let terminal = Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted());
    for (arguments, complaint) in [
        (["end"].as_slice(), "required arguments"),
        (&["end", "--subject", "a", "--topic", "b"], "cannot be used with"),
        (&["end", "--topic", "orders/*"], "a topic is 1 to 128"),
        (&["end", "--token-id", "xyz"], "16 hexadecimal digits"),
        (&["end", "--stream-id", "00000000000000A1"], "16 hexadecimal digits"),
        (&["end", "--subject", "a b"], "visible ASCII"),
        (&["streams", "--limit", "0"], "1..=10000"),
        (&["streams", "--topic", "a b"], "a topic is 1 to 128"),
        (&["block", "--subject", "a"], "--seconds"),
        (&["block", "--subject", "a", "--seconds", "86401"], "1..=86400"),
        (&["unblock"], "--subject"),
        (&["revoke", "--subject", ""], "1 to 128"),
    ] {
        let ended = terminal.run(arguments).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(complaint), "{arguments:?}: {}", ended.errors);
    }
}

#[tokio::test]
async fn a_subject_is_printed_without_anything_that_a_terminal_would_obey() {
    let body = json!({ "streams": [{
        "stream_id": "00000000000000a1", "subject": "\u{1b}[2J", "topics": ["default"], "principal": "operator",
        "instance_id": "\u{202e}1", "opened_at": "2026-01-03T20:00:00.000Z",
    }], "missing": ["\u{1b}[2J"] });
    let (_front, terminal) = before("200 OK", &body.to_string()).await;
    for arguments in [["streams"].as_slice(), &["streams", "--json"]] {
        let ended = terminal.run(arguments).await;
        assert_eq!(ended.code, 0);
        for text in [&ended.output, &ended.errors] {
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        }
    }
}
