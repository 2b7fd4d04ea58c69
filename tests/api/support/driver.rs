//! The process that drives a browser.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use vx11_kit::PATIENCE;

/// Foundation of the browser tests.
pub const PACKAGES: &str = "browser tests need the Debian packages chromium and chromium-driver";

/// A chromedriver; ended when dropped, together with its browser.
pub struct Driver {
    /// `127.0.0.1:port`.
    pub address: String,
    _output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Driver {
    /// A driver that writes whatever it and its browser write into `folder`.
    pub async fn start(folder: &Path) -> Self {
        let started = tokio::time::timeout(PATIENCE, async {
            loop {
                match Self::try_start(folder).await {
                    Ok(driver) => return driver,
                    // Asked for any port, it takes a free one of IPv6 and insists on the same of
                    // IPv4. Beside a thousand open connections, that one may be taken.
                    Err(words) if words.contains("port not available") => {}
                    Err(words) => panic!("chromedriver ends at once: {words}; {PACKAGES}"),
                }
            }
        });
        started.await.expect("chromedriver starts in time")
    }

    /// A driver, or its output if it has ended.
    async fn try_start(folder: &Path) -> Result<Self, String> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", folder)
            .env("TMPDIR", folder)
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver does not start: {error}; {PACKAGES}"));
        let output = process.stdout.take().expect("the output is piped");
        let mut output = BufReader::new(output).lines();
        let mut words = String::new();
        while let Some(line) = output.next_line().await.expect("chromedriver writes text") {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return Ok(Self {
                    address: format!("127.0.0.1:{}", port.trim_end_matches('.')),
                    _output: output,
                    _process: process,
                });
            }
            words.push_str(&line);
            words.push('\n');
        }
        let status = process.wait().await.expect("the process can be waited for");
        Err(format!("{words}{status}"))
    }
}

impl Drop for Driver {
    /// Has the driver end its browser and itself. Done without the runtime, so that a failed test
    /// ends them too.
    fn drop(&mut self) {
        let ended = TcpStream::connect(&self.address).and_then(|mut connection| {
            connection.set_read_timeout(Some(PATIENCE))?;
            write!(
                connection,
                "GET /shutdown HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.address
            )?;
            connection.read_to_end(&mut Vec::new())
        });
        if let Err(error) = ended {
            eprintln!("chromedriver did not end in order: {error}");
        }
    }
}
