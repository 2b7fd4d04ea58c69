//! The task that reads what all instances announce in Redis: revocations, orders about subjects and
//! streams, and questions. It also announces what is missing there.
//!
//! It uses a separate connection: revocations arrive at once whatever the event log carries and
//! whether or not it is available (docs/adr/0031).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, from_redis_value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Control;
use super::order::{Order, Received};
use crate::clock::{Clock, Jitter, UnixMillis};
use crate::metrics::Metrics;
use crate::redis::announce::{self, Announcements, Position};
use crate::redis::stream::{self, StreamEntry};
use crate::redis::{
    Claim, Connection, Connector, Fault, MastersState, Monitor, RedisSettings, control, questions,
    revocations,
};
use crate::store::{Backend, FailoverStore, TokenStore};
use crate::token::TokenId;

/// BLOCK time of XREAD, in which Redis waits for a new announcement.
const BLOCK: Duration = Duration::from_millis(250);
/// Deadline of an answer, in addition to [`BLOCK`].
const ANSWER_DEADLINE: Duration = Duration::from_millis(500);
/// Time for which this instance counts as knowing all orders after it has read them: two reads of
/// the longest duration.
pub(super) const CURRENT_FOR: Duration = BLOCK.saturating_add(ANSWER_DEADLINE).saturating_mul(2);
/// Interval of asking where the streams of orders begin.
const BETWEEN_BEGINNINGS: Duration = Duration::from_secs(1);
/// Bounds of the entries read at once of each stream. The largest page of revocations has 130 kB;
/// after a timeout the next page is the smallest, which arrives over any link.
const LARGEST_PAGE: usize = 1000;
const SMALLEST_PAGE: usize = 10;
/// Entries announced at once.
const ANNOUNCED_AT_ONCE: usize = 200;
/// Longest pause between two attempts to dial.
const BETWEEN_DIALS: Duration = Duration::from_millis(150);
/// Time without an answer that is logged while requests reach Redis.
const LONG: Duration = Duration::from_secs(2);

/// Dependencies of the reader.
pub struct ReaderDeps {
    /// Applies the revocations that are read, and holds those that were not announced.
    pub store: Arc<FailoverStore>,
    /// Carries out the orders that are read, and holds those that were not announced.
    pub control: Arc<Control>,
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

/// The reader of announcements, a background task.
pub struct Reader {
    parts: ReaderDeps,
    connector: Connector,
    sources: [Source; 4],
    /// Data id at the last session.
    data: Option<String>,
    /// Losses of data that were noticed before that session.
    losses: u64,
    /// Time of Redis at the beginning of the session, and that moment.
    redis_time: (UnixMillis, Instant),
    /// Time of the last question where the streams of orders begin.
    asked_beginnings_at: Instant,
    /// Number of entries to read of each stream at once.
    page: usize,
    /// Whether all entries were read once.
    has_caught_up: watch::Sender<bool>,
    /// Time since which announcements cannot be read.
    away_since: Option<Instant>,
    /// Number of revocations and orders announced after a loss of data, while that is under way.
    announced_again: Option<usize>,
    /// Warnings that were logged, so that each is logged once.
    has_warned_away: bool,
    has_warned_unannounced: bool,
}

/// A stream in Redis.
struct Source {
    kind: Kind,
    name: String,
    /// Position of the last entry read.
    read_to: String,
    /// Whether an invalid entry was logged.
    has_warned_invalid: bool,
}

impl Source {
    /// Logs the first invalid entry.
    fn log_invalid(&mut self, entry: &StreamEntry<'_>, reason: &str) {
        if !std::mem::replace(&mut self.has_warned_invalid, true) {
            tracing::warn!(
                key = %self.name,
                position = entry.position,
                "{reason}. Find out which other program writes to this Redis"
            );
        }
    }
}

/// Kind of the entries of a stream.
#[derive(Clone, Copy)]
enum Kind {
    Revocations,
    Orders(&'static Announcements),
    Questions,
}

/// Announcements that are missing in a stream.
enum Missing {
    Revocations(Vec<(TokenId, UnixMillis)>),
    Orders(&'static Announcements, Vec<Order>),
}

impl Missing {
    const fn what(&self) -> &'static str {
        match self {
            Self::Revocations(_) => "revocations",
            Self::Orders(..) => "orders about subjects and streams",
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Revocations(revocations) => revocations.len(),
            Self::Orders(_, orders) => orders.len(),
        }
    }

