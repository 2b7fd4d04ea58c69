//! Instances of the service: processes, and calls to them.

mod answers;
mod api;
mod figures;
mod signals;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::artefacts::remember_secret;
use crate::patience::{eventually, until};
use crate::port::Port;
use crate::process::{LogReader, Process, Surroundings};

pub use answers::{Answer, COME_BACK, Issued, Standing};
pub use api::Api;
pub use figures::InstanceFigures;

/// Default lifetime of a token.
const DEFAULT_LIFE: u64 = 60;

/// A random credential, added to the ledger of secrets.
#[must_use]
pub fn new_principal() -> String {
    let principal = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
    remember_secret(&principal);
    principal
}

/// Start command of an instance.
#[derive(Clone)]
struct Recipe {
    binary: PathBuf,
    principal: String,
    environment: Vec<(String, String)>,
    address: String,
    surroundings: Surroundings,
}

/// A running instance; dropping it kills the process. Calls go through its [`Api`].
pub struct Operator {
    process: Process,
    api: Api,
    recipe: Recipe,
    /// Id of the running process, for observers.
    pid: Arc<AtomicU32>,
    /// Reserved port, while the instance may be restarted.
    _port: Option<Port>,
}

impl Operator {
    /// Starts an instance of `binary` with `environment` only, on a free port.
    pub async fn start(binary: &Path, principal: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_in(Surroundings::default(), binary, principal, environment).await
    }

    /// Like [`Self::start`], in these surroundings.
    pub async fn start_in(
        surroundings: Surroundings,
        binary: &Path,
        principal: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let port = Port::reserve();
        let address = format!("127.0.0.1:{}", port.number());
        Self::start_on(&address, Some(port), surroundings, binary, principal, environment).await
    }

    /// Like [`Self::start`], on this address.
    pub async fn start_at(
        address: &str,
        binary: &Path,
        principal: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_on(address, None, Surroundings::default(), binary, principal, environment).await
    }

    async fn start_on(
        address: &str,
        port: Option<Port>,
        surroundings: Surroundings,
        binary: &Path,
        principal: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        remember_secret(principal);
        let owned = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let recipe = Recipe {
            binary: binary.to_owned(),
            principal: principal.to_owned(),
            environment: owned.collect(),
            address: address.to_owned(),
            surroundings,
        };
        let life = environment.iter().rev().find(|(name, _)| *name == "EPHEMERAL_TOKEN_TTL_SEC");
        let life = life.map_or(DEFAULT_LIFE, |(_, seconds)| seconds.parse().expect("a life in seconds"));
        let process = recipe.run();
        let pid = Arc::new(AtomicU32::new(process.pid()));
        let api = Api::new(&format!("http://{address}"), principal, Duration::from_secs(life));
        let mut operator = Self { process, api, recipe, pid, _port: port };
        operator.await_ready().await;
        operator
    }

    /// Its interface.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.recipe.address
    }

    /// Id of the running process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.pid()
    }

    /// Id of the running process, which follows restarts.
    #[must_use]
    pub fn pid(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.pid)
    }

    /// Its log since the last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The reader of its log, if that goes through a pipe.
    #[must_use]
    pub fn log_reader(&self) -> &LogReader {
        self.process.log_reader().expect("its log goes through a pipe")
    }

    /// Waits until it uses Redis and has reconciled.
    pub async fn await_well(&self) {
        until("an instance that uses Redis", async || self.standing().await.is_ok_and(Standing::is_well))
            .await;
    }

    /// Waits until it is ready.
    pub async fn await_ready(&mut self) {
        let process = &mut self.process;
        eventually("an instance to be ready", async || {
            assert!(process.is_running(), "the instance does not start:\n{}", process.log());
            let log = process.log();
            (log.contains("ready address=") || log.contains(r#""message":"ready""#)).then_some(())
        })
        .await;
    }

    /// Starts it again, without waiting until it is ready.
    fn run_again(&mut self) {
        self.process = self.recipe.run();
        self.pid.store(self.process.pid(), Ordering::Relaxed);
    }
}

impl Deref for Operator {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Recipe {
    fn run(&self) -> Process {
        let Surroundings { piped_log, open_files } = self.surroundings;
        let mut command = match open_files {
            None => Command::new(&self.binary),
            Some(files) => {
                // `exec`: the id of the child is that of the program.
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={files}:{files}")).arg(&self.binary);
                command
            }
        };
        command
            .env_clear()
            .env("VX11_OPERATOR_LOG_LEVEL", "info")
            .env("VX11_PRINCIPAL_TOKEN", &self.principal)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            // Last, where it is searched.
            .env("VX11_OPERATOR_LISTEN", &self.address);
        // The name identifies its log.
        let id = self.environment.iter().find(|(name, _)| name == "INSTANCE_ID").map_or("1", |(_, id)| id);
        Process::run_with(&format!("operator-{id}"), &mut command, piped_log)
    }
}
