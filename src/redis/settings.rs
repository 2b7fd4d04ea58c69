//! Configuration of Redis.

use std::fmt;

use secrecy::SecretString;

use super::client_certificate::ClientCertificate;
use super::namespace::Namespace;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

impl HostPort {
    /// Parses `host`, `host:port` or `[address]:port`.
    ///
    /// # Errors
    /// The text has another form.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected: host or host:port";
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(EXPECTED)?)),
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | ',')) {
            return Err(EXPECTED);
        }
        let port = match port {
            None => default_port,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(EXPECTED)?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Topology of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(HostPort),
    /// A master with replicas, watched by sentinels.
    Sentinel {
        /// The sentinels, preferably all.
        sentinels: Vec<HostPort>,
        /// Name of the master.
        master: String,
    },
    /// A Redis Cluster.
    Cluster {
        /// Some of its nodes; the others are discovered.
        nodes: Vec<HostPort>,
    },
}

/// Configuration of Redis. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The servers.
    pub topology: Topology,
    /// The ACL user; `None` is the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// The password of the sentinels.
    pub sentinel_password: Option<SecretString>,
    /// The number of the database; 0 in a cluster.
    pub db: i64,
    /// Namespace of the keys.
    pub namespace: Namespace,
    /// Whether to use TLS, also for sentinels.
    pub tls: bool,
    /// Certificates (PEM) of the authorities to trust instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// Client certificate for servers and sentinels.
    pub client: Option<ClientCertificate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_port_in_either_family() {
        let read = |text: &str| HostPort::parse(text, 6379).map(|it| it.to_string());
        assert_eq!(read("redis"), Ok("redis:6379".to_owned()));
        assert_eq!(read("10.0.0.1:7000"), Ok("10.0.0.1:7000".to_owned()));
        assert_eq!(read("[::1]:7000"), Ok("[::1]:7000".to_owned()));
        assert_eq!(read("::1"), Ok("[::1]:6379".to_owned()));
        for wrong in
            ["", ":6379", "redis:", "redis:0", "redis:65536", "redis://x", "a b", "user@redis", "[::1]7000"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
