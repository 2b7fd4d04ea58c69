//! One session with the log after the other: entered, read and written until something breaks, and begun anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::streams::StreamReadReply;
use redis::{Cmd, Value, from_redis_value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::item::Item;
use super::joining::{Joined, Joining};
use super::orders::{Failed, Order, Sent};
use super::replicas::Replicas;
use super::{ANSWER_DEADLINE, MOST_WAITING, RedisLog, in_time, keys, pages, within};
use crate::ambient::{Jitter, UnixMillis};
use crate::events::entry::Entry;
use crate::events::frame;
use crate::events::hub::{Gap, Hub};
use crate::events::id::{Epoch, EventId, Position};
use crate::redis::{Connection, Deployment, Dialler, Fault, RedisSettings, Topology, pipeline, revocations};
use crate::token::TokenId;

/// Called with each revocation by any instance, and the end of its tombstone.
pub type RevocationHeard = Box<dyn Fn(TokenId, UnixMillis) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long Redis holds on to a question for which it has nothing new.
const BLOCK: Duration = Duration::from_millis(250);
/// Entries read in one go.
const BATCH: usize = 100;
/// Events sent in one go.
const SENT_AT_ONCE: usize = 128;
/// In which every instance brings what a log that was founded anew may lack: all of them notice within two `BLOCK`s,
/// or as soon as they have dialled.
const WINDOW: Duration = Duration::from_millis(750);
/// The same under Sentinel, which instances hear from one by one.
const SENTINEL_WINDOW: Duration = Duration::from_secs(2);
/// Between two looks at who Redis is, and two attempts to reach it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
const BETWEEN_DIALS: Duration = Duration::from_millis(150);
/// Longest delay before a session that lasted is renewed: instances do not all dial at the same moment.
const APART: Duration = Duration::from_millis(20);

/// What a keeper is made of.
pub struct LogKeeperParts {
    /// The log it keeps in reach.
    pub log: Arc<RedisLog>,
    /// Where events go.
    pub hub: Arc<Hub>,
    /// Events that the log keeps.
    pub log_entries: usize,
    /// Keeps instances apart.
    pub jitter: Arc<Jitter>,
    /// Called with each revocation.
    pub on_revoked: RevocationHeard,
}

/// Keeps an instance in touch with the log.
pub struct LogKeeper {
    parts: LogKeeperParts,
    dialler: Arc<Dialler>,
    has_replicas: bool,
    /// Of the log as it was last joined.
    founding: String,
    /// The last revocation read, in the log as it was last joined.
    revocations_read_to: String,
    /// What was told of this outage, each reason once.
    told: Vec<&'static str>,
    away_since: Option<Instant>,
}

/// Why a session ended.
enum Ended {
    Fault(Fault),
    /// The log is not the one that was joined any longer, or Redis another: nothing is wrong with it.
    Anew,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl LogKeeper {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// When the settings contradict one another.
    pub fn new(settings: RedisSettings, parts: LogKeeperParts) -> Result<Self, Fault> {
        let has_replicas = matches!(settings.topology, Topology::Sentinel { .. });
        Ok(Self {
            parts,
            dialler: Arc::new(Dialler::new(settings)?),
            has_replicas,
            founding: String::new(),
            revocations_read_to: "0".to_owned(),
            told: Vec::new(),
            away_since: None,
        })
    }

    /// Keeps at it for ever.
    pub async fn run(mut self) {
        loop {
            let pause = self.parts.jitter.between(BETWEEN_DIALS / 2, BETWEEN_DIALS);
            let began = Instant::now();
            let Err(ended) = self.session().await;
            self.parts.log.close();
            self.parts.hub.reaches_log(false);
            self.away_since.get_or_insert_with(Instant::now);
            self.dialler.forget();
            if let Ended::Fault(fault) = ended {
                self.tell(&fault);
            }
            // A session that lasted is renewed at once, but for what keeps instances apart: publishers wait for it.
            let apart = self.parts.jitter.between(Duration::ZERO, APART);
            tokio::time::sleep_until((began + pause).max(Instant::now() + apart)).await;
        }
    }

    fn tell(&mut self, fault: &Fault) {
        if !self.told.contains(&fault.label()) {
            self.told.push(fault.label());
            tracing::warn!(
                reason = fault.label(),
                "the event log is out of reach: {fault}. Publishing is answered with 503; streams stay open and miss nothing"
            );
        }
    }

    async fn session(&mut self) -> Result<Infallible, Ended> {
        let mut incoming = self.dialler.dial().await?;
        let mut outgoing = self.dialler.dial().await?;
        let name = Deployment::read(&in_time(outgoing.info()).await?)?.epoch;
        let epoch = self.join(&mut outgoing, &name).await?;
        self.parts.log.joined(epoch);
        self.follow(&mut outgoing, epoch).await?;
        // What was missed, before anybody is told that nothing is missed any longer.
        while self.read(&mut incoming, None).await? {}

        let (orders, queue) = mpsc::channel(MOST_WAITING);
        self.parts.log.open(orders, outgoing.clone());
        self.parts.hub.reaches_log(true);
        self.told.clear();
        let away = self.away_since.take().map(|since| since.elapsed());
        tracing::info!(%epoch, ?away, "the event log is in use");

        let replicas = Replicas::new(self.has_replicas);
        let (founding, log, hub) =
            (self.founding.clone(), Arc::clone(&self.parts.log), Arc::clone(&self.parts.hub));
        let writing = Writing {
            founding,
            log_entries: self.parts.log_entries,
            replicas: &replicas,
            log: &log,
            hub: &hub,
        };
        let looking = look(Arc::clone(&self.dialler), outgoing.clone(), name, &replicas);
        let reading = async {
            loop {
                self.read(&mut incoming, Some(BLOCK)).await?;
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing.run(outgoing, queue) => ended,
            ended = looking => ended,
        }
    }

    /// Enters the log; brings it what it may lack, where it was founded anew; waits until it is open.
    async fn join(&mut self, connection: &mut Connection, name: &str) -> Result<Epoch, Ended> {
        let joining = Joining {
            name,
            jitter: &self.parts.jitter,
            window: if self.has_replicas { SENTINEL_WINDOW } else { WINDOW },
            log_entries: self.parts.log_entries,
        };
        let known = self.parts.hub.log_head();
        // To the founding of this number.
        let mut brought = self.founding.clone();
        loop {
            let mut joined = joining.ask(connection, known.map(|id| id.epoch)).await?;
            if let Some(known) = known
                && joined.epoch == Some(known.epoch)
                && joined.founding != brought
            {
                brought.clone_from(&joined.founding);
                let (horizon, kept) = self.kept(known.epoch);
                joined = joining.bring(connection, horizon, known, &kept).await?;
            }
            let Joined { founding, epoch, opens_in } = joined;
            if let Some(epoch) = epoch.filter(|_| opens_in.is_zero()) {
                if self.founding != founding {
                    // The revocations, too, may have begun anew.
                    "0".clone_into(&mut self.revocations_read_to);
                    self.founding = founding;
                }
                return Ok(epoch);
            }
            tokio::time::sleep(opens_in.max(Duration::from_millis(1))).await;
        }
    }

    /// What this instance has of the log, and up to where it has nothing.
    fn kept(&self, epoch: Epoch) -> (Position, Vec<Entry>) {
        let (horizon, kept) = self.parts.hub.kept();
        let kept = kept.into_iter().filter_map(|kept| {
            let (event_type, data) = frame::parts(&kept.frame)?;
            Some(Entry { position: kept.position, event_type, data, key: kept.key })
        });
        // Behind what was read, so that the order stands.
        let unseen = self.parts.log.unseen(epoch);
        (horizon, kept.chain(unseen).collect())
    }

    /// Goes on where this instance is in the log, or, if it is not in it, at its end.
    async fn follow(&self, connection: &mut Connection, epoch: Epoch) -> Result<(), Fault> {
        let hub = &self.parts.hub;
        match hub.log_head() {
            Some(head) if head.epoch == epoch => {}
            None => {
                let tail = pages::tail(connection, hub.ring_limits()).await?;
                hub.begin_anew(epoch, Gap::Epoch, tail.horizon, &tail.entries, tail.read_to);
            }
            Some(_) => {
                let tail = pages::tail(connection, hub.ring_limits()).await?;
                tracing::warn!(%epoch, "events were lost with the log; streams are told");
                hub.begin_anew(epoch, Gap::Epoch, tail.read_to, &[], tail.read_to);
            }
        }
        Ok(())
    }

    /// Reads what is new; says whether there was any.
    async fn read(&mut self, connection: &mut Connection, block: Option<Duration>) -> Result<bool, Ended> {
        let Some(head) = self.parts.hub.log_head() else { return Ok(false) };
        let commands = pipeline([pages::first(), self.question(head.position, block), founding()]);
        let asked = connection.ask_in_order(&commands);
        let patience = block.unwrap_or_default() + ANSWER_DEADLINE;
        let mut answers = within(patience, asked).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (first, news, founding) = (next(), next(), next());
        let founding: Option<String> = from_redis_value(founding).map_err(redis_fault)?;
        if founding.as_ref() != Some(&self.founding) {
            // What was read may have been put there before something that belongs before it.
            return Err(Ended::Anew);
        }
        let first = pages::position_of_first(first).map_err(redis_fault)?;
        if let Some(before) = first.map(Position::before).filter(|before| *before > head.position) {
            // This instance was away for longer than the log reaches back.
            tracing::warn!("events have left the log before they were read here; streams are told");
            self.parts.hub.begin_anew(head.epoch, Gap::Expired, before, &[], before);
            return Ok(true);
        }
        if news == Value::Nil {
            return Ok(false);
        }
        let reply: StreamReadReply = from_redis_value(news).map_err(redis_fault)?;
        for stream in reply.keys {
            if stream.key == keys::LOG {
                self.deliver(head, stream.ids.iter().filter_map(Item::read));
            } else {
                for (id, until) in revocations::read(&stream.ids) {
                    tracing::debug!(token_id = %id, "revocation heard");
                    (self.parts.on_revoked)(id, until).await;
                }
                if let Some(last) = stream.ids.last() {
                    self.revocations_read_to.clone_from(&last.id);
                }
            }
        }
        Ok(true)
    }

    fn question(&self, head: Position, block: Option<Duration>) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(BATCH);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis().to_string());
        }
        command.arg("STREAMS").arg(keys::LOG).arg(revocations::STREAM);
        command.arg(head.to_string()).arg(&self.revocations_read_to);
        command
    }

    fn deliver(&self, head: EventId, items: impl Iterator<Item = Item>) {
        let hub = &self.parts.hub;
        let (mut entries, mut read_to) = (Vec::new(), head);
        for item in items {
            read_to.position = item.position();
            match item {
                Item::Event(entry) => entries.push(entry),
                Item::Epoch(epoch, position) if epoch != read_to.epoch => {
                    hub.extend(&std::mem::take(&mut entries), position);
                    tracing::warn!(%epoch, "events were lost with the log; streams are told");
                    hub.begin_anew(epoch, Gap::Epoch, position, &[], position);
                    read_to.epoch = epoch;
                }
                Item::Epoch(..) | Item::Mark(_) => {}
            }
        }
        hub.extend(&entries, read_to.position);
        self.parts.log.seen(read_to);
    }
}

