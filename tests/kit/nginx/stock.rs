//! An nginx with the few lines that everybody writes first: `proxy_pass` and nothing else.

use std::net::{Ipv4Addr, TcpStream};

use tempfile::TempDir;

use super::run;
use crate::patience::until;
use crate::port::Port;
use crate::process::Process;

/// A running nginx that passes everything on to one address; killed when dropped.
pub struct StockNginx {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl StockNginx {
    /// In front of `upstream`, a URL without a path.
    pub async fn start(upstream: &str) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder can be created"));
        let number = port.number();
        let configuration = format!(
            "error_log stderr notice;\npid nginx.pid;\nevents {{ }}\nhttp {{\n    access_log off;\n    server {{\n        \
             listen 127.0.0.1:{number};\n        location / {{ proxy_pass {upstream}; }}\n    }}\n}}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration).expect("a file can be written");
        let process = run(folder.path());
        until("nginx to listen", async || {
            assert!(process.is_running(), "nginx does not start:\n{}", process.log());
            process.log().contains("start worker process ")
                && TcpStream::connect((Ipv4Addr::LOCALHOST, number)).is_ok()
        })
        .await;
        Self { process, port, _folder: folder }
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }
}

impl Drop for StockNginx {
    fn drop(&mut self) {
        self.process.kill_group();
    }
}
