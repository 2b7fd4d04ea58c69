//! Programs that are not ours: the OAuth client of Authlib, and an identity provider at which users
//! log in. The provider takes a new key with each start.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use vx11_kit::{Port, new_principal, remember_secret, until};

use crate::support::{Instance, ask_for_token, planted, problem, publish_to, python_environment};

const REQUIREMENTS: &str = include_str!("python/oauth_requirements.txt");
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/python/oauth_client.py");
/// For a start of Python on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

async fn python() -> std::path::PathBuf {
    python_environment("oauth-programs", REQUIREMENTS).await.join("python")
}

/// An identity provider on a port of the test.
struct Provider {
    port: Port,
    process: Option<Child>,
}

impl Provider {
    async fn start() -> Self {
        let mut provider = Self { port: Port::reserve(), process: None };
        provider.start_again().await;
        provider
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Starts it with a new key, and waits until it serves.
    async fn start_again(&mut self) {
        let port = self.port.number().to_string();
        let mut command = Command::new(python().await);
        command.args(["-m", "oidc_provider_mock", "--port", &port]).kill_on_drop(true);
        self.process = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let keys = format!("{}/jwks", self.url());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        until("the provider to serve", async || client.get(&keys).send().await.is_ok()).await;
    }

    async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }

    /// A service that trusts this provider, at an address that its metadata name.
    async fn service(&self) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let (port, provider, key) = (Port::reserve(), self.url(), new_principal());
        let config = folder.path().join("config.toml");
        let text = format!(
            "[[issuers]]\nid = 'provider'\nissuer = '{provider}'\naudience = 'events'\n\
             jwks_url = '{provider}/jwks'\ntopics = ['users/{{sub}}/*']\n\
             [token]\nsigning_keys = ['{key}']\n[http]\nlisten = '127.0.0.1:{0}'\npublic_url = 'http://127.0.0.1:{0}'\n",
            port.number()
        );
        std::fs::write(&config, text).unwrap();
        // The file has the address.
        let environment = [("VX11_OPERATOR_LISTEN", "")];
        let instance = Instance::with_config(&config, &environment).await;
        Service { instance, _port: port, _folder: folder }
    }
}

struct Service {
    instance: Instance,
    _port: Port,
    _folder: TempDir,
}

/// The running client.
struct Client {
    /// Ends with the test.
    _process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Client {
    async fn start() -> Self {
        let mut process = Command::new(python().await)
            .arg(Path::new(CLIENT))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, commands, answers }
    }

    async fn ask(&mut self, command: &Value) -> Value {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let answer = answer.expect("an answer in time").unwrap().expect("the program runs");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        if let Some(token) = answer["returned"]["access_token"].as_str() {
            remember_secret(token);
        }
        answer
    }

    /// The JWT of a user who has just logged in.
    async fn login(&mut self, provider: &Provider, audience: &str, user: &str) -> String {
        let command =
            json!({ "function": "login", "provider": provider.url(), "audience": audience, "user": user });
        let jwt = self.ask(&command).await["returned"].as_str().expect("a JWT").to_owned();
        remember_secret(&jwt);
        jwt
    }
}

#[tokio::test]
async fn a_user_who_has_logged_in_gets_a_stream_by_a_stock_client() {
    let provider = Provider::start().await;
    let service = provider.service().await;
    let (instance, mut client) = (&service.instance, Client::start().await);
    let jwt = client.login(&provider, "events", "7").await;
    let exchanged =
        client.ask(&json!({ "function": "exchange", "service": instance.base, "jwt": jwt })).await;
    let token = &exchanged["returned"];
    assert_eq!((&token["token_type"], &token["scope"]), (&json!("Bearer"), &json!("read:users/7/*")));
    let mut stream = instance.open_stream(token["access_token"].as_str().unwrap()).await;
    publish_to(instance, "users/8/x", "not mine").await;
    publish_to(instance, "users/7/x", "mine").await;
    assert_eq!(stream.next_published().await.json(), "mine");

    let beyond =
        json!({ "function": "exchange", "service": instance.base, "jwt": jwt, "scope": "read:users/8/x" });
    assert_eq!(client.ask(&beyond).await["error"], "invalid_scope");
    let other = client.login(&provider, "another-service", "7").await;
    let other = json!({ "function": "exchange", "service": instance.base, "jwt": other });
    let refused = client.ask(&other).await;
    assert_eq!(
        (&refused["error"], &refused["description"]),
        (&json!("invalid_request"), &json!("the JWT is for another audience"))
    );
}

