//! A real nginx in front of instances, with a copy of the shipped configuration. Only `site/` is
//! written, as in a deployment.
//!
//! It runs in a separate process group, so that its workers can be killed with their master. It
//! logs into the artefacts, which are searched for secrets.

mod site;
mod stock;

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use crate::artefacts::new_log;
use crate::patience::until;
use crate::port::{Port, is_free};
use crate::process::Process;

pub use site::{ClientLimits, Site, shipped};
pub use stock::StockNginx;

/// A running nginx; dropping it kills master and workers.
pub struct Nginx {
    process: Process,
    folder: PathBuf,
    site: Site,
    access_log: PathBuf,
    balancer: u16,
    gateway: u16,
    /// Its ports, reserved while it is dead.
    _ports: Vec<Port>,
    _folder: Option<TempDir>,
}

impl Nginx {
    /// Starts nginx in front of `instances` (`127.0.0.1:8011`), on free ports and with limits above
    /// any load of one address.
    pub async fn start(instances: &[String]) -> Self {
        Self::with(Site { instances: instances.to_vec(), ..Site::default() }).await
    }

    /// Starts nginx with this `site`.
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

    /// Folder of its configuration.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its error log since the last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its access log, one JSON line for each request that has ended.
    #[must_use]
    pub fn access_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.access_log).expect("the log can be read")).into_owned()
    }

    /// Reloads with these instances. Returns when new connections reach new workers only.
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

    /// Kills master and workers (SIGKILL). Returns when nothing listens any more.
    pub async fn kill(&mut self) {
        self.process.kill_group();
        let ports = [self.balancer, self.gateway];
        until("nginx to be gone", async || ports.iter().all(|port| is_free(*port))).await;
    }

    /// Ids of its processes, the master first.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.process.family()
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Starts it again after [`Nginx::kill`], with the same ports and configuration.
    pub async fn restart(&mut self) {
        assert!(!self.process.is_running(), "nginx still runs");
        // Workers of a killed master still listen.
        self.process.kill_group();
        self.process = run(&self.folder);
        self.await_listening().await;
    }

    async fn await_listening(&mut self) {
        let (process, ports) = (&mut self.process, [self.balancer, self.gateway]);
        until("nginx to listen", async || {
            assert!(process.is_running(), "nginx does not start:\n{}", process.log());
            let answers = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
            // Also by its log, because another process may answer on the port.
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

/// Command for nginx with the configuration in `folder`. Early messages go to stderr, too.
fn command(folder: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(folder).args(["-c", "nginx.conf"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs `nginx -t` on the shipped configuration with these files added or replaced. Returns its
/// output.
///
/// # Errors
/// The errors of nginx.
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
