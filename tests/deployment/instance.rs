//! The binary under exactly the environment that a deployment gives it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vx11_kit::{InstanceProcess, Launch, until};

pub(crate) type Environment = Vec<(String, String)>;

/// Puts a value in place of what a deployment sets, which must be there already.
pub(crate) fn replace(environment: &mut Environment, name: &str, value: impl Into<String>) {
    let entry = environment.iter_mut().find(|(known, _)| known == name);
    entry.unwrap_or_else(|| panic!("the deployment does not set {name}")).1 = value.into();
}

const BINARY: &str = env!("CARGO_BIN_EXE_vx11-operator");

/// Result of `check-config` for an environment: exit code, and the effective configuration or the
/// error.
pub(crate) fn check_config(environment: &Environment) -> (i32, String) {
    let mut command = Command::new(BINARY);
    command.env_clear().envs(environment.iter().cloned());
    let output = command.arg("check-config").output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A running instance; killed when dropped.
pub(crate) struct Instance {
    _process: InstanceProcess,
    base: String,
}

impl Instance {
    /// Starts it and waits until it is ready. It has to log JSON, as both deployments make it.
    pub(crate) async fn start(environment: &Environment) -> Self {
        let process = Launch { environment: environment.clone(), ..Launch::new(Path::new(BINARY)) }.start();
        let address = process.ready().await;
        let address = address.unwrap_or_else(|(_, log)| panic!("the instance does not start:\n{log}"));
        let (log, base) = (process.log(), format!("http://{address}"));
        let whole_lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for line in whole_lines {
            serde_json::from_str::<Value>(line).expect("a log line is JSON");
        }
        Self { _process: process, base }
    }

    /// The answer of the health endpoint, once it names this backend.
    pub(crate) async fn health_with_backend(&self, backend: &str) -> Value {
        let mut answer = Value::Null;
        until("an instance with the right backend", async || {
            answer = self.get("/operator/api/health").await.json().await.unwrap();
            answer["backend"] == backend
        })
        .await;
        answer
    }

    /// A GET without credentials.
    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        reqwest::get(format!("{}{path}", self.base)).await.unwrap()
    }

    /// Issues a token; the backend that recorded it.
    pub(crate) async fn issue(&self, principal: &str) -> Value {
        let request = reqwest::Client::new().post(format!("{}/operator/api/events/sse-token", self.base));
        let answer = request.header("X-VX11-Token", principal).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        vx11_kit::remember_secret(answer["sse_token"].as_str().unwrap());
        answer
    }
}