/// Looks from time to time whether Redis is still the one that was entered, and has its replicas.
async fn look(
    dialler: Arc<Dialler>,
    mut connection: Connection,
    name: String,
    replicas: &Replicas,
) -> Result<Infallible, Ended> {
    let server = dialler.dialled();
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let found = Deployment::read(&in_time(connection.info()).await?)?;
        if found.epoch != name {
            return Err(Ended::Anew);
        }
        let may_be_alone = replicas.found(found.replicas_in_step);
        match dialler.named_master().await {
            Some(master) if Some(&master) != server.as_ref() => return Err(Ended::Anew),
            Some(_) if may_be_alone => replicas.alone(),
            _ => {}
        }
    }
}

fn founding() -> Cmd {
    let mut command = redis::cmd("HGET");
    command.arg(keys::NOTE).arg("founding");
    command
}

fn redis_fault(error: redis::ParsingError) -> Fault {
    redis::RedisError::from(error).into()
}

/// The half of a session that sends what is published.
struct Writing<'a> {
    founding: String,
    log_entries: usize,
    replicas: &'a Replicas,
    log: &'a RedisLog,
    hub: &'a Hub,
}

impl Writing<'_> {
    async fn run(
        self,
        mut connection: Connection,
        mut queue: mpsc::Receiver<Order>,
    ) -> Result<Infallible, Ended> {
        let mut orders = Vec::new();
        loop {
            if queue.recv_many(&mut orders, SENT_AT_ONCE).await == 0 {
                return Err(Ended::Anew);
            }
            let sent = Sent::of(std::mem::take(&mut orders));
            if sent.is_empty() {
                continue;
            }
            let with_copy = self.replicas.are_needed();
            let commands = sent.commands(&self.founding, self.log_entries);
            let commands = pipeline(commands.chain(with_copy.then(Replicas::wait)));
            let mut answers = in_time(connection.ask_each(&commands)).await?;
            let copies =
                with_copy.then(|| answers.pop().and_then(|count| from_redis_value::<u64>(count).ok()));
            let is_copied = copies.is_none_or(|copies| copies.is_some_and(|copies| copies > 0));
            let answered = sent.answer(answers, is_copied, |id, publication| {
                self.log.appended(id, publication, self.hub.log_head());
            });
            match answered {
                // A full one may have room again for the next event, and can be read all the same.
                Ok(()) | Err(Failed::Fault(Fault::OutOfMemory | Fault::NotWriting(_))) => {}
                Err(Failed::NotJoined) => return Err(Ended::Anew),
                Err(Failed::Fault(fault)) => return Err(fault.into()),
            }
        }
    }
}
