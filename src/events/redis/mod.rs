//! The log of all instances, in Redis: a stream that every instance appends to and reads to its end.
//!
//! Redis gives the order and the ids; each instance's ring is a copy of the end of the log. A [`LogTask`] keeps one
//! session with the log at a time (`session`): it enters the log (`joining`), reads what is new (`pages`), and sends what is
//! published (`orders`). Streams that are behind the ring read the log on another connection (`catch_up`). When Redis has
//! lost data, the instances bring the log back from their rings before anyone publishes again (docs/adr/0018). [`RedisLog`]
//! is what publishers and streams see of it.

mod catch_up;
mod deadline;
mod item;
mod keys;
mod pace;
mod publisher;
mod reader;
mod recovery;
mod relief;
mod replicas;
mod script;
mod session;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use self::catch_up::CatchUp;
use self::deadline::{in_time, within};
use self::publisher::{Order, UNAVAILABLE, UNKNOWN};
pub use self::session::{LogTask, LogTaskDeps};
use super::bus::{EventBus, PublishError, Published};
use super::entry::Entry;
use super::history::History;
use super::hub::SharedLog;
use super::id::{Epoch, EventId, Position};
use super::publication::Publication;
use crate::metrics::Metrics;

/// No request waits longer for Redis.
const PUBLISH_DEADLINE: Duration = Duration::from_millis(150);
/// Events that wait to be sent; more are refused.
const MOST_WAITING: usize = 4096;

/// Number of leading events, by their sizes, that fit into `room` bytes; at least one, if there is one.
fn fitting(room: usize, sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = sizes.enumerate().take_while(|(before, size)| {
        bytes += size;
        *before == 0 || bytes <= room
    });
    fits.count()
}

/// The log, as publishers and streams see it.
pub struct RedisLog {
    metrics: Arc<Metrics>,
    /// Way to the writer of the current session; none between two sessions.
    orders: watch::Sender<Option<mpsc::Sender<Order>>>,
    /// What streams read that are behind the ring.
    catch_up: Arc<CatchUp>,
    /// Events that were acknowledged here and have yet to come back in the log's order. If the log is lost before they
    /// do, this instance is the only one that knows them.
    unseen: Mutex<BTreeMap<Position, (EventId, Publication)>>,
}

impl RedisLog {
    /// Out of reach, until a [`LogTask`] reaches it.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let catch_up = Arc::new(CatchUp::new(Arc::clone(&metrics)));
        Self { metrics, orders: watch::Sender::new(None), catch_up, unseen: Mutex::default() }
    }

    /// As streams know it.
    #[must_use]
    pub fn shared(&self) -> SharedLog {
        SharedLog(Arc::clone(&self.catch_up) as Arc<dyn History>)
    }

    /// Waits until a session with the log is open.
    pub async fn opened(&self) {
        let mut orders = self.orders.subscribe();
        let _ = orders.wait_for(Option::is_some).await;
    }

    fn open(&self, orders: mpsc::Sender<Order>) {
        self.catch_up.open();
        self.orders.send_replace(Some(orders));
    }

    fn close(&self) {
        self.orders.send_replace(None);
        self.catch_up.close();
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
    /// An event that no session has sent waits for the next session, up to the deadline.
    async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let due = Instant::now() + PUBLISH_DEADLINE;
        let mut sessions = self.orders.subscribe();
        loop {
            let session = sessions.borrow_and_update().clone();
            if let Some(orders) = session {
                let (reply, answer) = oneshot::channel();
                match orders.try_send(Order { publication: publication.clone(), reply }) {
                    Ok(()) => match timeout_at(due, answer).await {
                        Ok(Ok(answer)) => return answer,
                        // The session ended before it sent the event.
                        Ok(Err(_)) => {}
                        Err(_elapsed) => return Err(UNKNOWN),
                    },
                    Err(TrySendError::Full(_)) => return Err(UNAVAILABLE),
                    Err(TrySendError::Closed(_)) => {}
                }
            }
            match timeout_at(due, sessions.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(UNAVAILABLE),
            }
        }
    }
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
    fn what_is_sent_together_is_bounded_in_bytes_and_takes_the_largest_event() {
        let fitting = |sizes: &[usize]| fitting(100, sizes.iter().copied());
        assert_eq!(
            [fitting(&[]), fitting(&[50, 50]), fitting(&[50, 50, 1]), fitting(&[101, 1])],
            [0, 2, 2, 1]
        );
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

    /// A session's writer that appends each event, and counts them.
    async fn append(mut queue: mpsc::Receiver<Order>) -> usize {
        let mut appended = 0;
        while let Some(order) = queue.recv().await {
            appended += 1;
            let _ = order.reply.send(Ok(Published { id: at(EPOCH, 5), repeated: false }));
        }
        appended
    }

    #[tokio::test(start_paused = true)]
    async fn a_publish_waits_for_the_next_session_with_the_log() {
        let log = log(&[]);
        let (orders, queue) = mpsc::channel(1);
        let (published, (), appended) = tokio::join!(
            log.publish(event()),
            async {
                tokio::time::sleep(PUBLISH_DEADLINE / 2).await;
                log.orders.send_replace(Some(orders));
                tokio::time::sleep(PUBLISH_DEADLINE).await;
                log.close();
            },
            append(queue),
        );
        assert_eq!((published.map(|it| it.id), appended), (Ok(at(EPOCH, 5)), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_a_session_had_not_sent_when_it_ended_is_sent_by_the_next_one() {
        let log = log(&[]);
        let (orders, queue) = mpsc::channel(1);
        log.orders.send_replace(Some(orders));
        let (next, next_queue) = mpsc::channel(1);
        let (published, (), appended) = tokio::join!(
            log.publish(event()),
            async {
                tokio::task::yield_now().await;
                drop(queue);
                log.orders.send_replace(Some(next));
                tokio::time::sleep(PUBLISH_DEADLINE).await;
                log.close();
            },
            append(next_queue),
        );
        assert_eq!((published.map(|it| it.id), appended), (Ok(at(EPOCH, 5)), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_publish_is_refused_at_its_deadline_while_the_log_cannot_be_reached() {
        let started = Instant::now();
        assert_eq!(log(&[]).publish(event()).await, Err(UNAVAILABLE));
        assert_eq!(started.elapsed().as_millis(), PUBLISH_DEADLINE.as_millis());
    }
}
