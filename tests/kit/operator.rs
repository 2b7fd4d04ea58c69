//! Instances of the service: processes, and calls to them.

mod answers;
mod api;
mod control;
mod figures;
mod launch;
mod signals;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::artefacts::remember_secret;
use crate::patience::until;
use crate::port::Port;
use crate::process::{LogReader, Surroundings};

pub use answers::{Answer, COME_BACK, Issued, Standing};
pub use api::Api;
pub use control::{ListedStream, StreamList};
pub use figures::InstanceFigures;
pub use launch::{InstanceProcess, Launch};

/// Default lifetime of a token.
const DEFAULT_LIFE: u64 = 60;

/// A random credential, added to the ledger of secrets.
#[must_use]
pub fn new_principal() -> String {
    let principal = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
    remember_secret(&principal);
    principal
}

/// A running instance on a known address, which can be started again there; dropping it kills the
/// process. Calls go through its [`Api`].
pub struct Operator {
    process: InstanceProcess,
    api: Api,
    launch: Launch,
    address: String,
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
        let value = |name: &str| environment.iter().rev().find(|(known, _)| *known == name);
        let life = value("EPHEMERAL_TOKEN_TTL_SEC");
        let life = life.map_or(DEFAULT_LIFE, |(_, seconds)| seconds.parse().expect("a life in seconds"));
        // The name identifies its log.
        let id = value("INSTANCE_ID").map_or("1", |(_, id)| *id);
        let launch = Launch { surroundings, log_name: format!("operator-{id}"), ..Launch::new(binary) };
        let launch = launch
            .with(&[("VX11_OPERATOR_LOG_LEVEL", "info"), ("VX11_PRINCIPAL_TOKEN", principal)])
            .with(environment)
            .with(&[("VX11_OPERATOR_LISTEN", address)]);
        let process = launch.start();
        let pid = Arc::new(AtomicU32::new(process.id()));
        let api = Api::new(&format!("http://{address}"), principal, Duration::from_secs(life));
        let operator = Self { process, api, launch, address: address.to_owned(), pid, _port: port };
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
        &self.address
    }

    /// Id of the running process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.id()
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
        self.process.log_reader()
    }

    /// Waits until it uses Redis and has reconciled.
    pub async fn await_well(&self) {
        until("an instance that uses Redis", async || self.standing().await.is_ok_and(Standing::is_well))
            .await;
    }

    async fn await_ready(&self) {
        if let Err((status, log)) = self.process.ready().await {
            panic!("the instance does not start, {status}:\n{log}");
        }
    }

    /// Starts it again, without waiting until it is ready.
    fn run_again(&mut self) {
        self.process = self.launch.start();
        self.pid.store(self.process.id(), Ordering::Relaxed);
    }
}

impl Deref for Operator {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}
