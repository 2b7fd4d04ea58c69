//! A real Prometheus that looks at instances by the configuration that ships: a copy of the
//! repository's `deploy/prometheus`, in which only the targets are others and all times are [a
//! thirtieth](hurried).

mod hurry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::patience::until;
use crate::port::Port;
use crate::process::Process;

pub use hurry::hurried;

/// A running Prometheus; killed when dropped.
pub struct Prometheus {
    process: Process,
    base: String,
    client: Client,
    _port: Port,
    _folder: TempDir,
}

/// One series at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its labels; its name, where it has one, is `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A rule as Prometheus has read it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Metric that it records, or name of the alert.
    pub name: String,
    /// Whether it is an alert.
    pub is_alert: bool,
    /// Its expression, in Prometheus's own spelling.
    pub expression: String,
    /// Labels that it adds.
    pub labels: BTreeMap<String, String>,
    /// Annotations for people.
    pub annotations: BTreeMap<String, String>,
    /// Error of its last evaluation.
    pub error: Option<String>,
}

impl Prometheus {
    /// Looks at `instances`, given as `127.0.0.1:8011`.
    pub async fn start(instances: &[String]) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder can be created"), Port::reserve());
        lay_out(&shipped(), folder.path());
        let targets = serde_json::json!([{ "targets": instances }]).to_string();
        // JSON is YAML, too.
        write(&folder.path().join("targets/cluster.yml"), &targets);
        let address = format!("127.0.0.1:{}", port.number());
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::run("prometheus", &mut command);
        let client = Client::builder().no_proxy().build().expect("a client can be built");
        let base = format!("http://{address}");
        let mut prometheus = Self { process, base, client, _port: port, _folder: folder };
        prometheus.await_ready().await;
        prometheus
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Present value of an expression; a number counts as a series without labels.
    ///
    /// # Errors
    /// What Prometheus has against the expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let answer = self.ask("/api/v1/query", &[("query", expression)]).await?;
        let result = &answer["result"];
        let value = |point: &Value| point[1].as_str().and_then(|value| value.parse().ok());
        if answer["resultType"] == "scalar" {
            let value = value(result).ok_or("a scalar without a value")?;
            return Ok(vec![Sample { labels: BTreeMap::new(), value }]);
        }
        let series = result.as_array().ok_or("no result")?.iter().map(|series| {
            let value = value(&series["value"]).ok_or("a series without a value")?;
            Ok::<_, String>(Sample { labels: texts(&series["metric"]), value })
        });
        series.collect()
    }

    /// The rules it goes by.
    pub async fn rules(&self) -> Vec<Rule> {
        let answer = self.ask("/api/v1/rules", &[]).await.expect("Prometheus tells its rules");
        let groups = answer["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rules = rules.map(|rule| Rule {
            name: text(&rule["name"]),
            is_alert: rule["type"] == "alerting",
            expression: text(&rule["query"]),
            labels: texts(&rule["labels"]),
            annotations: texts(&rule["annotations"]),
            error: rule["lastError"].as_str().map(str::to_owned),
        });
        rules.collect()
    }

    /// The data of an answer.
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let request = self.client.get(format!("{}{path}", self.base)).query(parameters);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let mut body: Value = answer.json().await.map_err(|error| error.to_string())?;
        if body["status"] == "success" { Ok(body["data"].take()) } else { Err(body["error"].to_string()) }
    }

    async fn await_ready(&mut self) {
        let (process, client) = (&mut self.process, &self.client);
        let ready = format!("{}/-/ready", self.base);
        until("Prometheus to be ready", async || {
            assert!(process.is_running(), "Prometheus does not start:\n{}", process.log());
            client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}

/// The members of an object that are texts.
fn texts(object: &Value) -> BTreeMap<String, String> {
    let members = object.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// The repository's `deploy/prometheus`.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus")
}

/// Copies what Prometheus reads, hurried.
fn lay_out(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be created");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            lay_out(&from, &to);
        } else if from.extension().is_some_and(|extension| extension == "yml") {
            let text = std::fs::read_to_string(&from).expect("a file can be read");
            write(&to, &hurried(&text));
        }
    }
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("a file can be written");
}
