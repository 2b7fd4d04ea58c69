//! The task that reads announcements of revocations from Redis and announces those that are
//! missing.
//!
//! It uses a separate connection: revocations arrive at once whatever the event log carries and
//! whether or not it is available (docs/adr/0031).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, from_redis_value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::clock::{Clock, Jitter};
use crate::metrics::Metrics;
use crate::redis::{
    Claim, Connection, Connector, Fault, MastersState, Monitor, RedisSettings, revocations, stream,
};
use crate::store::{Backend, FailoverStore, TokenStore};
use crate::token::TokenId;

/// BLOCK time of XREAD, in which Redis waits for a new announcement.
const BLOCK: Duration = Duration::from_millis(250);
/// Deadline of an answer, in addition to [`BLOCK`].
const ANSWER_DEADLINE: Duration = Duration::from_millis(500);
/// Bounds of the announcements read at once. The largest page has 130 kB; after a timeout the next
/// page is the smallest, which arrives over any link.
const LARGEST_PAGE: usize = 1000;
const SMALLEST_PAGE: usize = 10;
/// Revocations announced at once.
const ANNOUNCED_AT_ONCE: usize = 200;
/// Longest pause between two attempts to dial.
const BETWEEN_DIALS: Duration = Duration::from_millis(150);
/// Time without an answer that is logged while requests reach Redis.
const LONG: Duration = Duration::from_secs(2);

/// Dependencies of the reader.
pub struct RevocationReaderDeps {
    /// Applies the revocations that are read, and holds those that were not announced.
    pub store: Arc<FailoverStore>,
    /// Decides whether this Redis belongs to this deployment.
    pub claim: Arc<Claim>,
    /// Reports the state of Redis.
    pub monitor: Arc<Monitor>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomises pauses, so that instances do not act at the same moment.
    pub jitter: Arc<Jitter>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Called with the id of each revoked token.
    pub on_revoked: Box<dyn Fn(TokenId) + Send + Sync>,
}

/// The reader of revocations, a background task.
pub struct RevocationReader {
    parts: RevocationReaderDeps,
    connector: Connector,
    /// Name of the stream in Redis.
    stream: String,
    /// Data id at the last session.
    data: Option<String>,
    /// Losses of data that were noticed before that session.
    losses: u64,
    /// Position of the last announcement read.
    read_to: String,
    /// Number of announcements to read at once.
    page: usize,
    /// Whether all announcements were read once.
    has_caught_up: watch::Sender<bool>,
    /// Time since which announcements cannot be read.
    away_since: Option<Instant>,
    /// Number of revocations announced after a loss of data, while that is under way.
    announced_again: Option<usize>,
    /// Warnings that were logged, so that each is logged once.
    told_away: bool,
    told_invalid: bool,
    told_unannounced: bool,
}

/// Reason for the end of a session; `None` if another server or data set has to be read.
type Ended = Option<Fault>;

impl RevocationReader {
    /// Creates the task without dialling.
    ///
    /// # Errors
    /// When the settings contradict one another.
    pub fn new(settings: RedisSettings, parts: RevocationReaderDeps) -> Result<Self, Fault> {
        parts.metrics.revocations.available(false);
        Ok(Self {
            parts,
            stream: revocations::stream(&settings.namespace),
            connector: Connector::new(settings)?,
            data: None,
            losses: 0,
            read_to: revocations::BEGINNING.to_owned(),
            page: LARGEST_PAGE,
            has_caught_up: watch::Sender::new(false),
            away_since: Some(Instant::now()),
            announced_again: None,
            told_away: false,
            told_invalid: false,
            told_unannounced: false,
        })
    }

    /// Waits until all present announcements were read once.
    pub fn caught_up(&self) -> impl Future<Output = ()> + use<> {
        let mut has_caught_up = self.has_caught_up.subscribe();
        async move {
            let _ = has_caught_up.wait_for(|it| *it).await;
        }
    }