#[tokio::test]
async fn a_stock_client_gets_introspects_and_revokes_tokens() {
    let provider = Provider::start().await;
    let service = provider.service().await;
    let (instance, mut client) = (&service.instance, Client::start().await);
    let as_client = |function: &str, more: Value| {
        let mut command = json!({ "function": function, "service": instance.base, "id": "operator", "secret": instance.principal });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command
    };
    for method in ["client_secret_basic", "client_secret_post"] {
        let wish = as_client("client_credentials", json!({ "scope": "read:news", "method": method }));
        let answer = client.ask(&wish).await;
        let token = answer["returned"]["access_token"].as_str().expect("a token");
        let introspected = client.ask(&as_client("introspect", json!({ "token": token }))).await;
        let introspected = &introspected["returned"];
        assert_eq!((&introspected["active"], &introspected["iss"]), (&json!(true), &json!(instance.base)));
        assert_eq!(client.ask(&as_client("revoke", json!({ "token": token }))).await["returned"], 200);
        let after = client.ask(&as_client("introspect", json!({ "token": token }))).await;
        assert_eq!(after["returned"], json!({ "active": false }));
        let wrong = as_client(
            "client_credentials",
            json!({ "scope": "read:news", "method": method, "secret": planted() }),
        );
        assert_eq!(client.ask(&wrong).await["error"], "invalid_client");
    }
}

#[tokio::test]
async fn a_new_key_of_the_provider_counts_and_known_keys_outlive_it() {
    let mut provider = Provider::start().await;
    let service = provider.service().await;
    let (instance, mut client) = (&service.instance, Client::start().await);
    let before = client.login(&provider, "events", "7").await;
    let issue = async |jwt: &str| {
        let answer = ask_for_token(instance, jwt, &json!({})).await;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        if let Some(token) = body["sse_token"].as_str() {
            remember_secret(token);
        }
        status
    };
    assert_eq!(issue(&before).await, StatusCode::OK);
    provider.stop().await;
    assert_eq!(issue(&before).await, StatusCode::OK, "the provider is away");
    provider.start_again().await;
    let after = client.login(&provider, "events", "7").await;
    until("the new key to count", async || issue(&after).await == StatusCode::OK).await;
    assert_eq!(issue(&before).await, StatusCode::UNAUTHORIZED, "the old key is gone");
}

#[tokio::test]
async fn an_instance_starts_without_the_provider_and_puts_its_users_off() {
    let mut provider = Provider::start().await;
    let mut client = Client::start().await;
    let jwt = client.login(&provider, "events", "7").await;
    provider.stop().await;
    let service = provider.service().await;
    let instance = &service.instance;
    let refused = ask_for_token(instance, &jwt, &json!({})).await;
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable").await;
    instance.logs("the keys of the issuer cannot be fetched").await;
    assert_eq!(instance.get("/health/ready").send().await.unwrap().status(), StatusCode::OK);
    provider.start_again().await;
    let jwt = client.login(&provider, "events", "7").await;
    until("the keys to be fetched", async || {
        let answer = ask_for_token(instance, &jwt, &json!({})).await;
        let body: Value = answer.json().await.unwrap();
        body["sse_token"].as_str().map(remember_secret).is_some()
    })
    .await;
    instance.logs("the keys of the issuer can be fetched again").await;
}
