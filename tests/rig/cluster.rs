//! A deployment: Redis, instances of the service and nginx, each a real process.

mod plan;

use std::time::Duration;

use vx11_kit::{Api, FaultProxy, Nginx, Operator, RedisServer, ResetProxy, SentinelSet, Site, new_principal};

use crate::load::Member;

pub(crate) use plan::{Backing, ClusterPlan, Extras, Ports, Ways};

/// Redis of the cluster.
pub(crate) enum Store {
    Single(Box<RedisServer>),
    Sentinel(Box<SentinelSet>),
}

/// The way between an instance and Redis, or between nginx and an instance, where there is
/// something on it.
#[derive(Default)]
pub(crate) struct Detours {
    pub(crate) to_redis: Vec<FaultProxy>,
    pub(crate) to_instances: Vec<ResetProxy>,
}

/// All of it; killed when dropped.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) instances: Vec<Operator>,
    pub(crate) nginx: Nginx,
    pub(crate) detours: Detours,
    /// Of two, all begin with the first.
    pub(crate) signing_keys: [String; 2],
    plan: ClusterPlan,
}

impl Cluster {
    /// All instances use Redis and nginx answers when it returns. Says what it starts.
    pub(crate) async fn start(plan: &ClusterPlan, says: impl Fn(&str)) -> Self {
        let signing_keys = [(); 2].map(|()| format!("{}{}", new_principal(), new_principal()));
        says("Redis");
        let store = Store::start(plan).await;
        let mut detours = Detours::default();
        let mut instances = Vec::new();
        for index in 0..plan.instances {
            says(&format!("instance {}", index + 1));
            if plan.ways == Ways::Breakable {
                detours.to_redis.push(FaultProxy::start(store.single().address()));
            }
            let mut environment = plan.environment(index, &store, detours.to_redis.get(index));
            environment.push(("VX11_OPERATOR_SIGNING_KEYS", signing_keys[0].clone()));
            let environment: Vec<_> =
                environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let (binary, principal) = (&plan.binary, &plan.principal);
            instances.push(match &plan.ports {
                None => Operator::start_in(plan.extras.surroundings, binary, principal, &environment).await,
                Some(ports) => {
                    let address = format!("127.0.0.1:{}", ports.instances[index]);
                    Operator::start_at(&address, binary, principal, &environment).await
                }
            });
        }
        for instance in &instances {
            instance.await_well().await;
        }
        let mut addresses: Vec<_> = instances.iter().map(|instance| instance.address().to_owned()).collect();
        if plan.ways == Ways::Resettable {
            for address in &mut addresses {
                let way = ResetProxy::start(address).await;
                *address = way.address();
                detours.to_instances.push(way);
            }
        }
        says("nginx");
        let nginx = Nginx::with(Site {
            instances: addresses,
            balancer_port: plan.ports.as_ref().map(|ports| ports.balancer),
            gateway_port: plan.ports.as_ref().map(|ports| ports.gateway),
            ..plan.site.clone()
        })
        .await;
        Self { store, instances, nginx, detours, signing_keys, plan: plan.clone() }
    }

    /// The load balancer, for clients.
    pub(crate) fn balancer(&self) -> Api {
        Api::new(&self.nginx.balancer(), &self.plan.principal, Duration::from_secs(self.plan.life))
    }

    /// The credential of its clients.
    pub(crate) fn principal(&self) -> &str {
        &self.plan.principal
    }

    /// Starts an instance of another deployment, with another principal and other keys, on the same
    /// Redis.
    pub(crate) async fn start_another(&self) -> Operator {
        let mut environment = self.plan.environment(self.instances.len(), &self.store, None);
        environment.push(("VX11_OPERATOR_SIGNING_KEYS", format!("{}{}", new_principal(), new_principal())));
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Operator::start(&self.plan.binary, &new_principal(), &environment).await
    }

    /// The instances, as a load needs them.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.instances.iter().map(Member::from).collect()
    }

    /// Redis, where there is only one.
    pub(crate) fn redis(&mut self) -> &mut RedisServer {
        match &mut self.store {
            Store::Single(server) => server,
            Store::Sentinel(_) => panic!("there is more than one server"),
        }
    }

    /// Redis and its sentinels.
    pub(crate) fn sentinel(&mut self) -> &mut SentinelSet {
        match &mut self.store {
            Store::Single(_) => panic!("there is only one server"),
            Store::Sentinel(set) => set,
        }
    }

    /// Everything that Redis holds, as it writes it to disk.
    pub(crate) async fn dump(&mut self) -> Vec<u8> {
        match &mut self.store {
            Store::Single(server) => server.dump().await,
            Store::Sentinel(set) => set.master().await.dump().await,
        }
    }
}

impl Store {
    async fn start(plan: &ClusterPlan) -> Self {
        match plan.backing {
            Backing::Single => {
                let password = new_principal();
                let mut arguments = vec!["--requirepass", password.as_str()];
                arguments.extend(&plan.extras.redis);
                Self::Single(Box::new(match &plan.ports {
                    None => RedisServer::with(&arguments).await,
                    Some(ports) => RedisServer::on(ports.redis, &arguments).await,
                }))
            }
            Backing::Sentinel => Self::Sentinel(Box::new(SentinelSet::start().await)),
        }
    }

    /// The numbers of its processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match self {
            Self::Single(server) => vec![server.pid()],
            Self::Sentinel(set) => set.nodes().iter().map(RedisServer::pid).collect(),
        }
    }

    pub(crate) fn single(&self) -> &RedisServer {
        match self {
            Self::Single(server) => server,
            Self::Sentinel(_) => panic!("there is more than one server"),
        }
    }
}
