//! Upkeep of leases and tickets: the background task that renews the alive entry of this instance,
//! releases what ended streams held, and takes again what Redis may have lost.
//!
//! Everything is taken again after each of these:
//!
//! - The session is another one: the alive entry was not renewed in time (an outage, a pause of the
//!   process), or is gone (`FLUSHALL`). Other instances count the leases of the former session as
//!   void.
//! - The generation of the store is another one: it was out of use, or holds different data.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::admission::Admission;
use crate::events::StreamId;
use crate::store::{AdmissionStore, Renewal};

/// Interval of renewals.
const INTERVAL: Duration = Duration::from_millis(250);
/// Pause while there is nothing to do, or nothing can be done.
const PAUSE: Duration = Duration::from_millis(100);
/// Commands that are sent at once.
const BATCH: usize = 100;

/// The upkeep of an instance with Redis, a background task.
pub struct Upkeep {
    admission: Arc<Admission>,
    store: Arc<dyn AdmissionStore>,
    session: Option<u64>,
    generation: Option<u64>,
    last_begun: Option<Instant>,
    /// Replaced streams that were ended, for the next renewal.
    ended: Vec<String>,
    gives_up: bool,
    /// Time up to which the tickets were released.
    settled: u64,
    /// A renewal, and the number of the work that was there after it.
    mark: Option<(u64, u64)>,
}

impl Upkeep {
    /// Creates the task; `None` without Redis.
    #[must_use]
    pub fn new(admission: &Arc<Admission>) -> Option<Self> {
        let store = admission.shared.deps.store.clone()?;
        Some(Self {
            admission: Arc::clone(admission),
            store,
            session: None,
            generation: None,
            last_begun: None,
            ended: Vec::new(),
            gives_up: false,
            settled: 0,
            mark: None,
        })
    }

    /// Renews once. Called before the first request, so that the first streams already have leases.
    pub async fn begin(&mut self) {
        if self.store.is_available() {
            self.renew().await;
        }
    }

    /// Works for as long as the instance runs.
    pub async fn run(mut self) {
        loop {
            let has_more = self.step().await;
            if has_more {
                continue;
            }
            let work = self.admission.shared.work.notified();
            let is_possible = self.admission.shared.store().is_some();
            let pause = self.last_begun.map_or(PAUSE, |begun| {
                INTERVAL.saturating_sub(begun.elapsed()).clamp(Duration::from_millis(1), PAUSE)
            });
            tokio::select! {
                () = work, if is_possible => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Renews if it is time, and sends one batch of each kind. Returns whether there is more to do
    /// at once.
    async fn step(&mut self) -> bool {
        if !self.store.is_available() {
            return false;
        }
        if self.last_begun.is_none_or(|begun| begun.elapsed() >= INTERVAL) {
            self.renew().await;
        }
        let Some(renewed) = self.admission.shared.presence.last() else { return false };
        let released = self.release_leases().await;
        let settled = self.settle_tickets().await;
        let confirmed = self.confirm_leases(renewed).await;
        // After a failure, the next step waits.
        let all = [released, settled, confirmed];
        all.contains(&Some(true)) && !all.contains(&None)
    }

    async fn renew(&mut self) {
        let asked_at = Instant::now();
        self.last_begun = Some(asked_at);
        let Admission { shared, leases, tickets } = &*self.admission;
        let generation = self.store.generation();
        self.gives_up |= leases.has_overflowed();
        if let Some((at, _)) = self.mark.take_if(|(_, number)| tickets.is_done_before(*number)) {
            self.settled = at;
        }
        let renewal = Renewal { gives_up: self.gives_up, settled: self.settled, ended: self.ended.clone() };
        let Ok(renewed) = self.store.renew(&renewal).await else { return };
        self.gives_up = false;
        self.mark.get_or_insert((renewed.at, tickets.next_number()));
        let is_other_session = self.session.replace(renewed.session) != Some(renewed.session);
        let is_other_generation = self.generation.replace(generation) != Some(generation);
        if is_other_session || is_other_generation {
            leases.lose();
            tickets.lose();
        }
        shared.presence.renewed(renewed.at, asked_at);
        for stream in renewed.replaced.iter().filter_map(|id| StreamId::parse(id)) {
            leases.replace(stream);
        }
        self.ended = renewed.replaced;
    }

    /// Releases a batch of leases. Returns whether there were any; `None` after a failure.
    async fn release_leases(&self) -> Option<bool> {
        let releases = self.admission.leases.releases(BATCH);
        if releases.is_empty() {
            return Some(false);
        }
        self.store.release_leases(&releases).await.ok()?;
        self.admission.leases.released(releases.len());
        Some(true)
    }

    /// Tells Redis a batch of changes of tickets.
    async fn settle_tickets(&self) -> Option<bool> {
        let changes = self.admission.tickets.changes(BATCH);
        if changes.changes.is_empty() {
            return Some(false);
        }
        let answers = self.store.settle_tickets(&changes.changes).await.ok();
        let has_succeeded = answers.is_some();
        self.admission.tickets.settled(changes, answers);
        has_succeeded.then_some(true)
    }

    /// Takes a batch of leases again.
    async fn confirm_leases(&self, renewed: u64) -> Option<bool> {
        let wanted = self.admission.leases.unconfirmed(BATCH, renewed);
        if wanted.is_empty() {
            return Some(false);
        }
        let answers = self.store.take_all_leases(&wanted).await.ok();
        self.admission.leases.confirmed(&wanted, answers).then_some(true)
    }
}
