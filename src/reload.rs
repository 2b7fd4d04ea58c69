//! Reload: on SIGHUP an instance reads principals, issuers and signing keys again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use vx11_operator::app::Reloader;
use vx11_operator::config::Config;
use vx11_operator::lifecycle::ReloadSignal;

/// Deadline for reading the configuration. A file system that hangs, or a named pipe without a
/// writer, must not swallow later signals.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Bound of the reads that hang: each keeps a thread.
const MOST_HUNG: usize = 8;

/// Waits for the signal, for as long as the instance runs, and also while it drains.
pub(crate) struct Reload {
    signal: ReloadSignal,
    file: Option<PathBuf>,
    reloader: Reloader,
    /// Configuration of the start.
    started: Arc<Config>,
    /// Configuration whose principals and signing keys are in force.
    current: Arc<Config>,
    /// Threads of reads that missed the deadline. What they read is not used: a later read may have
    /// ended before.
    hung: Vec<JoinHandle<()>>,
}

impl Reload {
    /// Prepares an instance that was started with `config`, from `file` and the environment.
    pub(crate) fn new(
        signal: ReloadSignal,
        file: Option<PathBuf>,
        config: Arc<Config>,
        reloader: Reloader,
    ) -> Self {
        Self { signal, file, reloader, started: Arc::clone(&config), current: config, hung: Vec::new() }
    }

    /// Carries out each reload. A configuration that cannot be used changes nothing.
    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            self.signal.next().await;
            match self.read().await {
                Ok(config) => self.replace(config),
                Err(problem) => {
                    tracing::error!(
                        "principals and signing keys stay as they are, because the configuration cannot be used: {problem}"
                    );
                }
            }
        }
    }

    /// Reads the configuration on a thread that nobody waits for at the end of the process: a file
    /// system that hangs does not hold up the drain.
    async fn read(&mut self) -> Result<Config, String> {
        self.hung.retain(|thread| !thread.is_finished());
        if self.hung.len() >= MOST_HUNG {
            return Err(format!(
                "{MOST_HUNG} earlier attempts still wait for a file; when its file system answers, send SIGHUP again"
            ));
        }
        let (current, file) = (Arc::clone(&self.current), self.file.clone());
        let (read, reading) = oneshot::channel();
        let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            // Without a receiver the deadline has passed, or the process is about to end.
            let _ = read.send(current.load_again(file.as_deref(), &crate::environment()));
        });
        let thread = thread.map_err(|error| format!("no thread can be started: {error}"))?;
        match timeout(READ_DEADLINE, reading).await {
            Ok(Ok(Ok(config))) => Ok(config),
            Ok(Ok(Err(errors))) => Err(errors.in_one_line()),
            Ok(Err(_)) => Err("reading it has failed; the log shows the panic".to_owned()),
            Err(_elapsed) => {
                self.hung.push(thread);
                Err(format!(
                    "reading it has not ended within {} s; look for a file system that hangs, or a named pipe, and send SIGHUP again",
                    READ_DEADLINE.as_secs()
                ))
            }
        }
    }

    fn replace(&mut self, config: Config) {
        self.reloader.replace(&config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for key in config.keys_that_need_a_restart(&self.started) {
            tracing::warn!("{key} changed; it takes effect after a restart");
        }
        let ids: HashSet<_> = config.principals.iter().map(|(principal, _)| principal.id()).collect();
        tracing::info!(
            principals = ids.len(),
            credentials = config.principals.len(),
            signing_keys = config.signing_keys.iter().count(),
            issuers = config.issuers.len(),
            "principals and signing keys were read again"
        );
        self.current = Arc::new(config);
    }
}
