//! The log task: one session with the log after the other.
//!
//! A session dials two connections, enters the log (`recovery`), reads it to its end, and then
//! reads and writes until an error occurs, the data id changes, or the log goes through recovery.
//! The task then starts the next session.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value, from_redis_value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::entry::LogEntry;
use super::keys::Keys;
use super::pace::{PAGE_DEADLINE, Pace};
use super::publisher::{Failed, LogLimits, PublishRequest, Sent};
use super::reader::{Beginning, Range};
use super::recovery::{Recovered, Recovery};
use super::relief::Relief;
use super::replicas::Replicas;
use super::{MOST_WAITING, RedisLog, fitting, in_time, reader, within};
use crate::clock::Jitter;
use crate::events::event::Event;
use crate::events::hub::{Hub, ResetReason};
use crate::events::id::{Epoch, EventId, Position};
use crate::redis::stream::{self, StreamEntry};
use crate::redis::{
    Claim, Connection, Connector, Fault, LoggedOnce, MastersState, Monitor, RedisSettings, Topology, Watcher,
    pipeline,
};

/// BLOCK time of XREAD, in which Redis waits for a new entry. Also the longest time in which an
/// idle reader notices a new log generation.
const BLOCK: Duration = Duration::from_millis(250);
/// Bounds of a batch of published events. 256 KiB pass within the deadline also on a slow link.
const SENT_AT_ONCE: usize = 128;
const SENT_BYTES: usize = 256 * 1024;
/// Recovery window. Every instance notices a loss within a [`BLOCK`] or an interval of the health
/// check, about 250 ms each; the rest is for dialling.
const WINDOW: Duration = Duration::from_millis(750);
/// Recovery window under Sentinel, which tells the instances about a new master one after the
/// other.
const SENTINEL_WINDOW: Duration = Duration::from_secs(2);
/// Interval of the check of the connection.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum interval between the starts of two sessions; each draws 50 to 100 % of it.
const BETWEEN_DIALS: Duration = Duration::from_millis(150);
/// Longest random delay before a session that lasted is started again, so that instances do not all
/// dial at the same moment.
const APART: Duration = Duration::from_millis(20);
/// Pause before events are re-submitted that wait for earlier ones of other instances.
const BETWEEN_SUBMISSIONS: Duration = Duration::from_millis(100);

/// Dependencies of a [`LogTask`].
pub struct LogTaskDeps {
    /// The log whose sessions the task runs.
    pub log: Arc<RedisLog>,
    /// Receives the events that are read.
    pub hub: Arc<Hub>,
    /// Bound of the log in events.
    pub log_entries: usize,
    /// Bound of the log in bytes.
    pub log_bytes: u64,
    /// Decides whether this Redis belongs to this deployment.
    pub claim: Arc<Claim>,
    /// Reports the state of Redis.
    pub monitor: Arc<Monitor>,
    /// Randomises pauses, so that instances do not act at the same moment.
    pub jitter: Arc<Jitter>,
}

/// Runs sessions with the log for as long as the instance runs.
pub struct LogTask {
    parts: LogTaskDeps,
    keys: Arc<Keys>,
    limits: LogLimits,
    relief: Arc<Relief>,
    connector: Arc<Connector>,
    /// Whether sentinels may replace the master by a replica. Decides the recovery window, and
    /// whether an event needs a copy on a replica until the first report of replicas in step.
    has_replicas: bool,
    /// Log generation that was entered last.
    generation: String,
    /// Size of the pages to read; it outlives sessions.
    pace: Pace,
    logged: LoggedOnce,
    away_since: Option<Instant>,
}