    /// Command that announces them unless there are entries after `read_to`.
    fn command(&self, stream: &str, read_to: &str) -> Cmd {
        match self {
            Self::Revocations(missing) => revocations::announcements(stream, read_to, missing),
            Self::Orders(announcements, orders) => {
                let orders: Vec<_> = orders.iter().map(|order| order.fields(None)).collect();
                announcements.announcements(stream, read_to, &orders)
            }
        }
    }
}

/// Reason for the end of a session; `None` if another server or data set has to be read.
type Ended = Option<Fault>;

impl Reader {
    /// Creates the task without dialling.
    ///
    /// # Errors
    /// The settings contradict one another.
    pub fn new(settings: RedisSettings, parts: ReaderDeps) -> Result<Self, Fault> {
        parts.metrics.revocations.available(false);
        parts.metrics.control.available(false);
        let namespace = &settings.namespace;
        let source = |kind, name| Source {
            kind,
            name,
            read_to: announce::BEGINNING.to_owned(),
            has_warned_invalid: false,
        };
        let orders = |announcements: &'static Announcements| {
            source(Kind::Orders(announcements), announcements.stream(namespace))
        };
        let sources = [
            source(Kind::Revocations, revocations::stream(namespace)),
            orders(&control::ORDERS),
            orders(&control::BLOCKS),
            source(Kind::Questions, questions::stream(namespace)),
        ];
        Ok(Self {
            parts,
            sources,
            connector: Connector::new(settings)?,
            data: None,
            losses: 0,
            redis_time: (UnixMillis(0), Instant::now()),
            asked_beginnings_at: Instant::now(),
            page: LARGEST_PAGE,
            has_caught_up: watch::Sender::new(false),
            away_since: Some(Instant::now()),
            announced_again: None,
            has_warned_away: false,
            has_warned_unannounced: false,
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
        let found = in_time(connection.info()).await?;
        self.redis_time = (redis_time(&mut connection).await?, Instant::now());
        let data_id = MastersState::read(&found)?.data_id;
        let watcher = self.parts.monitor.watch(data_id.clone(), self.connector.dialled());
        self.found(data_id, losses);
        let mut waits = false;
        loop {
            let asked_at = Instant::now();
            let is_end = self.read(&mut connection, waits).await?;
            if self.parts.store.losses() != losses {
                return Err(None);
            }
            if is_end {
                self.parts.control.became_current(asked_at);
                self.note_in_reach();
                self.has_caught_up.send_replace(true);
                self.ask_beginnings(&mut connection).await?;
                self.announce(&mut connection).await?;
            } else if !self.parts.control.is_current() {
                self.note_away(None);
            }
            waits = is_end;
            if watcher.has_moved() {
                return Err(None);
            }
        }
    }

    /// Continues after the last entries if the data is the same. After a change or loss of data,
    /// reads from the beginning and announces everything that is known.
    fn found(&mut self, data: String, losses: u64) {
        let before = self.data.replace(data);
        if before == self.data && losses == self.losses {
            return;
        }
        self.losses = losses;
        for source in &mut self.sources {
            announce::BEGINNING.clone_into(&mut source.read_to);
        }
        if before.is_some() {
            self.parts.store.announce_all();
            self.parts.control.announce_all();
            self.announced_again = Some(0);
        }
    }

    /// Reads new entries, waiting for [`BLOCK`] if `waits`. Returns whether the end of all streams
    /// was reached.
    async fn read(&mut self, connection: &mut Connection, waits: bool) -> Result<bool, Fault> {
        let positions = self.sources.iter().map(|source| (source.name.as_str(), source.read_to.as_str()));
        let question = announce::after(positions, self.page, waits.then_some(BLOCK));
        let Ok(answer) = timeout(BLOCK + ANSWER_DEADLINE, connection.ask(&question)).await else {
            self.page = SMALLEST_PAGE;
            return Err(Fault::Timeout);
        };
        let answer = answer?;
        let found = stream::news_of_each(&answer)
            .ok_or_else(|| Fault::Unexpected("XREAD was not answered with entries".to_owned()))?;
        let mut is_end = true;
        for (name, entries) in &found {
            let Some(place) = self.sources.iter().position(|source| source.name == *name) else { continue };
            match self.sources[place].kind {
                Kind::Revocations => {
                    for entry in entries {
                        self.apply_revocation(place, entry).await;
                    }
                }
                Kind::Orders(_) => self.apply_orders(place, entries),
                Kind::Questions => {
                    for entry in entries {
                        self.parts.control.answer(entry);
                    }
                }
            }
            if let Some(last) = entries.last() {
                last.position.clone_into(&mut self.sources[place].read_to);
            }
            is_end &= entries.len() < self.page;
        }
        if !is_end {
            self.page = (self.page * 2).min(LARGEST_PAGE);
        }
        Ok(is_end)
    }

    async fn apply_revocation(&mut self, place: usize, entry: &StreamEntry<'_>) {
        let now = self.parts.clock.now();
        let announced = revocations::Announced::read(entry, now);
        if announced.as_ref().is_none_or(|announced| announced.is_cut_short) {
            self.parts.metrics.revocations.invalid(1);
            self.sources[place].log_invalid(
                entry,
                "an announcement of a revocation is invalid. One that cannot be read is left out; an end that is too late is shortened",
            );
        }
        let Some(revocations::Announced { id, until, .. }) = announced else { return };
        tracing::debug!(token_id = %id, "revocation received");
        // An expired revocation still ends streams that are open.
        if until > now {
            self.parts.store.apply_revocation(id, until).await;
        }
        (self.parts.on_revoked)(id);
    }

    fn apply_orders(&mut self, place: usize, entries: &[StreamEntry<'_>]) {
        let (time, since) = self.redis_time;
        let redis_now = time.plus(since.elapsed());
        let mut received = Vec::with_capacity(entries.len());
        for entry in entries {
            let read = Received::read(entry, redis_now);
            if read.as_ref().is_none_or(|read| read.is_clamped) {
                self.parts.metrics.control.invalid();
                self.sources[place].log_invalid(
                    entry,
                    "an order about a subject or streams is invalid. One that cannot be read is left out; a time that is too late is moved",
                );
            }
            received.extend(read);
        }
        self.parts.control.receive(received);
    }

    /// Asks about once a second where the streams of orders begin. Orders that have left them are
    /// announced again.
    async fn ask_beginnings(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        if self.asked_beginnings_at.elapsed() < BETWEEN_BEGINNINGS {
            return Ok(());
        }
        self.asked_beginnings_at = Instant::now();
        for source in &self.sources {
            let Kind::Orders(stream) = source.kind else { continue };
            let answer = in_time(connection.ask(&announce::first(&source.name))).await?;
            let first = stream::entries(&answer)
                .ok_or_else(|| Fault::Unexpected("XRANGE was not answered with entries".to_owned()))?;
            // An empty stream has none of what was read.
            let first = match first.first() {
                Some(first) => Position::parse(first.position),
                None => Position::parse(&source.read_to).map(Position::next),
            };
            if let Some(first) = first {
                self.parts.control.begins_at(stream, first);
            }
        }
        Ok(())
    }

    /// Announces what was not announced, for [`BLOCK`] at most: what others announce has to be read
    /// meanwhile.
    async fn announce(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let until = Instant::now() + BLOCK;
        let mut is_complete = true;
        for place in 0..self.sources.len() {
            is_complete &= self.announce_missing(connection, place, until).await?;
        }
        if is_complete && let Some(announced) = self.announced_again.take() {
            tracing::info!(
                announced,
                "all revocations are announced again after a loss of data, and all orders about subjects and streams"
            );
        }
        Ok(())
    }

    /// Announces what is missing in a stream. Stops at `until`, or if another instance has
    /// announced something meanwhile, which has to be read first: it may be the same. Returns
    /// whether nothing is missing any more.
    async fn announce_missing(
        &mut self,
        connection: &mut Connection,
        place: usize,
        until: Instant,
    ) -> Result<bool, Fault> {
        while let Some(missing) = self.missing(self.sources[place].kind) {
            if Instant::now() >= until {
                return Ok(false);
            }
            let source = &mut self.sources[place];
            let command = missing.command(&source.name, &source.read_to);
            let positions: Option<Vec<String>> = match in_time(connection.ask(&command)).await {
                Ok(answer) => from_redis_value(answer).map_err(RedisError::from)?,
                Err(fault @ (Fault::Timeout | Fault::Disconnected(_))) => return Err(fault),
                // They wait; reading still works.
                Err(fault) => {
                    if !std::mem::replace(&mut self.has_warned_unannounced, true) {
                        tracing::warn!(
                            reason = fault.label(),
                            "{} cannot be announced to the other instances: {fault}. They are announced as soon as possible",
                            missing.what()
                        );
                    }
                    return Ok(false);
                }
            };
            let Some(last) = positions.as_ref().and_then(|positions| positions.last()) else {
                return Ok(false);
            };
            last.clone_into(&mut source.read_to);
            match &missing {
                Missing::Revocations(revocations) => self.parts.store.announced(revocations),
                Missing::Orders(_, orders) => {
                    let positions = positions.iter().flatten().filter_map(|text| Position::parse(text));
                    self.parts.control.announced(orders, &positions.collect::<Vec<_>>());
                }
            }
            self.has_warned_unannounced = false;
            if let Some(count) = &mut self.announced_again {
                *count += missing.len();
            }
        }
        Ok(true)
    }

    /// Some of the announcements that are missing in a stream.
    fn missing(&self, kind: Kind) -> Option<Missing> {
        let missing = match kind {
            Kind::Revocations => Missing::Revocations(self.parts.store.unannounced(ANNOUNCED_AT_ONCE)),
            Kind::Orders(stream) => {
                Missing::Orders(stream, self.parts.control.unannounced(stream, ANNOUNCED_AT_ONCE))
            }
            Kind::Questions => return None,
        };
        (missing.len() > 0).then_some(missing)
    }

    fn note_in_reach(&mut self) {
        let Some(since) = self.away_since.take() else { return };
        self.parts.metrics.revocations.available(true);
        self.parts.metrics.control.available(true);
        if std::mem::take(&mut self.has_warned_away) {
            tracing::info!(after = ?since.elapsed(), "revocations by other instances are read again");
        }
    }

    /// Notes that announcements cannot be read to their end. Logs it with the fault if requests do
    /// reach Redis. Otherwise the breaker logs the outage.
    fn note_away(&mut self, fault: Option<&Fault>) {
        self.parts.metrics.revocations.available(false);
        self.parts.metrics.control.available(false);
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let is_in_use = self.parts.store.backend() == Backend::Redis;
        if let Some(fault) = fault
            && is_in_use
            && since.elapsed() > LONG
            && !std::mem::replace(&mut self.has_warned_away, true)
        {
            tracing::warn!(
                reason = fault.label(),
                "revocations by other instances cannot be read: {fault}. A revoked token opens no new stream, because Redis answers lookups. Its open streams stay open, and orders about subjects and streams have no effect here, until they are read"
            );
        }
    }
}

/// An answer within [`ANSWER_DEADLINE`].
async fn in_time<T>(answer: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
    Ok(timeout(ANSWER_DEADLINE, answer).await.map_err(|_elapsed| Fault::Timeout)??)
}

/// The present time of Redis.
async fn redis_time(connection: &mut Connection) -> Result<UnixMillis, Fault> {
    let answer = in_time(connection.ask(&redis::cmd("TIME"))).await?;
    let (seconds, micros): (u64, u64) = from_redis_value(answer).map_err(RedisError::from)?;
    Ok(UnixMillis(seconds.saturating_mul(1000).saturating_add(micros / 1000)))
}
