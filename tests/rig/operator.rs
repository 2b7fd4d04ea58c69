//! Instances of the operator itself, as a client and as whoever runs them sees them.

mod answers;
mod signals;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};

use crate::artefacts::remember_secret;
use crate::patience::{eventually, until};
use crate::process::Process;

pub use answers::{Issued, Standing};

/// Longer than any request may take; what takes longer counts as not answered.
const UNANSWERED: Duration = Duration::from_secs(5);
/// Shorter than the server keeps an idle connection, so that no request is sent on one that is being closed.
const IDLE: Duration = Duration::from_secs(2);
/// What an instance gives where nothing is configured.
const DEFAULT_LIFE: u64 = 60;

/// A credential that nobody else uses, noted in the ledger of secrets.
#[must_use]
pub fn new_principal() -> String {
    let principal = format!("{:032x}", fastrand::u128(..));
    remember_secret(&principal);
    principal
}

/// A running instance; killed when dropped.
pub struct Operator {
    process: Process,
    base: String,
    principal: String,
    life: Duration,
    client: Client,
}

impl Operator {
    /// An instance of the binary at `binary` with a clean environment but for `environment`, on a port of its own.
    pub async fn start(binary: &Path, principal: &str, environment: &[(&str, &str)]) -> Self {
        remember_secret(principal);
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("VX11_OPERATOR_LISTEN", "127.0.0.1:0")
            .env("VX11_OPERATOR_LOG_LEVEL", "info")
            .env("VX11_PRINCIPAL_TOKEN", principal)
            .envs(environment.iter().copied());
        let mut process = Process::run("operator", &mut command);
        let address = eventually("an instance to be ready", async || {
            assert!(process.is_running(), "the instance does not start:\n{}", process.log());
            address_in(&process.log())
        })
        .await;
        let life = environment.iter().rev().find(|(name, _)| *name == "EPHEMERAL_TOKEN_TTL_SEC");
        let life = life.map_or(DEFAULT_LIFE, |(_, seconds)| seconds.parse().expect("a life in seconds"));
        let client = Client::builder().no_proxy().timeout(UNANSWERED).pool_idle_timeout(IDLE).build();
        Self {
            process,
            base: format!("http://{address}"),
            principal: principal.to_owned(),
            life: Duration::from_secs(life),
            client: client.expect("a client can be built"),
        }
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// How long its tokens live.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How long its threads, added up, were ready to run and were given no processor.
    #[must_use]
    pub fn starved(&self) -> Duration {
        self.process.starved()
    }

    /// Waits until it uses Redis and holds nothing back from it.
    pub async fn await_well(&self) {
        until("an instance that uses Redis", async || self.standing().await.is_ok_and(Standing::is_well))
            .await;
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let request = self.client.get(format!("{}{path}", self.base));
        request.header("X-VX11-Token", &self.principal)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.base));
        request.header("X-VX11-Token", &self.principal)
    }

    /// A request without the principal, for what a token opens, and without an end.
    fn get_as_client(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base)).timeout(Duration::from_hours(1))
    }
}

fn address_in(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("ready address="))?;
    let rest = &line[line.find("127.0.0.1:")?..];
    Some(rest.split(' ').next()?.to_owned())
}
