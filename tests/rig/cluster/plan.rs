//! What a cluster is made of.

use std::path::PathBuf;

use super::Store;
use crate::nginx::Site;
use crate::process::Surroundings;
use crate::proxy::FaultProxy;

/// What the instances share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// One Redis with a password.
    Single,
    /// A master and a replica under three Sentinels.
    Sentinel,
}

/// What is on the ways between the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ways {
    /// Nothing.
    Direct,
    /// Between each instance and Redis a network that can be broken.
    Breakable,
    /// Between nginx and each instance something that resets connections when asked to.
    Resettable,
}

/// Where everything listens, on 127.0.0.1.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    pub(crate) redis: u16,
    /// Of each instance.
    pub(crate) instances: Vec<u16>,
    pub(crate) balancer: u16,
    pub(crate) gateway: u16,
}

/// What is told to one part of the cluster only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extras {
    /// To each instance, as far as there are any.
    pub(crate) settings: Vec<Vec<(&'static str, String)>>,
    /// To Redis, on its command line.
    pub(crate) redis: Vec<&'static str>,
    /// What all instances meet.
    pub(crate) surroundings: Surroundings,
}

/// A cluster that is yet to be started.
#[derive(Debug, Clone)]
pub(crate) struct ClusterPlan {
    /// The operator.
    pub(crate) binary: PathBuf,
    /// How many instances.
    pub(crate) instances: usize,
    /// What they share.
    pub(crate) backing: Backing,
    /// What is on the ways between them.
    pub(crate) ways: Ways,
    /// The life of a token, in seconds.
    pub(crate) life: u64,
    /// Over which an instance ends its streams, in seconds.
    pub(crate) drain: u64,
    /// The credential.
    pub(crate) principal: String,
    /// Where everything listens; on ports of its own otherwise.
    pub(crate) ports: Option<Ports>,
    /// What else the instances are told.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// What nginx is told beside its ports and instances.
    pub(crate) site: Site,
    /// What is told to one part only.
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
            // nginx's word about its clients is believed.
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
