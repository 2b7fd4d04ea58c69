//! Plan of a cluster.

use std::path::PathBuf;

use vx11_kit::{FaultProxy, Site, Surroundings};

use super::Store;

/// Redis of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// One Redis with a password.
    Single,
    /// A master and a replica under three Sentinels.
    Sentinel,
}

/// Proxies between the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ways {
    /// Nothing.
    Direct,
    /// A fault proxy between each instance and Redis.
    Breakable,
    /// A proxy between nginx and each instance that resets connections on request.
    Resettable,
}

/// Ports on 127.0.0.1.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    pub(crate) redis: u16,
    /// Ports of the instances.
    pub(crate) instances: Vec<u16>,
    pub(crate) balancer: u16,
    pub(crate) gateway: u16,
}

/// Settings for single parts of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extras {
    /// Environment of each instance.
    pub(crate) settings: Vec<Vec<(&'static str, String)>>,
    /// Arguments of Redis.
    pub(crate) redis: Vec<&'static str>,
    /// Surroundings of all instances.
    pub(crate) surroundings: Surroundings,
}

/// Plan of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct ClusterPlan {
    /// Binary of the service.
    pub(crate) binary: PathBuf,
    /// Number of instances.
    pub(crate) instances: usize,
    /// Redis of the cluster.
    pub(crate) backing: Backing,
    /// Proxies between the processes.
    pub(crate) ways: Ways,
    /// Lifetime of a token in seconds.
    pub(crate) life: u64,
    /// Drain window in seconds.
    pub(crate) drain: u64,
    /// Credential of the principal.
    pub(crate) principal: String,
    /// Ports; `None`: free ones.
    pub(crate) ports: Option<Ports>,
    /// Further environment of the instances.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Further configuration of nginx.
    pub(crate) site: Site,
    /// Settings for single parts.
    pub(crate) extras: Extras,
}

impl ClusterPlan {
    pub(super) fn environment(
        &self,
        instance: usize,
        store: &Store,
        way: Option<&FaultProxy>,
    ) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("INSTANCE_ID", (instance + 1).to_string()),
            ("EPHEMERAL_TOKEN_TTL_SEC", self.life.to_string()),
            ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", self.drain.to_string()),
            // nginx is a trusted proxy.
            ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.1/32".to_owned()),
        ];
        match store {
            Store::Single(server) => {
                let port = way.map_or(server.port(), FaultProxy::port);
                environment.push(("REDIS_HOST", "127.0.0.1".to_owned()));
                environment.push(("REDIS_PORT", port.to_string()));
                environment.extend(server.password().map(|password| ("REDIS_PASSWORD", password.to_owned())));
            }
            Store::Sentinel(set) => {
                environment.push(("REDIS_SENTINELS", set.sentinels().join(",")));
                environment.push(("REDIS_SENTINEL_MASTER", set.name().to_owned()));
            }
        }
        environment.extend(self.settings.clone());
        environment.extend(self.extras.settings.get(instance).cloned().unwrap_or_default());
        environment
    }
}
