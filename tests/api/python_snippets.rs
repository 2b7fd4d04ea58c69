//! The backend that users copy, from the README and the page on events for one user. It runs
//! unchanged with `FastAPI` and httpx, except for the address of the service.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::{Front, Instance, python_environment};

const README: &str = include_str!("../../README.md");
const ONE_USER: &str = include_str!("../../docs/events-for-one-user.md");
const REQUIREMENTS: &str = include_str!("python/requirements.txt");
/// Runs the code, and carries out commands of a test.
const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/python/backend.py");
/// Address of the service in the code.
const SERVICE: &str = "http://127.0.0.1:8001";
/// For a start of Python on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Code of a page, and how a test calls it.
#[derive(Clone, Copy)]
enum Snippet {
    Readme,
    OneUser,
}

impl Snippet {
    const ALL: [Self; 2] = [Self::Readme, Self::OneUser];

    /// The only Python of its page.
    fn code(self) -> String {
        let page = match self {
            Self::Readme => README,
            Self::OneUser => ONE_USER,
        };
        let mut blocks = page.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let code = blocks.next().expect("the page has code").to_owned();
        assert_eq!(blocks.next(), None, "the page has other code");
        code
    }

    /// A page asks for a token, in a session of the user 7.
    fn issue(self) -> Value {
        match self {
            Self::Readme => json!({ "path": "/my-own-backend/sse-token" }),
            Self::OneUser => json!({ "path": "/my-backend/sse-token", "user": "7" }),
        }
    }

    /// The application publishes an event, to the user 7 if there are users.
    fn publish(self, data: &Value) -> Value {
        match self {
            Self::Readme => json!({ "function": "publish", "arguments": ["greeting", data] }),
            Self::OneUser => json!({ "function": "publish_to", "arguments": ["7", "greeting", data] }),
        }
    }
}

/// The running code.
struct Backend {
    /// Ends with the test.
    _process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Backend {
    /// Starts the code of `snippet` with a service at `base`.
    async fn start(snippet: Snippet, base: &str, credential: &str) -> Self {
        let python = python_environment("python-snippets", REQUIREMENTS).await.join("python");
        let folder = tempfile::tempdir().unwrap();
        let code = snippet.code();
        assert!(code.contains(SERVICE), "the code names the service");
        let file = folder.path().join("copied.py");
        std::fs::write(&file, code.replace(SERVICE, base)).unwrap();
        let mut process = Command::new(python)
            .args([Path::new(RUNNER), &file])
            .env("VX11_PRINCIPAL_TOKEN", credential)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, commands, answers, _folder: folder }
    }

    async fn ask(&mut self, command: &Value) -> Value {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let answer = answer.expect("an answer in time").unwrap().expect("the code runs");
        serde_json::from_str(&answer).unwrap()
    }

    /// A token for a page.
    async fn token(&mut self, snippet: Snippet) -> String {
        let answer = self.ask(&snippet.issue()).await;
        assert_eq!(
            (&answer["status"], &answer["headers"]["cache-control"]),
            (&json!(200), &json!("no-store"))
        );
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        let token = body["sse_token"].as_str().unwrap().to_owned();
        vx11_kit::remember_secret(&token);
        token
    }
}

#[tokio::test]
async fn its_tokens_open_streams_that_get_its_events() {
    let instance = Instance::start().await;
    for snippet in Snippet::ALL {
        let mut backend = Backend::start(snippet, &instance.base, &instance.principal).await;
        let mut stream = instance.open_stream(&backend.token(snippet).await).await;
        let data = json!({ "hello": "world" });
        let id = backend.ask(&snippet.publish(&data)).await["returned"].clone();
        let event = stream.next_published().await;
        assert_eq!((json!(event.id), event.event.as_str(), event.json()), (id, "greeting", data));
    }
}