/// Why a session ended.
enum Ended {
    Fault(Fault),
    /// The log generation, the data id or the master has changed. No error: start the next session.
    Changed,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl LogTask {
    /// Creates the task without dialling.
    ///
    /// # Errors
    /// The settings contradict one another.
    pub fn new(settings: RedisSettings, parts: LogTaskDeps) -> Result<Self, Fault> {
        let has_replicas = match settings.topology {
            Topology::Sentinel { .. } => true,
            // A cluster's failover is recovered from like a restart.
            Topology::Single(_) | Topology::Cluster { .. } => false,
        };
        let limits = LogLimits { entries: parts.log_entries, bytes: parts.log_bytes };
        let keys = Arc::new(Keys::new(&settings.namespace));
        let relief = Relief::new(Arc::clone(&keys), limits.bytes, Arc::clone(&parts.log.metrics));
        Ok(Self {
            parts,
            keys,
            limits,
            relief: Arc::new(relief),
            connector: Arc::new(Connector::new(settings)?),
            has_replicas,
            generation: String::new(),
            pace: Pace::new(),
            logged: LoggedOnce::default(),
            away_since: None,
        })
    }

    /// Runs one session after the other, and pauses while Redis belongs to another deployment.
    /// Never returns; the task ends with the instance.
    pub async fn run(mut self) {
        let claim = Arc::clone(&self.parts.claim);
        loop {
            claim.not_refused().await;
            let pause = self.parts.jitter.between(BETWEEN_DIALS / 2, BETWEEN_DIALS);
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.session() => {
                    let Err(ended) = ended;
                    ended
                }
                () = claim.refused() => Ended::Changed,
            };
            self.parts.log.close();
            self.parts.hub.set_log_available(false);
            self.parts.hub.lags(false);
            self.away_since.get_or_insert_with(Instant::now);
            self.connector.forget();
            if let Ended::Fault(fault) = ended {
                if fault == Fault::Timeout {
                    self.pace.timed_out();
                }
                self.log_once(&fault);
            }
            // Publishers wait for the next session. One that lasted is therefore followed at once,
            // except for a small random delay.
            let apart = self.parts.jitter.between(Duration::ZERO, APART);
            tokio::time::sleep_until((began + pause).max(Instant::now() + apart)).await;
        }
    }

    fn log_once(&mut self, fault: &Fault) {
        if self.logged.is_new(fault) {
            tracing::warn!(
                reason = fault.label(),
                "the event log is unavailable: {fault}. Publishing is answered with 503; streams stay open and get the events later"
            );
        }
    }

