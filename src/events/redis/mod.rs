//! The event log in Redis: a stream that every instance appends to and reads to its end.
//!
//! Redis assigns the order and the ids. Each instance's ring is a copy of the newest part of the
//! log. [`RedisLog`] is the interface for publishers and streams. A [`LogTask`] keeps one session
//! with the log at a time (`session`), on two connections:
//!
//! - `recovery` enters the log and, after a loss of data, re-submits what this instance holds of
//!   it;
//! - `reader` reads new entries into the ring, in pages bounded in bytes (`pace`);
//! - `session` itself sends published events in batches (`Writing`); `publisher` has their commands
//!   and outcomes.
//!
//! Streams that open at a position outside the ring read the log on a third connection (`catch_up`,
//! `turns`). `relief` makes room in a full Redis; `replicas` decides whether an event needs a copy
//! on a replica.
//!
//! # Recovery after a loss of data
//!
//! Redis came back empty, with an old copy, or as another server. Events that were acknowledged may
//! then exist in the rings of instances only. No order of instances may lose one, so all instances
//! run the same script (`recovery.lua`), which is atomic:
//!
//! ```text
//!            one instance's ids                       time or sequence grows to the right
//!
//!   ... not held | horizon | ring: every event | head | unconfirmed events |
//!                |         |  between the two  |      | acknowledged here, |
//!                |         |                   |      | not yet read back  |
//!       the log after the loss:   [ first .......... last ]
//!       earlier events  ---------^                    ^--------- later events are appended
//! ```
//!
//! 1. **Detect.** A session ends on an error, when the monitor reports another data id or master
//!    (every 250 ms), or when a script finds another log generation than the session's. A script
//!    also finds a `FLUSHALL`, which keeps the data id and removes the log's state: the next read
//!    or publish notices it, within 250 ms. Then the next session calls `recovery.lua`.
//! 2. **Window.** The script compares the data id with the one in the log's state. If they differ,
//!    or if there is no state, it starts a new log generation and a recovery window: 750 ms, 2 s
//!    under Sentinel, and up to five times as long while instances announce that more events
//!    follow. Nobody publishes or reads in the window, because both refuse an old generation.
//! 3. **Re-submit.** Each instance sends what it holds, later events first, then those before the
//!    log's first entry, newest batch first. The script inserts what is missing, in order of id. It
//!    takes no batch that would leave a hole: such an instance waits for others (`awaited`).
//! 4. **Open.** The window is over. If a hole remains, the script starts a new log epoch: ids are
//!    no longer comparable and streams get `reset`. Otherwise the log continues with its ids.
//! 5. **Resume.** Instances read what they lack, then publish and deliver again. Streams miss
//!    nothing.
//!
//! Recovery is re-entrant: it can be interrupted after any call and started again by any instance.
//! Each call leaves a log without holes; sending an event again changes nothing, because its id is
//! there. A second loss of data begins at step 1 with a new generation. See docs/adr/0018 and 0030.

mod budget;
mod catch_up;
mod deadline;
mod entry;
mod keys;
mod pace;
mod publisher;
mod reader;
mod recovery;
mod relief;
mod replicas;
mod session;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use self::catch_up::CatchUp;
use self::deadline::{in_time, within};
use self::publisher::{PublishRequest, UNAVAILABLE, UNKNOWN};
pub use self::session::{LogTask, LogTaskDeps};
use super::event::Event;
use super::hub::SharedLog;
use super::id::{Epoch, EventId, Position};
use super::log::{EventLog, LogReader, PublishError, Published};
use super::publication::Publication;
use crate::limits::REDIS_DEADLINE;
use crate::metrics::Metrics;

/// Bound of the queue of events to be sent. Further events are refused with 503.
const MOST_WAITING: usize = 4096;

/// Number of leading events, by their sizes, that fit into `room` bytes. The first one always fits.
fn fitting(room: usize, sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = sizes.enumerate().take_while(|(before, size)| {
        bytes += size;
        *before == 0 || bytes <= room
    });
    fits.count()
}

