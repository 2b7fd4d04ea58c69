//! The binary under exactly the environment that a deployment gives it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use vx11_kit::until;

pub(crate) type Environment = Vec<(String, String)>;

/// Puts a value in place of what a deployment sets, which must be there already.
pub(crate) fn replace(environment: &mut Environment, name: &str, value: impl Into<String>) {
    let entry = environment.iter_mut().find(|(known, _)| known == name);
    entry.unwrap_or_else(|| panic!("the deployment does not set {name}")).1 = value.into();
}

fn command(environment: &Environment) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vx11-operator"));
    command.env_clear().envs(environment.iter().cloned());
    command
}

/// Result of `check-config` for an environment: exit code, and the effective configuration or the
/// error.
pub(crate) fn check_config(environment: &Environment) -> (i32, String) {
    let output = command(environment).arg("check-config").output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A running instance; killed when dropped.
pub(crate) struct Instance {
    child: Child,
    base: String,
}

impl Instance {
    /// Starts it and waits until it says where it listens. It has to log JSON, as both deployments
    /// make it.
    pub(crate) fn start(environment: &Environment) -> Self {
        let mut child = command(environment).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut printed = String::new();
        let address = loop {
            let before = printed.len();
            assert!(log.read_line(&mut printed).unwrap() > 0, "the instance does not start:\n{printed}");
            let line: Value = serde_json::from_str(&printed[before..]).expect("a log line is JSON");
            if let Some(address) = find(&line, "address") {
                break address;
            }
        };
        // Its log must not fill the pipe.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, base: format!("http://{address}") }
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

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text of this name, at whatever depth the log format puts it.
fn find(value: &Value, name: &str) -> Option<String> {
    let object = value.as_object()?;
    let here = object.get(name).and_then(Value::as_str).map(str::to_owned);
    here.or_else(|| object.values().find_map(|inner| find(inner, name)))
}
