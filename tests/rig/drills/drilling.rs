//! A drill under way: the cluster, the load on it, and what is noted of both.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;
use vx11_kit::{Secrets, Traces, eventually, new_principal};

use super::processors::Processors;
use super::{Drill, INSTANCES, Length};
use crate::checker::{Targets, Times};
use crate::cluster::{Cluster, ClusterPlan};
use crate::fault_run::{FaultRun, Report};
use crate::history::Endpoint;

/// Longer than anything may take that is judged.
const PATIENCE: Duration = Duration::from_secs(50);
/// Before the first round, as a part of a fault.
const CALM_BEFORE: f64 = 1.0 / 3.0;
/// Time for which everything has to be healthy before the next round: at least, and as a part of a
/// fault. Revocations are judged from a second after that.
const CALM: Duration = Duration::from_secs(1);
const CALM_AFTER: f64 = 1.0 / 6.0;
/// With that time, it is two seconds after a fault that the list of streams is compared.
const LISTED_AFTER: Duration = Duration::from_secs(1);

/// The cluster and its load.
pub(super) struct Drilling {
    pub(super) cluster: Cluster,
    pub(super) fault_run: FaultRun,
    pub(super) length: Length,
    targets: Targets,
    traces: Traces,
    folder: TempDir,
}

impl Drilling {
    pub(super) async fn begin(drill: &Drill, length: Length, binary: &Path) -> Self {
        let traces = Traces::begin();
        let folder = tempfile::tempdir().expect("a folder for the audit trails");
        let plan = ClusterPlan {
            binary: binary.to_owned(),
            instances: INSTANCES,
            backing: drill.backing,
            ways: drill.ways,
            life: length.life,
            drain: length.drain,
            principal: new_principal(),
            ports: None,
            settings: drill.settings(length),
            site: drill.site(),
            extras: drill.extras(folder.path(), length),
        };
        let cluster = Cluster::start(&plan, |_| {}).await;
        let name = format!("{:>2} {}", drill.number, drill.fault);
        let (members, balancer) = (cluster.members(), Some(cluster.balancer()));
        let mut fault_run = FaultRun::over(&name, members, balancer, drill.measure(length)).await;
        // Latencies are compared with those of a calm time.
        let before = Processors::of(&cluster);
        sleep(length.part(CALM_BEFORE)).await;
        let now = Processors::of(&cluster);
        let (times, so) = if now.are_full(&before) {
            (Times::AreReported, "; that is all there is, so times do not count")
        } else {
            (length.times, "")
        };
        fault_run.note(format!("processors taken before the fault: {}{so}", now.since(&before)));
        let length = Length { times, ..length };
        let targets = Targets { times, ..drill.targets(length) };
        Self { cluster, fault_run, length, targets, traces, folder }
    }

    /// Something is broken from now on.
    pub(super) async fn begin_fault(&mut self) {
        self.fault_run.begin_fault().await;
    }

    /// So it stays for a part of the time a fault lasts.
    pub(super) async fn last(&self, part: f64) {
        sleep(self.length.part(part)).await;
    }

    /// It works again; what depends on it has time to.
    pub(super) async fn recover(&mut self) {
        self.fault_run.recorder().repaired();
        self.settle().await;
    }

    /// Waits until all is well, however long ago it was repaired.
    pub(super) async fn settle(&mut self) {
        self.fault_run.settle(PATIENCE).await;
        sleep(CALM.max(self.length.part(CALM_AFTER))).await;
    }

    /// Kills an instance; nothing can be expected of it until it is back.
    pub(super) fn kill(&mut self, instance: usize) {
        self.fault_run.recorder().down(Endpoint::Instance(instance));
        self.cluster.instances[instance].kill();
    }

    /// Starts a dead instance again.
    pub(super) async fn boot(&mut self, instance: usize) -> Duration {
        let took = self.cluster.instances[instance].restart().await;
        self.fault_run.recorder().up(Endpoint::Instance(instance));
        took
    }

    /// Ends an instance in order; how long that took.
    pub(super) async fn stop(&mut self, instance: usize) -> Duration {
        self.fault_run.recorder().down(Endpoint::Instance(instance));
        let asked_at = Instant::now();
        self.cluster.instances[instance].terminate();
        self.cluster.instances[instance].ended().await;
        asked_at.elapsed()
    }

    /// Ends an instance in order and starts it again.
    pub(super) async fn restart(&mut self, instance: usize) {
        self.stop(instance).await;
        self.boot(instance).await;
    }

    /// The audit trails, of a drill that has them.
    pub(super) fn audit_trails(&self) -> Vec<PathBuf> {
        let trails =
            (0..self.cluster.instances.len()).map(|instance| audit_trail(self.folder.path(), instance));
        trails.filter(|trail| trail.exists()).collect()
    }

    /// The same with all instances, one after the other.
    pub(super) async fn restart_one_by_one(&mut self) {
        for instance in 0..self.cluster.instances.len() {
            self.restart(instance).await;
        }
    }

    /// Lists the streams on each instance, at a time at which the list equals the truth.
    pub(super) async fn list_everywhere(&self) {
        sleep(LISTED_AFTER).await;
        for instance in 0..self.cluster.instances.len() {
            self.fault_run.stage().list(Endpoint::Instance(instance)).await;
        }
    }

    /// Ends the load, looks for secrets where none may be, and judges.
    pub(super) async fn end(mut self) -> Report {
        self.list_everywhere().await;
        let mut pages = vec![self.cluster.dump().await];
        for instance in &self.cluster.instances {
            let page = eventually("metrics to answer", async || instance.metrics().await.ok()).await;
            pages.push(page.into_bytes());
        }
        let trails = self.audit_trails();
        for log in self.traces.logs() {
            if let Some(instance) = instance_of(&log) {
                let text = std::fs::read(&log).expect("a log can be read");
                self.fault_run.recorder().logged(&String::from_utf8_lossy(&text), instance);
            }
        }
        let mut report = self.fault_run.close(self.targets).await;
        // Log lines at the end of processes count, too.
        drop(self.cluster);
        let (mut logs, secrets) = (self.traces.logs(), self.traces.secrets());
        logs.extend(trails);
        let secrets = Secrets::new(secrets.iter().map(String::as_str));
        let mut leaks = secrets.in_files(&logs);
        let in_pages = pages.iter().map(|page| secrets.occurrences(page)).sum::<usize>();
        leaks.extend((0..in_pages).map(|_| "the dump of Redis or the metrics".to_owned()));
        report.leaked(&leaks);
        report
    }
}

/// Path of an instance's audit trail.
pub(super) fn audit_trail(folder: &Path, instance: usize) -> PathBuf {
    folder.join(format!("audit-{}.jsonl", instance + 1))
}

/// Index of the instance that wrote a log: they have the ids 1, 2, …
fn instance_of(log: &Path) -> Option<usize> {
    let name = log.file_name()?.to_str()?.strip_prefix("operator-")?;
    let id: usize = name.split('-').next()?.parse().ok()?;
    id.checked_sub(1)
}