#[tokio::test]
async fn a_user_gets_no_events_of_another_user_whatever_characters_an_id_has() {
    let instance = Instance::start().await;
    let mut backend = Backend::start(Snippet::OneUser, &instance.base, &instance.principal).await;
    let mut stream = instance.open_stream(&backend.token(Snippet::OneUser).await).await;
    for other in ["8", "7/1", "*", "7*", "Ä?&#"] {
        let command = json!({ "function": "publish_to", "arguments": [other, "greeting", other] });
        assert!(backend.ask(&command).await["returned"].is_string(), "{other}");
        let token = json!({ "path": "/my-backend/sse-token", "user": other });
        let answer = backend.ask(&token).await;
        assert_eq!(answer["status"], 200, "{other}: {answer}");
        vx11_kit::remember_secret(
            serde_json::from_str::<Value>(answer["body"].as_str().unwrap()).unwrap()["sse_token"]
                .as_str()
                .unwrap(),
        );
    }
    backend.ask(&Snippet::OneUser.publish(&json!("mine"))).await;
    assert_eq!(stream.next_published().await.json(), "mine");
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_repeated_under_its_key_and_published_once() {
    let instance = Instance::start().await;
    for snippet in Snippet::ALL {
        let front = Front::losing(instance.address(), 1).await;
        let mut backend = Backend::start(snippet, &front.base, &instance.principal).await;
        let mut direct = Backend::start(snippet, &instance.base, &instance.principal).await;
        let mut stream = instance.open_stream(&direct.token(snippet).await).await;
        let id = backend.ask(&snippet.publish(&json!(1))).await["returned"].clone();
        direct.ask(&snippet.publish(&json!(2))).await;
        let (first, second) = (stream.next_published().await, stream.next_published().await);
        assert_eq!((json!(first.id), first.json(), second.json()), (id, json!(1), json!(2)));
        let requests = front.requests();
        let key = |request: &String| {
            let lines = request.lines().map(str::to_ascii_lowercase);
            lines.into_iter().find(|line| line.starts_with("idempotency-key: ")).expect("a key")
        };
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert_eq!(key(&requests[0]), key(&requests[1]));
    }
}

#[tokio::test]
async fn a_page_of_a_blocked_user_gets_403() {
    let instance = Instance::start().await;
    let order = async |order: &str, fields: Value| {
        let path = format!("/operator/api/subjects/{order}");
        let done = instance.post_as_principal(&path).json(&fields).send().await.unwrap();
        assert_eq!(done.status(), 200, "{order}");
    };
    order("block", json!({ "subject": "7", "seconds": 60 })).await;
    let mut backend = Backend::start(Snippet::OneUser, &instance.base, &instance.principal).await;
    assert_eq!(backend.ask(&Snippet::OneUser.issue()).await["status"], 403);
    order("unblock", json!({ "subject": "7" })).await;
    backend.token(Snippet::OneUser).await;

    // Tokens of the README have no subject. Yours may have one.
    let blocked =
        instance.post_as_principal("/operator/api/events/sse-token").json(&json!({ "subject": "8" }));
    order("block", json!({ "subject": "8", "seconds": 60 })).await;
    let blocked = blocked.send().await.unwrap().text().await.unwrap();
    let front = Front::answering(&[&answer("403 Forbidden", "", &blocked)]).await;
    let mut backend = Backend::start(Snippet::Readme, &front.base, &instance.principal).await;
    assert_eq!(backend.ask(&Snippet::Readme.issue()).await["status"], 403);
}

/// An answer of the service.
fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_page_gets_502_for_every_other_answer_that_is_no_token() {
    let credential = vx11_kit::new_principal();
    for snippet in Snippet::ALL {
        for (answer, retry_after) in [
            (answer("401 Unauthorized", "", ""), "1"),
            (answer("403 Forbidden", "", ""), "1"),
            (answer("403 Forbidden", "", r#"{"code":"not_permitted"}"#), "1"),
            (answer("429 Too Many Requests", "Retry-After: 7\r\n", ""), "7"),
            (answer("503 Service Unavailable", "Retry-After: 2\r\n", ""), "2"),
        ] {
            let front = Front::answering(&[&answer]).await;
            let mut backend = Backend::start(snippet, &front.base, &credential).await;
            let page = backend.ask(&snippet.issue()).await;
            let expected = (&json!(502), &json!(retry_after));
            assert_eq!((&page["status"], &page["headers"]["retry-after"]), expected, "{answer}");
        }
        let nobody = vx11_kit::Port::reserve();
        let base = format!("http://127.0.0.1:{}", nobody.number());
        let mut backend = Backend::start(snippet, &base, &credential).await;
        assert_eq!(backend.ask(&snippet.issue()).await["status"], 502);
    }
}
