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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::frame::EventType;

    const EPOCH: Epoch = Epoch(1);

    fn at(epoch: Epoch, millis: u64) -> EventId {
        EventId { epoch, position: Position { millis, seq: 0 } }
    }

    /// A log to which these were appended, by an instance that has read nothing of it.
    fn log(appended: &[EventId]) -> RedisLog {
        let log = RedisLog::new(Arc::new(Metrics::new().unwrap()));
        for id in appended {
            log.appended(*id, &event(), None);
        }
        log
    }

    fn event() -> Publication {
        Publication::new(EventType::default(), "1", None)
    }

    fn unseen(log: &RedisLog, epoch: Epoch) -> Vec<u64> {
        log.unseen(epoch).iter().map(|entry| entry.position.millis).collect()
    }

    #[test]
    fn an_event_that_is_acknowledged_here_is_brought_along_until_it_was_read_back() {
        // Answers to two publishers may come in either order.
        let log = log(&[at(EPOCH, 7), at(EPOCH, 5)]);
        assert_eq!(unseen(&log, EPOCH), [5, 7]);
        log.seen(at(EPOCH, 6));
        assert_eq!(unseen(&log, EPOCH), [7]);
        log.seen(at(EPOCH, 7));
        assert!(unseen(&log, EPOCH).is_empty());
    }

    #[test]
    fn what_was_read_back_before_its_answer_came_is_not_kept() {
        let log = log(&[]);
        log.appended(at(EPOCH, 5), &event(), Some(at(EPOCH, 5)));
        assert!(unseen(&log, EPOCH).is_empty());
        // How far another life of the log was read says nothing.
        log.appended(at(EPOCH, 5), &event(), Some(at(Epoch(2), 9)));
        assert_eq!(unseen(&log, EPOCH), [5]);
    }

    #[test]
    fn events_of_a_life_of_the_log_that_is_over_are_brought_nowhere() {
        let log = log(&[at(EPOCH, 5), at(Epoch(2), 6)]);
        assert_eq!((unseen(&log, EPOCH), unseen(&log, Epoch(2))), (vec![5], vec![6]));
        log.seen(at(EPOCH, 9));
        assert_eq!(unseen(&log, Epoch(2)), [6], "how far another life was read says nothing");
        log.appended(at(EPOCH, 7), &event(), None);
        log.joined(Epoch(2));
        assert_eq!((unseen(&log, EPOCH), unseen(&log, Epoch(2))), (vec![], vec![6]));
    }

    #[tokio::test]
    async fn nothing_is_published_while_the_log_is_out_of_reach() {
        assert_eq!(log(&[]).publish(event()).await, Err(UNAVAILABLE));
    }
}
