//! Redis, three instances, and an nginx for each number of them.

use std::net::SocketAddr;
use std::path::Path;

use tokio::runtime::{Builder, Runtime};
use vx11_kit::{Nginx, Operator, RedisServer, new_principal};

use crate::processor;

/// Seconds.
const LIFE: &str = "12";
/// Instances at most.
pub(crate) const MOST: usize = 3;

/// All of it, for as long as this lives.
pub(crate) struct Testbed {
    redis: RedisServer,
    instances: Vec<Operator>,
    /// In front of one instance, of two, of all.
    nginx: Vec<Nginx>,
    principal: String,
    runtime: Runtime,
}

/// A kind of process.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Nginx,
    Instances,
    Redis,
}

impl Testbed {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let principal = new_principal();
        let (redis, instances, nginx) = runtime.block_on(async {
            let redis = RedisServer::start().await;
            let port = redis.port().to_string();
            let mut instances = Vec::new();
            for id in 1..=MOST {
                let id = id.to_string();
                let environment = [
                    ("INSTANCE_ID", id.as_str()),
                    ("REDIS_HOST", "127.0.0.1"),
                    ("REDIS_PORT", &port),
                    ("EPHEMERAL_TOKEN_TTL_SEC", LIFE),
                    ("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0"),
                ];
                let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
                let instance = Operator::start(binary, &principal, &environment).await;
                instance.await_well().await;
                instances.push(instance);
            }
            let addresses: Vec<_> = instances.iter().map(|instance| instance.address().to_owned()).collect();
            let mut nginx = Vec::new();
            for count in 1..=MOST {
                nginx.push(Nginx::start(&addresses[..count]).await);
            }
            (redis, instances, nginx)
        });
        Self { redis, instances, nginx, principal, runtime }
    }

    /// The balancer in front of so many instances, with the principal's credential.
    pub(crate) fn balancer(&self, instances: usize) -> (SocketAddr, &str) {
        (address(&self.nginx[instances - 1].balancer()), &self.principal)
    }

    /// The first instance, without anything in front of it.
    pub(crate) fn instance(&self) -> (SocketAddr, &str) {
        (address(self.instances[0].base()), &self.principal)
    }

    /// A token.
    pub(crate) fn token(&self) -> String {
        self.runtime.block_on(self.instances[0].issue()).expect("an instance issues").token
    }

    /// Seconds of processor time that all processes of a kind have taken so far.
    pub(crate) fn processor_seconds(&self, part: Part) -> f64 {
        self.processes(part).into_iter().map(processor::seconds).sum()
    }

    /// Bytes that have passed to Redis and from it.
    pub(crate) fn redis_traffic(&self) -> (f64, f64) {
        let stats = self.runtime.block_on(self.redis.info("stats"));
        let count = |name: &str| stats[name].parse().expect("a number of bytes");
        (count("total_net_input_bytes"), count("total_net_output_bytes"))
    }

    /// The workers of the nginx in front of all instances.
    pub(crate) fn workers(&self) -> Vec<u32> {
        self.nginx[MOST - 1].processes().into_iter().skip(1).collect()
    }

    /// Nobody may have been refused: without Redis, what was measured is something else.
    pub(crate) fn assert_well(&self) {
        for instance in &self.instances {
            let state = self.runtime.block_on(instance.standing()).expect("an instance answers");
            assert!(state.is_well(), "an instance left Redis under this load");
        }
    }

    fn processes(&self, part: Part) -> Vec<u32> {
        match part {
            Part::Nginx => self.nginx.iter().flat_map(Nginx::processes).collect(),
            Part::Instances => self.instances.iter().map(Operator::process).collect(),
            Part::Redis => vec![self.redis.pid()],
        }
    }
}

fn address(base: &str) -> SocketAddr {
    base.trim_start_matches("http://").parse().expect("an address")
}