/// The event log for publishers and streams.
pub struct RedisLog {
    metrics: Arc<Metrics>,
    /// Queue to the writer of the current session; `None` between two sessions.
    requests: watch::Sender<Option<mpsc::Sender<PublishRequest>>>,
    /// Reads the log for streams in catch-up.
    catch_up: Arc<CatchUp>,
    /// Unconfirmed events: acknowledged by this instance and not yet read back. If Redis loses its
    /// data now, only this instance has them.
    unconfirmed: Mutex<BTreeMap<Position, Event>>,
}

impl RedisLog {
    /// Creates a log that is unavailable until a [`LogTask`] opens a session.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let catch_up = Arc::new(CatchUp::new(Arc::clone(&metrics)));
        Self { metrics, requests: watch::Sender::new(None), catch_up, unconfirmed: Mutex::default() }
    }

    /// The interface for streams.
    #[must_use]
    pub fn shared(&self) -> SharedLog {
        SharedLog(Arc::clone(&self.catch_up) as Arc<dyn LogReader>)
    }

    /// Waits until a session is open.
    pub async fn opened(&self) {
        let mut requests = self.requests.subscribe();
        let _ = requests.wait_for(Option::is_some).await;
    }

    fn open(&self, requests: mpsc::Sender<PublishRequest>) {
        self.catch_up.open();
        self.requests.send_replace(Some(requests));
    }

    fn close(&self) {
        self.requests.send_replace(None);
        self.catch_up.close();
    }

    /// Notes an appended event as unconfirmed, unless this instance has already read it
    /// (`read_to`).
    fn appended(&self, id: EventId, publication: &Publication, read_to: Option<EventId>) {
        self.metrics.events.published();
        let is_read = read_to.is_some_and(|read| read.epoch == id.epoch && read.position >= id.position);
        if !is_read {
            let Publication { event_type, data, topics, key } = publication;
            let event = Event::new(id, event_type, data, topics.clone(), *key);
            self.unconfirmed.lock().insert(id.position, event);
        }
    }

    /// Drops unconfirmed events up to `read_to`: they were read back.
    fn confirm(&self, read_to: EventId) {
        let mut unconfirmed = self.unconfirmed.lock();
        if !unconfirmed.is_empty() {
            unconfirmed
                .retain(|position, event| event.id().epoch != read_to.epoch || *position > read_to.position);
        }
    }

    /// Drops unconfirmed events of other log epochs: their ids are not comparable.
    fn entered(&self, epoch: Epoch) {
        self.unconfirmed.lock().retain(|_, event| event.id().epoch == epoch);
    }

    /// The unconfirmed events of `epoch`, in order.
    fn unconfirmed(&self, epoch: Epoch) -> Vec<Event> {
        let unconfirmed = self.unconfirmed.lock();
        unconfirmed.values().filter(|event| event.id().epoch == epoch).cloned().collect()
    }
}

