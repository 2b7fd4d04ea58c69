//! Principals with rights and topics, tokens with a grant, and streams as text.

use std::fmt::Write as _;

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use vx11_kit::{PATIENCE, remember_secret};

use super::configure::{file, planted};
use super::instance::Instance;

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";

/// A principal in the configuration file: id, rights and topics.
pub type Limited<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// An instance with these principals beside `operator`, and their credentials in the same order.
/// `more` is at the top of its configuration file.
pub async fn with_principals(principals: &[Limited<'_>], more: &str) -> (Instance, Vec<String>) {
    let credentials: Vec<_> = principals.iter().map(|_| planted()).collect();
    let mut content = format!("{more}\n");
    for ((id, rights, topics), credential) in principals.iter().zip(&credentials) {
        let table = format!("id = {id:?}\ntoken = {credential:?}\nrights = {rights:?}\ntopics = {topics:?}");
        let _ = writeln!(content, "[[principals]]\n{table}");
    }
    let (_folder, config) = file(&content);
    (Instance::start_with_arguments(&["--config", &config]).await, credentials)
}

/// Asks for a token with these fields.
pub async fn ask_for_token(instance: &Instance, credential: &str, fields: &Value) -> Response {
    let request = instance.post(ISSUE).header("X-VX11-Token", credential).json(fields);
    request.send().await.expect("issuing answers")
}

/// The answer to a request for a token with these fields, which `operator` makes.
pub async fn issue_with(instance: &Instance, fields: &Value) -> Value {
    let response = ask_for_token(instance, &instance.principal, fields).await;
    assert_eq!(response.status(), StatusCode::OK, "{fields}");
    let body: Value = response.json().await.expect("issuing answers JSON");
    let token = body["sse_token"].as_str().expect("a token");
    let (uuid, _) = token.split_once('.').expect("a grant");
    remember_secret(token);
    remember_secret(uuid);
    body
}

/// A token for these topics.
pub async fn token_for(instance: &Instance, topics: &[&str]) -> String {
    let issued = issue_with(instance, &json!({ "topics": topics })).await;
    issued["sse_token"].as_str().expect("a token").to_owned()
}

/// Publishes an event to a topic, and returns its id.
pub async fn publish_to(instance: &Instance, topic: &str, data: &str) -> String {
    instance.publish_body(&json!({ "topic": topic, "data": data }).to_string()).await
}

/// Asks for a stream with these parameters.
pub fn stream(instance: &Instance, parameters: &[(&str, &str)]) -> RequestBuilder {
    instance.get(STREAM).query(parameters)
}

/// A stream as text.
pub struct TextStream {
    response: Response,
    text: String,
}

impl TextStream {
    /// Opens a stream.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        Self { response, text: String::new() }
    }

    /// Reads until `found` finds something in the frames so far, which are complete.
    pub async fn until<T>(&mut self, found: impl Fn(&[&str]) -> Option<T>) -> T {
        loop {
            let (complete, _) = self.text.rsplit_once("\n\n").unwrap_or_default();
            let frames: Vec<_> = complete.split("\n\n").collect();
            if let Some(found) = found(&frames) {
                return found;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("a chunk in time").expect("the connection holds");
            let chunk = chunk.expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).expect("ASCII"));
        }
    }

    /// The frame that contains `text`.
    pub async fn frame_with(&mut self, text: &str) -> String {
        self.until(|frames| frames.iter().find(|frame| frame.contains(text)).map(ToString::to_string)).await
    }
}

/// The value of a field in a frame.
pub fn field<'a>(frame: &'a str, name: &str) -> Option<&'a str> {
    frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
