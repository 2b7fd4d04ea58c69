//! Output of `token issue`.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use vx11_kit::remember_secret;

use crate::support::{Front, Instance, Terminal};

/// The lines of a person's output, by their names.
fn named<'a>(lines: &'a str, name: &str) -> Option<&'a str> {
    let mut named = lines.lines().filter_map(|line| line.split_once(' '));
    named.find(|(known, _)| *known == name).map(|(_, text)| text.trim())
}

#[tokio::test]
async fn a_program_gets_the_token_alone_and_it_opens_a_stream_of_its_topics() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let arguments =
        ["token", "issue", "--subject", "ada", "--topic", "orders/*", "--topic", "users/7", "--ttl", "50"];
    // Not read line by line, which would log the token.
    let (running, mut output) = terminal.start_unread(&arguments);
    let mut printed = String::new();
    output.read_to_string(&mut printed).await.unwrap();
    let ended = running.ended().await;
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
    let token = printed.strip_suffix('\n').unwrap();
    remember_secret(token);
    assert!(token.len() > 37 && token.as_bytes()[36] == b'.', "it has a grant");
    assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "and is alone");
    let mut stream = instance.open_stream(token).await;
    for topic in ["default", "users/7"] {
        instance.publish_body(&json!({"topic": topic, "data": topic}).to_string()).await;
    }
    assert_eq!(stream.next().await.unwrap().data, r#""users/7""#);
}

#[tokio::test]
async fn a_person_gets_id_expiry_and_address_too() {
    let instance = Instance::start().await;
    let mut terminal = Terminal::of(&instance);
    let issue = ["token", "issue", "--subject", "ada", "--topic", "orders/*", "--ttl", "50"];
    let ended = terminal.start_on_a_terminal(&issue).ended().await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    let text = |name: &str| named(&ended.output, name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!((text("subject"), text("topics"), text("id").len()), ("ada", "orders/*", 16));
    assert!(text("expires").ends_with("Z, in 50 s"), "{}", text("expires"));
    let (begins, token) = (format!("{}/operator/api/events/stream?", instance.base), text("token"));
    assert!(text("stream").starts_with(&begins) && text("stream").contains(token));
    let answer = instance.client.get(text("stream")).send().await.unwrap();
    assert_eq!(answer.status(), 200);

    // A plain token, as before there were grants.
    terminal = terminal.with("TERM", "xterm");
    let ended = terminal.start_on_a_terminal(&["token", "issue"]).ended().await;
    let token = named(&ended.output, "token").unwrap();
    assert_eq!((token.len(), named(&ended.output, "topics")), (36, None));
    assert_eq!(named(&ended.output, "stream"), Some(&*format!("{begins}token={token}")));
}

#[tokio::test]
async fn with_json_it_prints_the_answer_as_one_object() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let issue = async |arguments: &[&str]| {
        let ended = terminal.run(&[["token", "issue", "--json"].as_slice(), arguments].concat()).await;
        assert_eq!((ended.code, ended.errors.as_str(), ended.output.lines().count()), (0, "", 1));
        serde_json::from_str::<Value>(&ended.output).unwrap()
    };
    let plain = issue(&[]).await;
    let url = |object: &Value| {
        format!("/operator/api/events/stream?token={}", object["sse_token"].as_str().unwrap())
    };
    assert_eq!(plain["stream_url"], url(&plain));
    assert_eq!((&plain["expires_in"], &plain["backend"]), (&json!(60), &json!("memory")));
    assert_eq!((plain.get("subject"), plain.get("topics")), (None, None));
    let limited = issue(&["--subject", "ada", "--topic", "a", "--ttl", "900"]).await;
    assert_eq!(limited["stream_url"], url(&limited));
    assert_eq!(
        (&limited["subject"], &limited["topics"], &limited["expires_in"]),
        (&json!("ada"), &json!(["a"]), &json!(900))
    );
}

#[tokio::test]
async fn arguments_that_cannot_be_right_end_it_with_2() {
    let instance = Instance::start().await;
    for (arguments, complaint) in [
        (["--ttl", "0"], "1..=900"),
        (["--ttl", "901"], "1..=900"),
        (["--subject", "a b"], "visible ASCII"),
        (["--subject", ""], "1 to 128"),
        (["--token", "x"], "unexpected argument"),
    ] {
        let ended = Terminal::of(&instance).run(&[["token", "issue"].as_slice(), &arguments].concat()).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{complaint}");
        assert!(ended.errors.contains(complaint), "{}", ended.errors);
    }
}

#[tokio::test]
async fn a_failure_is_reported_once_and_nothing_is_printed() {
    for (status, shown) in [
        ("503 Service Unavailable", "503 Service Unavailable"),
        ("404 Not Found", "404 Not Found; this is no vx11-operator"),
    ] {
        let front = Front::answering(&[&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")]).await;
        let terminal =
            Terminal::bare().with("VX11_PRINCIPAL_TOKEN", "x").with("VX11_OPERATOR_URL", &front.base);
        let ended = terminal.run(&["token", "issue"]).await;
        assert_eq!((ended.code, ended.output.as_str()), (1, ""));
        let begins = format!("vx11-operator: no token from {}: {shown}", front.base);
        assert!(ended.errors.starts_with(&begins), "{}", ended.errors);
        assert_eq!((ended.errors.lines().count(), front.requests().len()), (1, 1));
    }
}
