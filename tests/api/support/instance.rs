//! One process of the real binary.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;
use vx11_kit::{
    EventStream, InstanceProcess, Launch, Surroundings, eventually, new_log, remember_secret, until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_vx11-operator");
/// Environment of every instance and command. Their tests may set the same variables.
const ENVIRONMENT: [(&str, &str); 2] =
    [("VX11_OPERATOR_LISTEN", "127.0.0.1:0"), ("VX11_OPERATOR_LOG_LEVEL", "trace")];

/// A running instance; killed when dropped.
pub struct Instance {
    process: InstanceProcess,
    /// `http://127.0.0.1:port`.
    pub base: String,
    /// Its principal credential.
    pub principal: String,
    /// Its log, at the most detailed level.
    pub log: PathBuf,
    /// A client that keeps connections open.
    pub client: Client,
    /// Whether its environment has settings of Redis.
    has_redis: bool,
}

/// A token as issued.
#[derive(Debug)]
pub struct Issued {
    pub token: String,
    pub id: String,
}

impl Instance {
    /// An instance with defaults and a separate principal.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// An instance with further environment variables.
    pub async fn with(environment: &[(&str, &str)]) -> Self {
        Self::try_with(environment).await.expect("the instance starts")
    }

    /// An instance with command-line arguments.
    pub async fn start_with_arguments(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let launch = Launch { arguments, ..Launch::new(Path::new(BINARY)) };
        Self::launch(launch, &[]).await.expect("the instance starts")
    }

    /// An instance with a configuration file and further environment variables.
    pub async fn with_config(file: &Path, environment: &[(&str, &str)]) -> Self {
        let arguments = vec!["--config".to_owned(), file.display().to_string()];
        let launch = Launch { arguments, ..Launch::new(Path::new(BINARY)) };
        Self::launch(launch, environment).await.expect("the instance starts")
    }

    /// The process of an instance that may not be ready.
    pub fn spawn(environment: &[(&str, &str)]) -> InstanceProcess {
        Launch::new(Path::new(BINARY)).with(&ENVIRONMENT).with(environment).start()
    }

    /// An instance that may open so many files.
    pub async fn with_open_files(files: u32, environment: &[(&str, &str)]) -> Self {
        let limited = Surroundings { open_files: Some(files.into()), ..Surroundings::default() };
        Self::within(limited, environment).await
    }

    /// An instance that logs into a pipe. Its reader hangs as soon as the instance is ready:
    /// nothing is read from the pipe until [`Self::read_log_again`].
    pub async fn with_hung_log_reader(environment: &[(&str, &str)]) -> Self {
        let piped = Surroundings { piped_log: true, ..Surroundings::default() };
        let instance = Self::within(piped, environment).await;
        instance.process.log_reader().hang();
        instance
    }

    async fn within(surroundings: Surroundings, environment: &[(&str, &str)]) -> Self {
        let launch = Launch { surroundings, ..Launch::new(Path::new(BINARY)) };
        Self::launch(launch, environment).await.expect("the instance starts")
    }

    /// An instance where one that is gone has been: at its address, with its principal.
    pub async fn in_place_of(address: &str, principal: &str) -> Self {
        Self::with(&[("VX11_OPERATOR_LISTEN", address), ("VX11_PRINCIPAL_TOKEN", principal)]).await
    }

    /// An instance, or what it printed before it ended.
    pub async fn try_with(environment: &[(&str, &str)]) -> Result<Self, (ExitStatus, String)> {
        Self::launch(Launch::new(Path::new(BINARY)), environment).await
    }

    async fn launch(launch: Launch, environment: &[(&str, &str)]) -> Result<Self, (ExitStatus, String)> {
        let principal = environment.iter().rev().find(|(name, _)| *name == "VX11_PRINCIPAL_TOKEN");
        let principal = principal.map_or_else(random_hex, |(_, value)| (*value).to_owned());
        remember_secret(&principal);
        let launch = launch.with(&ENVIRONMENT).with(&[("VX11_PRINCIPAL_TOKEN", &principal)]);
        let process = launch.with(environment).start();
        let address = process.ready().await?;
        Ok(Self {
            base: format!("http://{address}"),
            principal,
            log: process.log_file().to_owned(),
            client: Client::builder().no_proxy().build().expect("a client can be built"),
            has_redis: environment.iter().any(|(name, _)| name.starts_with("REDIS_")),
            process,
        })
    }

    /// The binary with a clean environment, logging everything into a separate file.
    pub fn command(environment: &[(&str, &str)]) -> (Command, PathBuf) {
        let (log, file) = new_log("instance");
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .envs(ENVIRONMENT)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be copied"))
            .stderr(file)
            .kill_on_drop(true);
        (command, log)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    /// A GET with the principal's credential.
    pub fn get_as_principal(&self, path: &str) -> RequestBuilder {
        self.get(path).header("X-VX11-Token", &self.principal)
    }

    /// A POST with the principal's credential.
    pub fn post_as_principal(&self, path: &str) -> RequestBuilder {
        self.post(path).header("X-VX11-Token", &self.principal)
    }

    pub async fn issue(&self) -> Issued {
        let response =
            self.post_as_principal("/operator/api/events/sse-token").send().await.expect("issuing answers");
        assert_eq!(response.status(), StatusCode::OK);
        let body: Value = response.json().await.expect("issuing answers JSON");
        let text = |key: &str| body[key].as_str().expect("a string").to_owned();
        let (token, id) = (text("sse_token"), text("token_id"));
        remember_secret(&token);
        Issued { token, id }
    }

    /// Publishes an event and returns its id.
    pub async fn publish(&self, data: Value) -> String {
        self.publish_body(&json!({ "data": data }).to_string()).await
    }

    /// Publishes an event with this request body and returns its id. With Redis it repeats under
    /// the same key while the answer is that the log is unavailable or the outcome unknown: on a
    /// busy machine Redis may miss the deadline of the service. A client that is so slow that the
    /// service gives up on its request (408) repeats it, too. Otherwise the first attempt must
    /// succeed.
    pub async fn publish_body(&self, body: &str) -> String {
        let key = self.has_redis.then(random_hex);
        eventually("an event to be published", async || {
            let mut request =
                self.post_as_principal("/operator/api/events").header("Content-Type", "application/json");
            if let Some(key) = &key {
                request = request.header("Idempotency-Key", key);
            }
            let response = request.body(body.to_owned()).send().await.expect("publishing answers");
            let status = response.status();
            if status == StatusCode::REQUEST_TIMEOUT {
                return None;
            }
            let answer: Value = response.json().await.expect("publishing answers JSON");
            let may_pass =
                ["log_unavailable", "outcome_unknown"].contains(&answer["code"].as_str().unwrap_or(""));
            if self.has_redis && status == StatusCode::SERVICE_UNAVAILABLE && may_pass {
                return None;
            }
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            Some(answer["id"].as_str().expect("an id").to_owned())
        })
        .await
    }

    /// Asks for a stream with `?token=`.
    pub async fn ask_for_stream(&self, token: &str) -> Response {
        self.get("/operator/api/events/stream").query(&[("token", token)]).send().await.expect("an answer")
    }

    /// Opens a stream that has said it is connected.
    pub async fn open_stream(&self, token: &str) -> EventStream {
        EventStream::connected(self.ask_for_stream(token).await).await
    }

    /// Opens a stream that resumes after `last_event_id`.
    pub async fn resume_stream(&self, token: &str, last_event_id: &str) -> EventStream {
        let request = self.get("/operator/api/events/stream").query(&[("token", token)]);
        let response = request.header("Last-Event-ID", last_event_id).send().await.expect("an answer");
        EventStream::connected(response).await
    }

    /// Waits until a token has expired. Real time has to pass; introspection says when enough has.
    pub async fn expires(&self, token: &str) {
        self.refuses(token).await;
    }

    /// Waits until the token is refused. A lookup that misses the deadline for Redis, as on a busy
    /// machine, leaves the token to its signature.
    pub async fn refuses(&self, token: &str) {
        until("the token to be refused", async || self.introspect(token).await == json!({ "active": false }))
            .await;
    }

    /// Number of calls that missed the deadline for Redis, as on a busy machine.
    pub async fn missed_deadlines(&self) -> u64 {
        self.metric("vx11_operator_store_faults_total{reason=\"timeout\"").await
    }

    pub async fn introspect(&self, token: &str) -> Value {
        let request = self.post_as_principal("/operator/api/tokens/introspect").form(&[("token", token)]);
        request.send().await.expect("introspection answers").json().await.expect("in JSON")
    }

    /// The value of a counter or gauge, 0 if there is none yet; `name` may carry labels besides
    /// `service`, in alphabetical order.
    pub async fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics").send().await.expect("metrics answer").text().await.expect("as text");
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.trim_end_matches('}');
        let line = page.lines().find(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(labels))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Waits until a metric has a value, for effects of something that gives no other sign.
    pub async fn metric_becomes(&self, name: &str, value: u64) {
        until(&format!("{name} to become {value}"), async || self.metric(name).await == value).await;
    }

    /// Waits until as many streams have ended for a reason.
    pub async fn stream_ends_are(&self, reason: &str, count: u64) {
        let name = format!("vx11_operator_sse_streams_ended_total{{reason=\"{reason}\"}}");
        self.metric_becomes(&name, count).await;
    }

    /// Waits until the log contains `text`.
    pub async fn logs(&self, text: &str) {
        until(&format!("the log to say {text:?}"), async || self.log_text().contains(text)).await;
    }

    /// The reader of its log reads again.
    pub fn read_log_again(&self) {
        self.process.log_reader().go_on();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.process.hang_up();
    }

    /// Sends SIGSTOP and waits until every thread is stopped.
    pub async fn suspend(&self) {
        self.process.stop().await;
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.process.cont();
    }

    /// Kills without warning, as `kill -9` does.
    pub async fn kill(self) {
        self.process.kill();
        self.process.ended().await;
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = self.process.ended().await;
        assert_eq!(status.signal(), None, "ended by itself");
        status
    }

    /// The log so far, in whole lines. A line may come a little later than the event it reports.
    pub fn log_text(&self) -> String {
        let mut text = self.process.log();
        text.truncate(text.rfind('\n').map_or(0, |last| last + 1));
        text
    }
}

/// A credential nobody else uses.
pub fn random_hex() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("random numbers");
    hex::encode(bytes)
}