    async fn session(&mut self) -> Result<Infallible, Ended> {
        let mut incoming = self.connector.dial().await?;
        let mut outgoing = self.connector.dial().await?;
        let found = MastersState::read(&in_time(outgoing.info()).await?)?;
        // Entering the log may write to it. Wait for the confirmation that it is ours.
        self.parts.claim.held().await;
        let relief = Arc::clone(&self.relief);
        relief.check_rights(&mut outgoing).await?;
        relief.check(&mut outgoing, &found).await?;
        let data_id = found.data_id;
        let watcher = self.parts.monitor.watch(data_id.clone(), self.connector.dialled());
        let epoch = match self.join(&mut outgoing, &data_id).await {
            // Recovery writes. Make room; the next session tries again.
            Err(Ended::Fault(Fault::OutOfMemory)) => {
                relief.relieve(&mut outgoing).await?;
                return Err(Fault::OutOfMemory.into());
            }
            joined => joined?,
        };
        self.parts.log.entered(epoch);
        let replicas = Replicas::new(self.has_replicas);
        // A page may take seconds on a slow link. The check uses the other connection meanwhile.
        let keys = Arc::clone(&self.keys);
        let mut checking = pin!(check(watcher, outgoing.clone(), &keys, &replicas, &relief));
        // Read what was missed before clients learn that the log is available.
        tokio::select! {
            read = self.follow(&mut incoming, epoch) => read?,
            ended = &mut checking => return ended,
        }

        let (requests, queue) = mpsc::channel(MOST_WAITING);
        self.parts.log.open(requests);
        self.parts.hub.set_log_available(true);
        self.logged.clear();
        let away = self.away_since.take().map(|since| since.elapsed());
        tracing::info!(%epoch, ?away, "the event log is available");

        let generation = self.generation.clone();
        let (log, hub) = (Arc::clone(&self.parts.log), Arc::clone(&self.parts.hub));
        let writing = Writing {
            generation: generation.clone(),
            limits: self.limits,
            keys: &keys,
            relief: &relief,
            replicas: &replicas,
            log: &log,
            hub: &hub,
        };
        let connector = Arc::clone(&self.connector);
        let serving = log.catch_up.serve(&connector, &keys, &generation);
        let reading = async {
            loop {
                self.read(&mut incoming).await?;
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing.run(outgoing, queue) => ended,
            ended = checking => ended,
            never = serving => match never {},
        }
    }

    /// Enters the log, re-submits events if it is in recovery, and waits until it is open.
    async fn join(&mut self, connection: &mut Connection, data_id: &str) -> Result<Epoch, Ended> {
        let joining = Recovery {
            keys: &self.keys,
            data_id,
            jitter: &self.parts.jitter,
            window: if self.has_replicas { SENTINEL_WINDOW } else { WINDOW },
            limits: self.limits,
        };
        let known = self.parts.hub.log_head();
        // Generation to which everything was re-submitted.
        let mut submitted = self.generation.clone();
        loop {
            let mut joined = joining.ask(connection, known.map(|id| id.epoch)).await?;
            if let Some(known) = known
                && joined.epoch == Some(known.epoch)
                && joined.generation != submitted
            {
                let (horizon, held) = self.ring_content(known.epoch);
                let asked = joined;
                joined = joining.submit(connection, &asked, horizon, known, &held).await?;
                if !joined.waits {
                    submitted = asked.generation;
                }
            }
            let Recovered { generation, epoch, opens_in, waits, .. } = joined;
            if let Some(epoch) = epoch.filter(|_| opens_in.is_zero()) {
                self.generation = generation;
                return Ok(epoch);
            }
            let pause = if waits { opens_in.min(BETWEEN_SUBMISSIONS) } else { opens_in };
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// The horizon, and the events that this instance holds: its ring, then its unconfirmed events.
    fn ring_content(&self, epoch: Epoch) -> (Position, Vec<Event>) {
        let (horizon, mut events) = self.parts.hub.held();
        // Unconfirmed events have ids after the head, so the order is kept.
        events.extend(self.parts.log.unconfirmed(epoch));
        (horizon, events)
    }

    /// Continues at the head of this instance's ring and reads to the end of the log. An empty ring
    /// is filled from the tail; a ring of another log epoch is discarded, and streams get `reset`.
    async fn follow(&mut self, connection: &mut Connection, epoch: Epoch) -> Result<(), Ended> {
        let hub = Arc::clone(&self.parts.hub);
        match hub.log_head() {
            Some(head) if head.epoch == epoch => {}
            None => {
                let tail = reader::tail(
                    connection,
                    &self.keys,
                    &self.generation,
                    epoch,
                    hub.ring_limits(),
                    &mut self.pace,
                )
                .await?;
                let tail = tail.ok_or(Ended::Changed)?;
                hub.restart(epoch, ResetReason::Epoch, tail.horizon, &tail.events, tail.read_to);
            }
            Some(_) => {
                let end = reader::end(connection, &self.keys, &self.generation, &mut self.pace)
                    .await?
                    .ok_or(Ended::Changed)?;
                tracing::warn!(%epoch, "events were lost, so a new log epoch began; all streams get a reset");
                hub.restart(epoch, ResetReason::Epoch, end, &[], end);
            }
        }
        self.read_to_end(connection).await
    }

    /// Reads to the end of the log, page by page.
    async fn read_to_end(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        loop {
            let head = self.parts.hub.log_head().ok_or(Ended::Changed)?;
            let question =
                Range::after(head.position, self.pace.bytes()).question(&self.keys, &self.generation);
            let page = reader::ask(connection, &question, &mut self.pace).await?.ok_or(Ended::Changed)?;
            if self.has_lost(head, page.beginning) {
                continue;
            }
            self.deliver(head, &page.entries());
            self.parts.hub.lags(page.more);
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Waits for new entries, at most [`BLOCK`], and reads them. XREAD bounds its answer in entries
    /// only, so it returns at most as many as fit into a page at the largest size; more are read in
    /// pages.
    async fn read(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        let head = self.parts.hub.log_head().ok_or(Ended::Changed)?;
        let most = self.pace.events();
        // XREAD comes first. An entry that the log holds when the script runs, it also held when
        // XREAD ran.
        let commands = pipeline([
            news(&self.keys, head.position, most),
            reader::beginning(&self.keys, &self.generation),
        ]);
        let asked = connection.ask_in_order(&commands);
        let mut answers = within(BLOCK + PAGE_DEADLINE, asked).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (news, beginning) = (next(), next());
        let beginning = Beginning::read(beginning)?.ok_or(Ended::Changed)?;
        if self.has_lost(head, beginning) || news == Value::Nil {
            return Ok(());
        }
        let entries = stream::news(&news)
            .ok_or_else(|| Fault::Unexpected("XREAD was not answered with entries".to_owned()))?;
        self.deliver(head, &entries);
        if entries.len() < most { Ok(()) } else { self.read_to_end(connection).await }
    }

    /// Whether entries after `head` have left the log before they were read. The ring then
    /// continues where the log begins, and streams get `reset`.
    fn has_lost(&self, head: EventId, beginning: Beginning) -> bool {
        let Some(lost) = beginning.lost_after(head.position) else { return false };
        tracing::warn!("events left the event log before this instance read them, so streams get a reset");
        self.parts.hub.restart(head.epoch, ResetReason::Expired, lost, &[], lost);
        true
    }

    fn deliver(&self, head: EventId, entries: &[StreamEntry<'_>]) {
        let hub = &self.parts.hub;
        let (mut events, mut read_to, mut unreadable) = (Vec::new(), head, 0_u64);
        for entry in entries {
            let Some(entry) = LogEntry::read(entry, read_to.epoch) else { continue };
            read_to.position = entry.position();
            match entry {
                LogEntry::Event(event) => events.push(event),
                LogEntry::Epoch(epoch, position) if epoch != read_to.epoch => {
                    hub.extend(&std::mem::take(&mut events), position);
                    tracing::warn!(%epoch, "events were lost, so a new log epoch began; all streams get a reset");
                    hub.restart(epoch, ResetReason::Epoch, position, &[], position);
                    read_to.epoch = epoch;
                }
                LogEntry::Unreadable(position) => {
                    hub.extend(&std::mem::take(&mut events), position);
                    hub.restart(read_to.epoch, ResetReason::Expired, position, &[], position);
                    unreadable += 1;
                }
                LogEntry::Epoch(..) | LogEntry::Mark(_) => {}
            }
        }
        if unreadable > 0 {
            self.parts.log.metrics.events.unreadable(unreadable);
            tracing::warn!(
                count = unreadable,
                "the event log has events that this version cannot read; streams get a reset there. Update all instances to the same version"
            );
        }
        hub.extend(&events, read_to.position);
        self.parts.log.confirm(read_to);
    }
}

/// Ends a session if its connection does not answer, or if Redis is found to be another server or
/// data set. Keeps the view of replicas and free memory current.
async fn check(
    mut watcher: Watcher,
    mut connection: Connection,
    keys: &Keys,
    replicas: &Replicas,
    relief: &Relief,
) -> Result<Infallible, Ended> {
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // EXISTS asks the node that has the log. PING would ask every master of a Redis Cluster.
    let mut question = redis::cmd("EXISTS");
    question.arg(&keys.state);
    loop {
        tokio::select! {
            report = watcher.next() => {
                let report = report.ok_or(Ended::Changed)?;
                relief.check(&mut connection, &report.masters).await?;
                let may_be_alone = replicas.found(report.masters.replicas_in_step);
                if report.master.is_some() && may_be_alone {
                    replicas.alone();
                }
            }
            _ = checks.tick() => {
                in_time(connection.ask(&question)).await?;
            }
        }
    }
}

/// XREAD for the entries after `position`.
fn news(keys: &Keys, position: Position, most: usize) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(most).arg("BLOCK").arg(BLOCK.as_millis().to_string());
    command.arg("STREAMS").arg(&keys.log).arg(position.to_string());
    command
}

/// The writing half of a session.
struct Writing<'a> {
    keys: &'a Keys,
    generation: String,
    limits: LogLimits,
    relief: &'a Relief,
    replicas: &'a Replicas,
    log: &'a RedisLog,
    hub: &'a Hub,
}

impl Writing<'_> {
    async fn run(
        self,
        mut connection: Connection,
        mut queue: mpsc::Receiver<PublishRequest>,
    ) -> Result<Infallible, Ended> {
        let mut requests = Vec::new();
        loop {
            if requests.is_empty() && queue.recv_many(&mut requests, SENT_AT_ONCE).await == 0 {
                return Err(Ended::Changed);
            }
            let later = requests.split_off(fitting(SENT_BYTES, requests.iter().map(PublishRequest::bytes)));
            let sent = Sent::of(std::mem::replace(&mut requests, later));
            if sent.is_empty() {
                continue;
            }
            let with_copy = self.replicas.are_needed();
            let commands = sent.commands(self.keys, &self.generation, self.limits);
            let commands = pipeline(commands.chain(with_copy.then(Replicas::wait)));
            let mut answers = in_time(connection.ask_each(&commands)).await?;
            let copies =
                with_copy.then(|| answers.pop().and_then(|count| from_redis_value::<u64>(count).ok()));
            let is_copied = copies.is_none_or(|copies| copies.is_some_and(|copies| copies > 0));
            let answered = sent.answer(answers, is_copied, |id, publication| {
                self.log.appended(id, publication, self.hub.log_head());
            });
            match answered {
                // Reading still works; publishers were answered.
                Ok(()) | Err(Failed::Fault(Fault::NotWriting(_))) => {}
                Err(Failed::Fault(Fault::OutOfMemory)) => self.relief.relieve(&mut connection).await?,
                Err(Failed::OtherGeneration) => return Err(Ended::Changed),
                Err(Failed::Fault(fault)) => return Err(fault.into()),
            }
        }
    }
}
