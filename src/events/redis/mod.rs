//! The log of all instances, in Redis: a stream that every instance appends to and reads to its end.
//!
//! Redis gives the order and the ids; each instance's ring is a copy of the end of the log. A [`LogKeeper`] keeps one
//! session with the log at a time (`session`): it enters the log (`joining`), reads what is new, and sends what is
//! published (`orders`). When Redis has lost data, the instances bring the log back from their rings before anyone
//! publishes again (docs/adr/0018). [`RedisLog`] is what publishers and streams see of it.

mod item;
mod joining;
mod keys;
mod orders;
mod pages;
mod replicas;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use redis::RedisResult;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use self::orders::{Order, UNAVAILABLE, UNKNOWN};
pub use self::session::{LogKeeper, LogKeeperParts, RevocationHeard};
use super::bus::{EventBus, PublishError, Published};
use super::entry::Entry;
use super::history::{History, Page, Unreachable};
use super::hub::SharedLog;
use super::id::{Epoch, EventId, Position};
use super::publication::Publication;
use crate::metrics::Metrics;
use crate::redis::{Connection, Fault};

/// No request waits longer for Redis.
const PUBLISH_DEADLINE: Duration = Duration::from_millis(150);
/// For whatever is not a request.
const ANSWER_DEADLINE: Duration = Duration::from_millis(500);
/// Events that wait to be sent; more are refused.
const MOST_WAITING: usize = 4096;
/// Streams that read the log at the same time.
const READERS: usize = 8;

/// The log, as publishers and streams see it.
pub struct RedisLog {
    metrics: Arc<Metrics>,
    /// While there is a session.
    open: RwLock<Option<Open>>,
    opened: Notify,
    /// Events that were acknowledged here and have yet to come back in the log's order. If the log is lost before they
    /// do, this instance is the only one that knows them.
    unseen: Mutex<BTreeMap<Position, (EventId, Publication)>>,
    readers: Semaphore,
}

/// The way to the log.
struct Open {
    orders: mpsc::Sender<Order>,
    connection: Connection,
}

impl RedisLog {
    /// Out of reach, until a [`LogKeeper`] reaches it.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            open: RwLock::new(None),
            opened: Notify::new(),
            unseen: Mutex::default(),
            readers: Semaphore::new(READERS),
        }
    }

    /// As streams know it.
    #[must_use]
    pub fn shared(self: &Arc<Self>) -> SharedLog {
        SharedLog(Arc::clone(self) as Arc<dyn History>)
    }

    /// Waits until it is in reach for the first time, or again.
    pub async fn opened(&self) {
        let opened = self.opened.notified();
        if self.open.read().is_none() {
            opened.await;
        }
    }

    fn open(&self, open: Open) {
        *self.open.write() = Some(open);
        self.opened.notify_waiters();
    }

    fn close(&self) {
        *self.open.write() = None;
    }

    /// An event is in the log. `read_to` is how far this instance has read.
    fn appended(&self, id: EventId, publication: &Publication, read_to: Option<EventId>) {
        self.metrics.events.published();
        let is_read = read_to.is_some_and(|read| read.epoch == id.epoch && read.position >= id.position);
        if !is_read {
            self.unseen.lock().insert(id.position, (id, publication.clone()));
        }
    }

    /// Whatever is not behind `read_to` has come back.
    fn seen(&self, read_to: EventId) {
        let mut unseen = self.unseen.lock();
        if !unseen.is_empty() {
            unseen.retain(|position, (id, _)| id.epoch != read_to.epoch || *position > read_to.position);
        }
    }

    /// What belongs to another life of the log will not come back.
    fn joined(&self, epoch: Epoch) {
        self.unseen.lock().retain(|_, (id, _)| id.epoch == epoch);
    }

    /// What has yet to come back.
    fn unseen(&self, epoch: Epoch) -> Vec<Entry> {
        let unseen = self.unseen.lock();
        let of_epoch = unseen.values().filter(|(id, _)| id.epoch == epoch);
        of_epoch
            .map(|(id, Publication { event_type, data, key })| Entry {
                position: id.position,
                event_type: event_type.clone(),
                data: data.clone(),
                key: *key,
            })
            .collect()
    }
}

#[async_trait]
impl EventBus for RedisLog {
    async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let (reply, answer) = oneshot::channel();
        {
            let open = self.open.read();
            let orders = &open.as_ref().ok_or(UNAVAILABLE)?.orders;
            orders.try_send(Order { publication, reply }).map_err(|_| UNAVAILABLE)?;
        }
        match tokio::time::timeout(PUBLISH_DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            // The session ended before the order was sent.
            Ok(Err(_)) => Err(UNAVAILABLE),
            Err(_elapsed) => Err(UNKNOWN),
        }
    }
}

#[async_trait]
impl History for RedisLog {
    async fn after(&self, position: Position) -> Result<Page, Unreachable> {
        let _permit = self.readers.acquire().await.map_err(|_| Unreachable)?;
        let connection = self.open.read().as_ref().map(|open| open.connection.clone());
        let mut connection = connection.ok_or(Unreachable)?;
        pages::after(&mut connection, position).await.map_err(|_| Unreachable)
    }
}

/// The answer, within the deadline.
async fn in_time<T>(answer: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
    tokio::time::timeout(ANSWER_DEADLINE, answer).await.map_err(|_| Fault::Timeout)?.map_err(Into::into)
}
