//! Which part takes how much of the machine's processors.

use std::time::{Duration, Instant};

use vx11_kit::{Operator, processor_time};

use crate::cluster::Cluster;

/// With less of the machine idle than this, it is full.
const IDLE: f64 = 0.1;

/// Processor time so far, at a moment.
pub(super) struct Processors {
    at: Instant,
    machine: Machine,
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
        Self { at: Instant::now(), machine: Machine::now(), parts }
    }

    /// Processors used by each part since then, as text. No part may have restarted meanwhile.
    pub(super) fn since(&self, before: &Self) -> String {
        let took = self.at.duration_since(before.at).as_secs_f64();
        let parts = self.parts.iter().zip(before.parts).map(|((name, now), (_, then))| {
            format!("{name} {:.2}", now.saturating_sub(then).as_secs_f64() / took)
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Whether the machine had next to nothing left since then.
    pub(super) fn are_full(&self, before: &Self) -> bool {
        self.machine.idle_since(&before.machine) < IDLE
    }
}

/// Processor time of the whole machine so far.
struct Machine {
    idle: u64,
    all: u64,
}

impl Machine {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; what follows is
        // counted in these.
        let first = stat.lines().next().unwrap_or_default();
        let times: Vec<u64> = first.split_whitespace().skip(1).take(8).flat_map(str::parse).collect();
        Self { idle: times.iter().skip(3).take(2).sum(), all: times.iter().sum() }
    }

    /// As a part of all.
    fn idle_since(&self, before: &Self) -> f64 {
        // Idle time is less exact than the others and may decrease (proc_stat(5)).
        let ticks = |now: u64, then: u64| u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX);
        f64::from(ticks(self.idle, before.idle)) / f64::from(ticks(self.all, before.all).max(1))
    }
}
