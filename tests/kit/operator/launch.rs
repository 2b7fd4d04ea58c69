//! The process of an instance: how it is started, awaited and ended. No other code of the tests
//! knows when an instance is ready.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::patience::eventually;
use crate::process::{LogReader, Process, Surroundings};

/// The program of an instance, and everything that it is started with.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All of its environment. Of two values of a variable the last counts.
    pub environment: Vec<(String, String)>,
    /// Its surroundings.
    pub surroundings: Surroundings,
    /// Name of its log.
    pub log_name: String,
}

impl Launch {
    /// The program without arguments, in an empty environment.
    #[must_use]
    pub fn new(binary: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            surroundings: Surroundings::default(),
            log_name: "instance".to_owned(),
        }
    }

    /// Sets variables of the environment.
    #[must_use]
    pub fn with(mut self, environment: &[(&str, &str)]) -> Self {
        let owned = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.environment.extend(owned);
        self
    }

    /// Starts the process, and does not wait until it is ready.
    #[must_use]
    pub fn start(&self) -> InstanceProcess {
        let Surroundings { piped_log, open_files } = self.surroundings;
        let mut command = match open_files {
            None => Command::new(&self.binary),
            Some(files) => {
                // It executes the program in its place: the id of the child is that of the program.
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={files}:{files}")).arg(&self.binary);
                command
            }
        };
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).env_clear().envs(environment);
        InstanceProcess(Process::run_with(&self.log_name, &mut command, piped_log))
    }
}

/// A process of the service; killed when dropped.
pub struct InstanceProcess(Process);

impl InstanceProcess {
    /// Waits until it is ready, and returns the address on which it listens.
    ///
    /// # Errors
    /// It has ended instead: its status and its log.
    pub async fn ready(&self) -> Result<String, (ExitStatus, String)> {
        eventually("an instance to be ready, or to end", async || {
            if let Some(address) = address_in(&self.0.log()) {
                return Some(Ok(address));
            }
            self.0.ended().map(|status| Err((status, self.0.log())))
        })
        .await
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.pid()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// File of its log.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        self.0.log_file()
    }

    /// The reader of its log, if that goes through a pipe.
    #[must_use]
    pub fn log_reader(&self) -> &LogReader {
        self.0.log_reader().expect("its log goes through a pipe")
    }

    /// Kills without warning, as `kill -9` does.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Suspends it (SIGSTOP): connections stay open, new ones are accepted, and nothing is
    /// answered.
    pub async fn stop(&self) {
        self.0.stop().await;
    }

    /// Continues it after [`stop`](Self::stop) (SIGCONT).
    pub fn cont(&self) {
        self.0.cont();
    }

    /// Has it read principals and signing keys again (SIGHUP).
    pub fn hang_up(&self) {
        self.0.hang_up();
    }

    /// Asks it to end (SIGTERM): it drains first.
    pub fn terminate(&self) {
        self.0.terminate();
    }

    /// Waits for its end.
    pub async fn ended(&self) -> ExitStatus {
        eventually("an instance to end", async || self.0.ended()).await
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.0.ended()
    }
}

/// Address of the line that says "ready", in either format, once the line is complete.
fn address_in(log: &str) -> Option<String> {
    let is_ready = |line: &&str| line.contains("ready address=") || line.contains(r#""message":"ready""#);
    let line = log.split_inclusive('\n').filter(|line| line.ends_with('\n')).find(is_ready)?;
    let (_, rest) = line.split_once("address=").or_else(|| line.split_once(r#""address":""#))?;
    rest.split([' ', '"', '\n']).next().map(str::to_owned)
}