    /// Reads for as long as the instance runs, and pauses while Redis belongs to another
    /// deployment.
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
                () = claim.refused() => None,
            };
            self.note_away(ended.as_ref());
            self.connector.forget();
            tokio::time::sleep_until(began + pause).await;
        }
    }

    async fn session(&mut self) -> Result<Infallible, Ended> {
        let mut connection = self.connector.dial().await?;
        self.parts.claim.held().await;
        let losses = self.parts.store.losses();
        let found = timeout(ANSWER_DEADLINE, connection.info()).await;
        let found = found.map_err(|_elapsed| Fault::Timeout)?.map_err(Fault::from)?;
        let data_id = MastersState::read(&found)?.data_id;
        let watcher = self.parts.monitor.watch(data_id.clone(), self.connector.dialled());
        self.found(data_id, losses);
        let mut waits = false;
        loop {
            let is_end = self.read(&mut connection, waits).await?;
            self.note_in_reach();
            if self.parts.store.losses() != losses {
                return Err(None);
            }
            if is_end {
                self.has_caught_up.send_replace(true);
                self.announce(&mut connection).await?;
            }
            waits = is_end;
            if watcher.has_moved() {
                return Err(None);
            }
        }
    }

    /// Continues after the last announcement if the data is the same. After a change or loss of
    /// data, reads from the beginning and announces every known revocation.
    fn found(&mut self, data: String, losses: u64) {
        let before = self.data.replace(data);
        if before == self.data && losses == self.losses {
            return;
        }
        self.losses = losses;
        revocations::BEGINNING.clone_into(&mut self.read_to);
        if before.is_some() {
            self.parts.store.announce_all();
            self.announced_again = Some(0);
        }
    }

    /// Reads new announcements, waiting for [`BLOCK`] if `waits`. Returns whether the end was
    /// reached.
    async fn read(&mut self, connection: &mut Connection, waits: bool) -> Result<bool, Fault> {
        let question = revocations::after(&self.stream, &self.read_to, self.page, waits.then_some(BLOCK));
        let Ok(answer) = timeout(BLOCK + ANSWER_DEADLINE, connection.ask(&question)).await else {
            self.page = SMALLEST_PAGE;
            return Err(Fault::Timeout);
        };
        let answer = answer?;
        let entries = stream::news(&answer)
            .ok_or_else(|| Fault::Unexpected("XREAD was not answered with entries".to_owned()))?;
        for entry in &entries {
            self.apply_revocation(entry).await;
        }
        if let Some(last) = entries.last() {
            last.position.clone_into(&mut self.read_to);
        }
        let is_end = entries.len() < self.page;
        if !is_end {
            self.page = (self.page * 2).min(LARGEST_PAGE);
        }
        Ok(is_end)
    }

    async fn apply_revocation(&mut self, entry: &stream::StreamEntry<'_>) {
        let now = self.parts.clock.now();
        let announced = revocations::Announced::read(entry, now);
        if announced.as_ref().is_none_or(|announced| announced.is_cut_short) {
            self.parts.metrics.revocations.invalid(1);
            if !std::mem::replace(&mut self.told_invalid, true) {
                tracing::warn!(
                    key = %self.stream,
                    position = entry.position,
                    "an announcement of a revocation is invalid. One that cannot be read is left out; an end that is too late is shortened. Find out which other program writes to this Redis"
                );
            }
        }
        let Some(revocations::Announced { id, until, .. }) = announced else { return };
        tracing::debug!(token_id = %id, "revocation received");
        // An expired revocation still ends streams that are open.
        if until > now {
            self.parts.store.apply_revocation(id, until).await;
        }
        (self.parts.on_revoked)(id);
    }

    /// Announces what was not announced. Stops if another instance has announced something
    /// meanwhile, which has to be read first: it may be the same revocations.
    async fn announce(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        loop {
            let some = self.parts.store.unannounced(ANNOUNCED_AT_ONCE);
            if some.is_empty() {
                break;
            }
            let command = revocations::announcements(&self.stream, &self.read_to, &some);
            let asked = timeout(ANSWER_DEADLINE, connection.ask(&command)).await;
            let answer = asked.map_err(|_elapsed| Fault::Timeout)?.map_err(Fault::from);
            let last: Option<String> = match answer {
                Ok(answer) => from_redis_value(answer).map_err(RedisError::from)?,
                Err(fault @ (Fault::Timeout | Fault::Disconnected(_))) => return Err(fault),
                // They wait; reading still works.
                Err(fault) => {
                    if !std::mem::replace(&mut self.told_unannounced, true) {
                        tracing::warn!(
                            reason = fault.label(),
                            "revocations cannot be announced to the other instances: {fault}. They are announced as soon as possible"
                        );
                    }
                    return Ok(());
                }
            };
            let Some(last) = last else { return Ok(()) };
            self.read_to = last;
            self.parts.store.announced(&some);
            self.told_unannounced = false;
            if let Some(count) = &mut self.announced_again {
                *count += some.len();
            }
        }
        if let Some(announced) = self.announced_again.take() {
            tracing::info!(announced, "all revocations are announced again after a loss of data");
        }
        Ok(())
    }

    fn note_in_reach(&mut self) {
        let Some(since) = self.away_since.take() else { return };
        self.parts.metrics.revocations.available(true);
        if std::mem::take(&mut self.told_away) {
            tracing::info!(after = ?since.elapsed(), "revocations by other instances are read again");
        }
    }

    /// Logs that announcements cannot be read, if requests do reach Redis. Otherwise the breaker
    /// logs the outage.
    fn note_away(&mut self, fault: Option<&Fault>) {
        self.parts.metrics.revocations.available(false);
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let is_in_use = self.parts.store.backend() == Backend::Redis;
        if let Some(fault) = fault
            && is_in_use
            && since.elapsed() > LONG
            && !std::mem::replace(&mut self.told_away, true)
        {
            tracing::warn!(
                reason = fault.label(),
                "revocations by other instances cannot be read: {fault}. A revoked token opens no new stream, because Redis answers lookups. Its open streams stay open until the revocations are read"
            );
        }
    }
}
