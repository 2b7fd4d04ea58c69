//! The reference of the predecessor: installed once, and running while it is measured.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::progress::say;
use crate::target::target_directory;

const PRINCIPAL: &str = "benchmark-principal-of-the-predecessor";
/// For the interpreter to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The reference; its process and its workers end when this is dropped, or when this process ends
/// in any other way.
pub(crate) struct Predecessor {
    process: Child,
    address: SocketAddr,
}

impl Predecessor {
    /// Starts it with `settings`, installed before where that was not done yet.
    pub(crate) fn start(settings: &[(&str, String)]) -> Self {
        let python = installed();
        say("starting the Python reference");
        let address = free_address();
        let log = target_directory().join("bench/predecessor.log");
        let log = fs::File::create(log).expect("target/bench can be written");
        let process = Command::new(python)
            .args(["serve.py", &address.port().to_string()])
            .current_dir(folder())
            .env_clear()
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("VX11_PRINCIPAL_TOKEN", PRINCIPAL)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            // Its workers belong to the group, and end with it.
            .process_group(0)
            .spawn()
            .expect("an installed Python can be started");
        let mut reference = Self { process, address };
        reference.wait();
        reference
    }

    /// Target of the load, and its credential.
    pub(crate) fn server(&self) -> (SocketAddr, &str) {
        (self.address, PRINCIPAL)
    }

    /// Waits until it accepts connections; those are answered when the first worker is ready.
    fn wait(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the Python reference ended: {ended:?}");
            assert!(started.elapsed() < PATIENCE, "the Python reference does not accept connections");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        // If this fails, they end nevertheless with their standard input.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/redis/predecessor")
}

/// A loopback address that nobody listens on.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("a listener has an address")
}

/// The Python that has all that is required; set up below `target/bench/python` unless it is there
/// already.
fn installed() -> PathBuf {
    let environment = target_directory().join("bench/python");
    let python = environment.join("bin/python");
    let requirements = folder().join("requirements.txt");
    let required = fs::read(&requirements).expect("the reference says what it requires");
    let stamp = environment.join("installed-requirements.txt");
    if fs::read(&stamp).is_ok_and(|installed| installed == required) {
        return python;
    }
    say("installing the Python reference below target/bench/python; only this once, and it takes a minute");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(&python).args(pip).arg(&requirements));
    fs::write(&stamp, required).expect("the environment can be written to");
    python
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(status.success(), "{command:?} failed: {status}");
}
