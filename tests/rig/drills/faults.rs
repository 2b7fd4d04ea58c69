//! Faults of Redis and of instances that drills of control try, in parts: what is broken stays so
//! until it is repaired, and the drill acts meanwhile.

use tokio::time::sleep;
use vx11_kit::FaultProxy;

use super::drilling::Drilling;
use super::redis::FLAP;
use crate::history::Endpoint;

/// Times that a Redis comes back in a part of a fault.
const FLAPS: u64 = 2;

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Redis is killed, and comes back empty unless it keeps its data.
    RedisKilled,
    /// Redis is suspended.
    RedisStopped,
    /// Redis loses its data, by FLUSHALL.
    RedisFlushed,
    /// Redis loses its data, by a restart.
    RedisRestarted,
    /// Redis is killed, comes back for a moment and is killed again, several times.
    RedisFlaps,
    /// All instances are cut off from Redis.
    AllCut,
    /// One instance is cut off from Redis.
    OneCut(usize),
    /// An instance is killed.
    Killed(usize),
    /// An instance is suspended.
    Stopped(usize),
}

impl Fault {
    /// Whether Redis loses its data, where it keeps none.
    pub(super) fn loses_data(self) -> bool {
        matches!(self, Self::RedisKilled | Self::RedisFlushed | Self::RedisRestarted | Self::RedisFlaps)
    }

    /// The instances that cannot use Redis at any time of the fault.
    fn cut(self, instances: usize) -> Vec<usize> {
        match self {
            Self::RedisKilled | Self::RedisStopped | Self::AllCut => (0..instances).collect(),
            Self::OneCut(instance) => vec![instance],
            Self::RedisFlushed
            | Self::RedisRestarted
            | Self::RedisFlaps
            | Self::Killed(_)
            | Self::Stopped(_) => Vec::new(),
        }
    }

    /// Breaks it.
    pub(super) async fn strike(self, drilling: &mut Drilling) {
        match self {
            Self::RedisKilled | Self::RedisFlaps => drilling.cluster.redis().kill(),
            Self::RedisRestarted => drilling.cluster.redis().restart().await,
            Self::RedisStopped => drilling.cluster.redis().stop().await,
            Self::RedisFlushed => drilling.cluster.redis().flush().await,
            Self::AllCut => drilling.cluster.detours.to_redis.iter().for_each(FaultProxy::black_hole),
            Self::OneCut(instance) => drilling.cluster.detours.to_redis[instance].black_hole(),
            Self::Killed(instance) => drilling.kill(instance),
            Self::Stopped(instance) => {
                drilling.fault_run.recorder().down(Endpoint::Instance(instance));
                drilling.cluster.instances[instance].stop().await;
            }
        }
        let cut = self.cut(drilling.cluster.instances.len());
        if !cut.is_empty() {
            drilling.fault_run.recorder().cut_off(cut);
        }
    }

    /// Lets it last for a part of the time of a fault. A Redis that flaps is down afterwards.
    pub(super) async fn last(self, drilling: &mut Drilling, part: f64) {
        if self != Self::RedisFlaps {
            return drilling.last(part).await;
        }
        for _ in 0..FLAPS {
            sleep(FLAP).await;
            drilling.cluster.redis().restart().await;
            sleep(FLAP).await;
            drilling.cluster.redis().kill();
        }
    }

    /// Repairs it.
    pub(super) async fn repair(self, drilling: &mut Drilling) {
        if !self.cut(drilling.cluster.instances.len()).is_empty() {
            drilling.fault_run.recorder().rejoining();
        }
        match self {
            Self::RedisKilled | Self::RedisFlaps => drilling.cluster.redis().restart().await,
            Self::RedisStopped => drilling.cluster.redis().cont(),
            Self::RedisFlushed | Self::RedisRestarted => {}
            Self::AllCut => drilling.cluster.detours.to_redis.iter().for_each(FaultProxy::pass),
            Self::OneCut(instance) => drilling.cluster.detours.to_redis[instance].pass(),
            Self::Killed(instance) => {
                drilling.boot(instance).await;
            }
            Self::Stopped(instance) => {
                drilling.cluster.instances[instance].cont();
                drilling.cluster.instances[instance].await_well().await;
                drilling.fault_run.recorder().up(Endpoint::Instance(instance));
            }
        }
    }
}
