//! A real nginx in front of instances, with the configuration that ships: a copy of the
//! repository's `nginx/`, in which only `site/` is written anew, as somebody who deploys it would.
//!
//! It runs in a process group of its own, so that its workers can be killed with their master, and
//! logs into the artefacts, where the check for secrets looks.

mod site;
mod stock;

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::artefacts::new_log;
use crate::patience::until;
use crate::port::{Port, is_free};
use crate::process::Process;

pub use site::{ClientLimits, Site, shipped};
pub use stock::StockNginx;

/// A running nginx; it and its workers are killed when it is dropped.
pub struct Nginx {
    process: Process,
    folder: PathBuf,
    site: Site,
    access_log: PathBuf,
    balancer: u16,
    gateway: u16,
    /// Those of its own, which nobody else is given while it is dead.
    _ports: Vec<Port>,
    _folder: Option<TempDir>,
}

impl Nginx {
    /// In front of `instances`, given as `127.0.0.1:8011`, on ports of its own and without limits
    /// that a load of one address would feel.
    pub async fn start(instances: &[String]) -> Self {
        Self::with(Site { instances: instances.to_vec(), ..Site::default() }).await
    }

    /// As `site` says.
    pub async fn with(site: Site) -> Self {
        let mut ports = Vec::new();
        let mut port = |given: Option<u16>| {
            given.unwrap_or_else(|| {
                ports.push(Port::reserve());
                ports.last().map_or(0, Port::number)
            })
        };
        let (balancer, gateway) = (port(site.balancer_port), port(site.gateway_port));
        let temporary = site.folder.is_none().then(|| tempfile::tempdir().expect("a folder can be created"));
        let folder = match (&site.folder, &temporary) {
            (Some(folder), _) => folder.clone(),
            (None, temporary) => temporary.as_ref().map_or_else(PathBuf::new, |made| made.path().to_owned()),
        };
        let (access_log, _) = new_log("nginx-access");
        site.write(&folder, balancer, gateway, &access_log);
        let process = run(&folder);
        let mut nginx =
            Self { process, folder, site, access_log, balancer, gateway, _ports: ports, _folder: temporary };
        nginx.await_listening().await;
        nginx
    }

    /// The load balancer, `http://127.0.0.1:port`.
    #[must_use]
    pub fn balancer(&self) -> String {
        format!("http://127.0.0.1:{}", self.balancer)
    }

    /// The gateway, `http://127.0.0.1:port`.
    #[must_use]
    pub fn gateway(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway)
    }

    /// Where its configuration is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it said about itself since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What it noted of requests that have ended, one line of JSON each.
    #[must_use]
    pub fn access_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.access_log).expect("the log can be read")).into_owned()
    }

    /// From now on in front of these instances. Returns when no new connection reaches the workers
    /// from before.
    pub async fn reload(&mut self, instances: &[String]) {
        instances.clone_into(&mut self.site.instances);
        self.site.write(&self.folder, self.balancer, self.gateway, &self.access_log);
        let before = self.log();
        let old_workers = before.matches("start worker process ").count();
        self.process.hang_up();
        let process = &mut self.process;
        until("nginx to use its new configuration", async || {
            assert!(process.is_running(), "nginx ended:\n{}", process.log());
            let log = process.log();
            assert!(!log[before.len()..].contains("[emerg]"), "nginx cannot be reloaded:\n{log}");
            log.matches("gracefully shutting down").count() >= old_workers
        })
        .await;
    }

    /// Kills master and workers without warning, as `kill -9` does. Returns when nothing listens
    /// any more.
    pub async fn kill(&mut self) {
        self.process.kill_group();
        let ports = [self.balancer, self.gateway];
        until("nginx to be gone", async || ports.iter().all(|port| is_free(*port))).await;
    }

    /// The numbers of its processes: the master's first, then the workers'.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.process.family()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.process.ended()
    }

    /// Starts it again after [`Nginx::kill`], with the same ports and configuration.
    pub async fn restart(&mut self) {
        assert!(!self.process.is_running(), "nginx still runs");
        // Workers whose master was killed by somebody else still listen.
        self.process.kill_group();
        self.process = run(&self.folder);
        self.await_listening().await;
    }

    async fn await_listening(&mut self) {
        let (process, ports) = (&mut self.process, [self.balancer, self.gateway]);
        until("nginx to listen", async || {
            assert!(process.is_running(), "nginx does not start:\n{}", process.log());
            let answers = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
            // In its own words as well: those that answer may be somebody else.
            process.log().contains("start worker process ") && ports.iter().all(answers)
        })
        .await;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.kill_group();
    }
}

fn run(folder: &Path) -> Process {
    let mut command = command(folder);
    Process::run("nginx", command.args(["-g", "daemon off;"]).process_group(0))
}

/// nginx with the configuration in `folder`. What it says before it has read that goes to stderr,
/// too.
fn command(folder: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(folder).args(["-c", "nginx.conf"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// What `nginx -t` says of the configuration as it ships, with these files in place of, or beside,
/// its own.
///
/// # Errors
/// What nginx says against the configuration.
pub fn test_configuration(files: &[(&str, String)]) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder can be created");
    site::copy(&shipped(), folder.path());
    for (file, text) in files {
        std::fs::write(folder.path().join(file), text).expect("a file can be written");
    }
    let output = command(folder.path()).arg("-t").output().expect("nginx can be run: `make packages`");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}
