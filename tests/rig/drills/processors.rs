//! Which part takes how much of the machine's processors.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::operator::Operator;
use crate::process::processor_time;

/// Processor time so far, at a moment.
pub(super) struct Processors {
    at: Instant,
    parts: [(&'static str, Duration); 4],
}

impl Processors {
    /// Of everything that runs now.
    pub(super) fn of(cluster: &Cluster) -> Self {
        let sum = |pids: Vec<u32>| pids.into_iter().map(processor_time).sum();
        let instances = cluster.instances.iter().map(Operator::process).collect();
        let parts = [
            ("the load", sum(vec![std::process::id()])),
            ("nginx", sum(cluster.nginx.processes())),
            ("the instances", sum(instances)),
            ("Redis", sum(cluster.store.processes())),
        ];
        Self { at: Instant::now(), parts }
    }

    /// How many processors each part has taken since then, in words. Nothing may have been restarted meanwhile.
    pub(super) fn since(&self, before: &Self) -> String {
        let took = self.at.duration_since(before.at).as_secs_f64();
        let parts = self.parts.iter().zip(before.parts).map(|((name, now), (_, then))| {
            format!("{name} {:.2}", now.saturating_sub(then).as_secs_f64() / took)
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}
