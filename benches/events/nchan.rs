//! nginx with nchan, as `nchan.conf` has it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vx11_kit::Port;

use crate::http::Client;
use crate::server::{Channel, Publisher, Server};
use crate::target::target_directory;

const CONFIGURATION: &str = include_str!("nchan.conf");
const PATIENCE: Duration = Duration::from_secs(10);

/// An nginx that runs.
pub(crate) struct Nchan {
    master: Child,
    address: SocketAddr,
    /// Its configuration and what it writes.
    folder: TempDir,
    _port: Port,
}

impl Nchan {
    /// Starts it. What it logs is kept as `target/bench/nchan.log`.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be created");
        let port = Port::reserve();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let listen = format!("listen {address} reuseport backlog=4096;\n");
        fs::write(folder.path().join("nchan.conf"), CONFIGURATION).expect("it can be written");
        fs::write(folder.path().join("listen.conf"), listen).expect("it can be written");
        let logs = target_directory().join("bench");
        fs::create_dir_all(&logs).expect("target/bench can be created");
        let log = File::create(logs.join("nchan.log")).expect("the log can be created");
        let mut master = command(folder.path())
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nginx can be started: apt-get install nginx libnginx-mod-nchan");
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = master.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "nginx ended; target/bench/nchan.log says why");
            assert!(started.elapsed() < PATIENCE, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { master, address, folder, _port: port }
    }
}

impl Server for Nchan {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn targets(&self, channels: impl Iterator<Item = Channel>) -> impl Iterator<Item = String> {
        channels.map(|channel| path("/events", channel))
    }

    fn publisher(&self) -> Publisher {
        let request = |channel| format!("POST {}", path("/publish", channel));
        Publisher::new(Client::connect((self.address, "")), request, |_, data| data.to_owned())
    }

    fn processes(&self) -> Vec<u32> {
        let master = self.master.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let children = children.expect("the children of a process that runs can be read");
        let workers = children.split_whitespace().map(|number| number.parse().expect("a process's number"));
        std::iter::once(master).chain(workers).collect()
    }
}

impl Drop for Nchan {
    fn drop(&mut self) {
        // Its own way: killed, the master would leave its workers behind.
        let stopped = command(self.folder.path()).args(["-s", "stop"]).stderr(Stdio::null()).status();
        if !stopped.is_ok_and(|status| status.success()) {
            let _ = self.master.kill();
        }
        let _ = self.master.wait();
    }
}

/// Path of a channel below `location`.
fn path(location: &str, channel: Channel) -> String {
    channel.map_or_else(|| location.to_owned(), |number| format!("{location}/{number}"))
}

/// nginx with the configuration in `folder`.
fn command(folder: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(folder.join("nchan.conf"));
    command
}
