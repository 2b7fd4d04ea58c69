//! What differs between deployments: the files of `site/`.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// What ships.
const MOST_FILES: u64 = 33_000;
/// Files of a worker that are no connections: logs, sockets it listens on.
const NO_CONNECTIONS: u64 = 100;

/// What one client address may do.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// Requests a second.
    pub requests_per_second: u32,
    /// How many may come at once beyond that.
    pub burst: u32,
    /// Requests in progress, open streams included.
    pub connections: u32,
}

impl ClientLimits {
    /// More than any load of the tests, all of which comes from one address.
    pub const OUT_OF_THE_WAY: Self =
        Self { requests_per_second: 100_000, burst: 100_000, connections: 60_000 };
}

/// A deployment.
#[derive(Debug, Clone)]
pub struct Site {
    /// The instances, as `127.0.0.1:8011`.
    pub instances: Vec<String>,
    /// Where the load balancer listens on 127.0.0.1; `None` is a port of its own.
    pub balancer_port: Option<u16>,
    /// Where the gateway listens on 127.0.0.1; `None` is a port of its own.
    pub gateway_port: Option<u16>,
    /// Whether the gateway passes the operator's routes on.
    pub proxy_enabled: bool,
    /// What one client address may do; `None` is what ships.
    pub limits: Option<ClientLimits>,
    /// What the kernel keeps for a client of the balancer that does not read, in bytes; `None` is
    /// its own choice.
    pub send_buffer: Option<u32>,
    /// Further files with their contents, in place of what would stand there; paths are relative to
    /// `site/`.
    pub files: Vec<(String, String)>,
    /// Where the configuration is put, and stays; `None` is a folder that is removed in the end.
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
    /// Copies the configuration that ships to `folder` and writes its `site/`.
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
        // All the files this machine gives, which may be fewer than what ships asks for.
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

/// The repository's `nginx/`, to read from; nginx would write into it.
#[must_use]
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nginx")
}

/// Copies a folder with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be created");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.ends_with("nginx/run") {
            // What an nginx that ran there has left is not part of it.
            std::fs::create_dir_all(&to).expect("a folder can be created");
        } else if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a file can be copied");
        }
    }
}
