//! Commands of the rig.

mod cluster;
mod drill;
mod load;
mod results;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use vx11_kit::keep_secrets_to_ourselves;

pub use results::page as results_page;
use stop::Stop;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Start Redis, instances and nginx on this machine, on the ports of the documentation; Ctrl-C
    /// ends them.
    Cluster(cluster::Options),
    /// Run the failover drills and print their table.
    Drill(drill::Options),
    /// Put a load on a deployment that is there already, and judge what it answers.
    Load(load::Options),
}

/// Path of the service's binary.
#[derive(clap::Args)]
pub(super) struct Binary {
    /// Path of the service's binary.
    #[arg(long, value_name = "FILE", default_value = "target/release/vx11-operator")]
    binary: PathBuf,
}

impl Command {
    /// Runs to its end; what is to be said is printed.
    pub async fn run(self) -> ExitCode {
        keep_secrets_to_ourselves();
        let succeeded = match self {
            Self::Cluster(options) => cluster::run(options).await,
            Self::Drill(options) => unless_stopped(drill::run(options)).await,
            Self::Load(options) => load::run(options).await,
        };
        match succeeded {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(words) => {
                say(&format!("error: {words}"));
                ExitCode::FAILURE
            }
        }
    }
}

impl Binary {
    /// Absolute path, because children may have another working directory.
    fn find(self) -> Result<PathBuf, String> {
        let found = std::fs::canonicalize(&self.binary);
        found.map_err(|error| {
            format!("{}: {error}; build it with `cargo build --release`", self.binary.display())
        })
    }
}

/// Runs a command to its end or until a stop signal; its children end with it.
async fn unless_stopped(work: impl Future<Output = Result<bool, String>>) -> Result<bool, String> {
    let mut stop = Stop::listen()?;
    tokio::select! {
        done = work => done,
        () = stop.wait() => Err("stopped before the end".to_owned()),
    }
}

/// A line for whoever started this. Nobody may be there to read it any more.
pub(super) fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
