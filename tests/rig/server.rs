//! One Redis: a real `redis-server` on a port of its own, which a test may kill, stop, restart and
//! put in a bad mood.

mod faults;
mod fill;
mod loading;
mod monitor;
mod query;
mod tls;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::endpoint::Endpoint;
use crate::patience::{eventually, until};
use crate::port::Port;
use crate::process::Process;

pub use monitor::Monitor;

/// The database that the operator uses.
const DB: i64 = 1;
/// What a server logs when it has loaded its data. Read in its own log: on the port another's
/// server may answer.
const READY: &str = "Ready to accept connections";
/// What a server logs when another process has taken the port first.
const CLASH: &str = "Address already in use";

/// The argument that never reaches a command line, where all users of the machine could read it.
const PASSWORD: &str = "--requirepass";

/// A running Redis; killed when dropped.
pub struct RedisServer {
    process: Process,
    /// What was asked for beside what all servers get.
    arguments: Vec<String>,
    endpoint: Endpoint,
    folder: TempDir,
    /// Ours, where nobody else chose it.
    _port: Option<Port>,
}

impl RedisServer {
    /// An empty Redis that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A Redis with further arguments, such as `["--requirepass", "x"]` or
    /// `["--maxmemory", "3mb"]`.
    pub async fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder for the server");
        Self::launch(arguments, folder, None).await
    }

    /// The same on a port that somebody else chose.
    pub async fn on(port: u16, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder for the server");
        let mut endpoint = Endpoint::new(port, DB);
        endpoint.password = value_of(&arguments, PASSWORD).map(str::to_owned);
        let mut process = spawn(&endpoint, &arguments, folder.path());
        let ready = ready(&mut process, &endpoint).await;
        ready.unwrap_or_else(|log| panic!("redis-server does not start on port {port}:\n{log}"));
        Self { process, arguments, endpoint, folder, _port: None }
    }

    async fn launch(arguments: Vec<String>, folder: TempDir, ca_file: Option<PathBuf>) -> Self {
        let launched = eventually("a port that nobody else takes", async || {
            let port = Port::reserve();
            let mut endpoint = Endpoint::new(port.number(), DB);
            endpoint.password = value_of(&arguments, PASSWORD).map(str::to_owned);
            endpoint.ca_file.clone_from(&ca_file);
            let mut process = spawn(&endpoint, &arguments, folder.path());
            match ready(&mut process, &endpoint).await {
                Ok(()) => Some((process, endpoint, port)),
                Err(log) if log.contains(CLASH) => None,
                Err(log) => panic!("redis-server {arguments:?} does not start:\n{log}"),
            }
        });
        let (process, endpoint, port) = launched.await;
        Self { process, arguments, endpoint, folder, _port: Some(port) }
    }

    /// Makes the rig's own questions go to another database; a cluster has only the first.
    #[must_use]
    pub fn with_db(mut self, db: i64) -> Self {
        self.endpoint.db = db;
        self
    }

    /// The port on which it listens, for as long as this value lives.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.address()
    }

    /// The address as a URL with its database, and without a password.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.endpoint.ca_file.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}/{}", self.address(), self.endpoint.db)
    }

    /// The certificate of the authority to trust, of a server [with TLS](Self::with_tls).
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        self.endpoint.ca_file.as_deref().expect("the server was started with TLS")
    }

    /// The process that runs now, or ran last.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process exists; one that is stopped does.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.process.ended()
    }

    /// Kills without warning, as `kill -9` does. Connections are closed by the kernel and new ones
    /// refused.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, having killed it if it still runs: same port, same arguments, and no data
    /// unless the arguments let it keep some. What was changed while it ran, such as a password, is
    /// forgotten.
    pub async fn restart(&mut self) {
        self.kill();
        self.endpoint.password = value_of(&self.arguments, PASSWORD).map(str::to_owned);
        self.process = spawn(&self.endpoint, &self.arguments, self.folder.path());
        let ready = ready(&mut self.process, &self.endpoint).await;
        ready.unwrap_or_else(|log| panic!("redis-server does not start again:\n{log}"));
    }

    /// Stops the process (SIGSTOP): connections stay open and new ones are even accepted, but
    /// nobody answers.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// Lets a stopped process go on (SIGCONT); it answers what was sent meanwhile.
    pub fn cont(&mut self) {
        self.process.cont();
    }

    /// What it takes to be let in, if anything.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.endpoint.password.as_deref()
    }

    /// Everything it holds, as it writes it to disk, uncompressed.
    pub async fn dump(&self) -> Vec<u8> {
        self.command(&["CONFIG", "SET", "rdbcompression", "no"]).await;
        self.command(&["SAVE"]).await;
        std::fs::read(self.folder.path().join("dump.rdb")).expect("the dump can be read")
    }

    /// What the process that runs now has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn spawn(endpoint: &Endpoint, arguments: &[String], folder: &Path) -> Process {
    let port = endpoint.port.to_string();
    let (plain, tls) = if endpoint.ca_file.is_some() { ("0", port.as_str()) } else { (port.as_str(), "0") };
    let always = ["--port", plain, "--tls-port", tls, "--bind", "127.0.0.1"];
    let nothing_on_disk = ["--save", "", "--appendonly", "no", "--loglevel", "verbose"];
    let mut all: Vec<_> = always.into_iter().chain(nothing_on_disk).map(str::to_owned).collect();
    all.extend(arguments.iter().cloned());
    if let Some(at) = all.iter().rposition(|argument| argument == PASSWORD) {
        let password = all.drain(at..at + 2).nth(1).expect("a password has a value");
        let file = folder.join("redis.conf");
        write_for_us_alone(&file, &format!("requirepass {password}\n"));
        all.insert(0, file.display().to_string());
    }
    Process::start("redis-server", &all, folder)
}

/// A file that no other user of the machine can read.
pub(crate) fn write_for_us_alone(file: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(file);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Waits until a server answers; what it logged if it ended instead.
async fn ready(process: &mut Process, endpoint: &Endpoint) -> Result<(), String> {
    let has_started = eventually("redis-server to start or end", async || {
        if process.is_running() { process.log().contains(READY).then_some(true) } else { Some(false) }
    });
    if !has_started.await {
        return Err(process.log());
    }
    // The only database that a cluster has.
    let endpoint = Endpoint { db: 0, ..endpoint.clone() };
    until("redis-server to answer", async || endpoint.ask(&["PING"]).await.is_ok()).await;
    Ok(())
}

/// The value of an argument; as for Redis, the last counts.
fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().rposition(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}