#[async_trait]
impl EventLog for RedisLog {
    /// Sends the event in the current session. If that session ends before it has sent the event,
    /// or its log generation has changed so that nothing was appended, the next session sends it,
    /// up to the deadline.
    async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let due = Instant::now() + REDIS_DEADLINE;
        let mut sessions = self.requests.subscribe();
        loop {
            let session = sessions.borrow_and_update().clone();
            if let Some(requests) = session {
                let (reply, answer) = oneshot::channel();
                match requests.try_send(PublishRequest { publication: publication.clone(), reply }) {
                    Ok(()) => match timeout_at(due, answer).await {
                        Ok(Ok(answer)) => return answer,
                        // The event was not sent or not appended: wait for the next session.
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
    use crate::topic::Topics;

    const EPOCH: Epoch = Epoch(1);

    fn at(epoch: Epoch, millis: u64) -> EventId {
        EventId { epoch, position: Position { millis, seq: 0 } }
    }

    /// A log with these unconfirmed events.
    fn log(appended: &[EventId]) -> RedisLog {
        let log = RedisLog::new(Arc::new(Metrics::new().unwrap()));
        for id in appended {
            log.appended(*id, &event(), None);
        }
        log
    }

    fn event() -> Publication {
        Publication::new(EventType::default(), "1", topics(), None)
    }

    fn topics() -> Topics {
        Topics::parse("orders/1").unwrap()
    }

    fn unconfirmed(log: &RedisLog, epoch: Epoch) -> Vec<u64> {
        log.unconfirmed(epoch).iter().map(|event| event.position().millis).collect()
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
        // Two publishers may be answered in either order.
        let log = log(&[at(EPOCH, 7), at(EPOCH, 5)]);
        assert_eq!(unconfirmed(&log, EPOCH), [5, 7]);
        assert!(log.unconfirmed(EPOCH).iter().all(|event| *event.topics() == topics()));
        log.confirm(at(EPOCH, 6));
        assert_eq!(unconfirmed(&log, EPOCH), [7]);
        log.confirm(at(EPOCH, 7));
        assert!(unconfirmed(&log, EPOCH).is_empty());
    }

    #[test]
    fn what_was_read_back_before_its_answer_came_is_not_kept() {
        let log = log(&[]);
        log.appended(at(EPOCH, 5), &event(), Some(at(EPOCH, 5)));
        assert!(unconfirmed(&log, EPOCH).is_empty());
        // The position in another log epoch confirms nothing.
        log.appended(at(EPOCH, 5), &event(), Some(at(Epoch(2), 9)));
        assert_eq!(unconfirmed(&log, EPOCH), [5]);
    }

    #[test]
    fn unconfirmed_events_of_an_earlier_log_epoch_are_not_submitted() {
        let log = log(&[at(EPOCH, 5), at(Epoch(2), 6)]);
        assert_eq!((unconfirmed(&log, EPOCH), unconfirmed(&log, Epoch(2))), (vec![5], vec![6]));
        log.confirm(at(EPOCH, 9));
        assert_eq!(unconfirmed(&log, Epoch(2)), [6], "a position of another epoch confirms nothing");
        log.appended(at(EPOCH, 7), &event(), None);
        log.entered(Epoch(2));
        assert_eq!((unconfirmed(&log, EPOCH), unconfirmed(&log, Epoch(2))), (vec![], vec![6]));
    }

    /// A writer that acknowledges every event and counts them.
    async fn append(mut queue: mpsc::Receiver<PublishRequest>) -> usize {
        let mut appended = 0;
        while let Some(request) = queue.recv().await {
            appended += 1;
            let _ = request.reply.send(Ok(Published { id: at(EPOCH, 5), repeated: false }));
        }
        appended
    }

    #[tokio::test(start_paused = true)]
    async fn a_publish_waits_for_the_next_session_with_the_log() {
        let log = log(&[]);
        let (requests, queue) = mpsc::channel(1);
        let (published, (), appended) = tokio::join!(
            log.publish(event()),
            async {
                tokio::time::sleep(REDIS_DEADLINE / 2).await;
                log.requests.send_replace(Some(requests));
                tokio::time::sleep(REDIS_DEADLINE).await;
                log.close();
            },
            append(queue),
        );
        assert_eq!((published.map(|it| it.id), appended), (Ok(at(EPOCH, 5)), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_a_session_had_not_sent_when_it_ended_is_sent_by_the_next_one() {
        let log = log(&[]);
        let (requests, queue) = mpsc::channel(1);
        log.requests.send_replace(Some(requests));
        let (next, next_queue) = mpsc::channel(1);
        let (published, (), appended) = tokio::join!(
            log.publish(event()),
            async {
                tokio::task::yield_now().await;
                drop(queue);
                log.requests.send_replace(Some(next));
                tokio::time::sleep(REDIS_DEADLINE).await;
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
        assert_eq!(started.elapsed().as_millis(), REDIS_DEADLINE.as_millis());
    }
}
