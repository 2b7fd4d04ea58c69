//! The files of `site/`, which differ between deployments.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// The shipped configuration.
const MOST_FILES: u64 = 33_000;
/// Files of a worker that are no connections: logs and listening sockets.
const NO_CONNECTIONS: u64 = 100;

/// Limits of one client address.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// Requests per second.
    pub requests_per_second: u32,
    /// Burst beyond the rate.
    pub burst: u32,
    /// Requests in progress, open streams included.
    pub connections: u32,
}

impl ClientLimits {
    /// More than any load of the tests, which comes from one address.
    pub const OUT_OF_THE_WAY: Self =
        Self { requests_per_second: 100_000, burst: 100_000, connections: 60_000 };
}

/// A deployment.
#[derive(Debug, Clone)]
pub struct Site {
    /// The instances, as `127.0.0.1:8011`.
    pub instances: Vec<String>,
    /// Port of the load balancer on 127.0.0.1; `None`: a free one.
    pub balancer_port: Option<u16>,
    /// Port of the gateway on 127.0.0.1; `None`: a free one.
    pub gateway_port: Option<u16>,
    /// Whether the gateway passes the routes of the service on.
    pub proxy_enabled: bool,
    /// Limits of one client address; `None`: the shipped ones.
    pub limits: Option<ClientLimits>,
    /// Send buffer for clients of the load balancer, in bytes; `None`: the kernel's default.
    pub send_buffer: Option<u32>,
    /// Further files with their contents, instead of the shipped ones; paths are relative to
    /// `site/`.
    pub files: Vec<(String, String)>,
    /// Folder in which the configuration stays; `None`: a temporary folder.
    pub folder: Option<PathBuf>,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            instances: Vec::new(),
            balancer_port: None,
            gateway_port: None,
            proxy_enabled: true,
            limits: Some(ClientLimits::OUT_OF_THE_WAY),
            send_buffer: None,
            files: Vec::new(),
            folder: None,
        }
    }
}

impl Site {
    /// Copies the shipped configuration to `folder` and writes its `site/`.
    pub(super) fn write(&self, folder: &Path, balancer: u16, gateway: u16, access_log: &Path) {
        copy(&shipped(), folder);
        let site = folder.join("site");
        let write = |file: &str, text: String| {
            std::fs::write(site.join(file), text).expect("a file of the site can be written");
        };
        let servers = |parameters: &str| {
            let lines = self.instances.iter().map(|at| format!("server {at} {parameters};\n"));
            lines.collect::<Vec<_>>().concat()
        };
        write("instances.conf", servers("max_fails=3 fail_timeout=2s"));
        write("instances-anew.conf", servers("max_fails=0"));
        // All files that this machine allows, which may be fewer than the shipped configuration
        // needs.
        let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(MOST_FILES);
        write("workers.conf", format!("worker_processes auto;\nworker_rlimit_nofile {files};\n"));
        write("connections.conf", format!("worker_connections {};\n", files - NO_CONNECTIONS));
        let buffer = self.send_buffer.map(|bytes| format!(" sndbuf={bytes}")).unwrap_or_default();
        write("balancer-listen.conf", format!("listen 127.0.0.1:{balancer} backlog=4096{buffer};\n"));
        write("gateway-listen.conf", format!("listen 127.0.0.1:{gateway} backlog=4096;\n"));
        write("logs.conf", format!("access_log \"{}\" vx11;\n", access_log.display()));
        let switch =
            folder.join("switch").join(format!("operator-proxy-{}.conf", u8::from(self.proxy_enabled)));
        std::fs::copy(switch, site.join("operator-proxy.conf")).expect("the switch can be copied");
        if let Some(ClientLimits { requests_per_second, burst, connections }) = self.limits {
            let limits = format!(
                "limit_req_zone $vx11_client zone=vx11_requests:1m rate={requests_per_second}r/s;\n\
                 limit_req zone=vx11_requests burst={burst} nodelay;\n\
                 limit_conn_zone $vx11_client zone=vx11_connections:1m;\n\
                 limit_conn vx11_connections {connections};\n"
            );
            write("limits.conf", limits);
        }
        for (file, text) in &self.files {
            write(file, text.clone());
        }
    }
}

/// The repository's `nginx/`, for reading only, because nginx would write into it.
#[must_use]
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nginx")
}

/// Copies a folder recursively.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be created");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.ends_with("nginx/run") {
            // Traces of an nginx that ran there are left out.
            std::fs::create_dir_all(&to).expect("a folder can be created");
        } else if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a file can be copied");
        }
    }
}
