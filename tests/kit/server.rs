//! A real `redis-server` on a free port, which a test may kill, suspend, restart and let fail.

mod faults;
mod fill;
mod loading;
mod monitor;
mod query;
mod tls;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tempfile::TempDir;

use crate::endpoint::Endpoint;
use crate::patience::{eventually, until};
use crate::port::Port;
use crate::process::Process;

pub use monitor::Monitor;

/// Database of the service.
const DB: i64 = 1;
/// Log line of a server that has loaded its data. Read in its log, because another server may
/// answer on the port.
const READY: &str = "Ready to accept connections";
/// Log line of a server whose port is in use.
const CLASH: &str = "Address already in use";

/// Argument that is passed by file, because all users of the machine can read command lines.
const PASSWORD: &str = "--requirepass";

/// A running Redis; dropping it kills the process.
pub struct RedisServer {
    process: Process,
    /// Further arguments.
    arguments: Vec<String>,
    endpoint: Endpoint,
    folder: TempDir,
    /// Reserved port, if it was chosen here.
    _port: Option<Port>,
}

impl RedisServer {
    /// Starts an empty Redis without persistence.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a Redis with further arguments, such as `["--requirepass", "x"]` or
    /// `["--maxmemory", "3mb"]`.
    pub async fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder for the server");
        Self::launch(arguments, folder, None).await
    }

    /// Like [`Self::with`], on this port.
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

    /// Selects another database for the kit's commands; a cluster has only the first.
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

    /// Certificate of the authority of a server [with TLS](Self::with_tls).
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        self.endpoint.ca_file.as_deref().expect("the server was started with TLS")
    }

    /// The running or last process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process exists; a suspended one does.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Kills (SIGKILL). The kernel closes connections and refuses new ones.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Restarts it, with a kill if it still runs: same port and arguments, and no data unless the
    /// arguments keep some. Changes at run time, such as a password, are lost.
    pub async fn restart(&mut self) {
        self.kill();
        self.endpoint.password = value_of(&self.arguments, PASSWORD).map(str::to_owned);
        self.process = spawn(&self.endpoint, &self.arguments, self.folder.path());
        let ready = ready(&mut self.process, &self.endpoint).await;
        ready.unwrap_or_else(|log| panic!("redis-server does not start again:\n{log}"));
    }

    /// Suspends the process (SIGSTOP): connections stay open, new ones are accepted, and nothing is
    /// answered.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// Continues the process (SIGCONT), which answers what was sent meanwhile.
    pub fn cont(&mut self) {
        self.process.cont();
    }

    /// The password, if there is one.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.endpoint.password.as_deref()
    }

    /// A dump of all data, uncompressed.
    pub async fn dump(&self) -> Vec<u8> {
        self.command(&["CONFIG", "SET", "rdbcompression", "no"]).await;
        self.command(&["SAVE"]).await;
        std::fs::read(self.folder.path().join("dump.rdb")).expect("the dump can be read")
    }

    /// Log of the running process.
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

/// A file that only its owner can read.
pub fn write_for_us_alone(file: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(file);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Waits until a server answers. Returns its log if it ended.
async fn ready(process: &mut Process, endpoint: &Endpoint) -> Result<(), String> {
    let has_started = eventually("redis-server to start or end", async || {
        if process.is_running() { process.log().contains(READY).then_some(true) } else { Some(false) }
    });
    if !has_started.await {
        return Err(process.log());
    }
    // The only database of a cluster.
    let endpoint = Endpoint { db: 0, ..endpoint.clone() };
    until("redis-server to answer", async || endpoint.ask(&["PING"]).await.is_ok()).await;
    Ok(())
}

/// Value of an argument; the last one counts, as for Redis.
fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().rposition(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}
