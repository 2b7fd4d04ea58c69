//! The event log of an instance without Redis: the ring of its hub, which ends with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::hub::Hub;
use super::id::EventId;
use super::log::{EventLog, KEYS_KEPT, PublishError, Published};
use super::publication::{Fingerprint, KeyDigest, Publication};

/// Event log in the memory of one instance.
pub struct MemoryLog {
    hub: Arc<Hub>,
    keys: Mutex<Keys>,
}

impl MemoryLog {
    /// Creates a log that appends to `hub` and remembers the last `most_keys` idempotency keys.
    #[must_use]
    pub fn new(hub: Arc<Hub>, most_keys: usize) -> Self {
        Self { hub, keys: Mutex::new(Keys { most: most_keys, ..Keys::default() }) }
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        // The ring ends with the process: an instance that drains cannot promise delivery.
        if self.hub.is_draining() {
            return Err(PublishError::Unavailable { retry_after: Duration::from_secs(1) });
        }
        let Some(key) = publication.key else {
            return Ok(Published { id: self.hub.append(&publication), repeated: false });
        };
        let fingerprint = publication.fingerprint();
        // The lock is held while the event is appended, so that of two equal calls one appends.
        let mut keys = self.keys.lock();
        match keys.find(key) {
            Some((known, _)) if known != fingerprint => Err(PublishError::KeyReused),
            Some((_, id)) => Ok(Published { id, repeated: true }),
            None => {
                let id = self.hub.append(&publication);
                keys.remember(key, fingerprint, id);
                Ok(Published { id, repeated: false })
            }
        }
    }
}

/// Idempotency keys with the events published under them, bounded in number and age.
#[derive(Default)]
struct Keys {
    most: usize,
    known: HashMap<KeyDigest, (Fingerprint, EventId)>,
    in_order: VecDeque<(Instant, KeyDigest)>,
}

impl Keys {
    fn find(&mut self, key: KeyDigest) -> Option<(Fingerprint, EventId)> {
        while self.in_order.front().is_some_and(|(since, _)| since.elapsed() >= KEYS_KEPT) {
            self.forget_oldest();
        }
        self.known.get(&key).copied()
    }

    fn remember(&mut self, key: KeyDigest, fingerprint: Fingerprint, id: EventId) {
        self.known.insert(key, (fingerprint, id));
        self.in_order.push_back((Instant::now(), key));
        if self.in_order.len() > self.most {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.in_order.pop_front() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::frame::EventType;
    use crate::events::hub::{HubDeps, LogPlace, ResetReason, Resume};
    use crate::events::id::{Epoch, Position};
    use crate::topic::Topics;

    fn hub() -> Arc<Hub> {
        Arc::new(Hub::new(HubDeps::for_tests(LogPlace::Own(Epoch(1)))))
    }

    fn key(n: usize) -> KeyDigest {
        KeyDigest::of("p", &n.to_string()).unwrap()
    }

    fn remember(keys: &mut Keys, n: usize) {
        let id = EventId { epoch: Epoch(1), position: Position { millis: n as u64, seq: 0 } };
        keys.remember(key(n), Fingerprint::of("message", &Topics::default(), "1"), id);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_forgotten_by_number_and_by_age() {
        let mut keys = Keys { most: 2, ..Keys::default() };
        for n in 1..=3 {
            remember(&mut keys, n);
        }
        assert!(keys.find(key(1)).is_none(), "there is room for two");
        assert!(keys.find(key(2)).is_some());
        tokio::time::advance(KEYS_KEPT).await;
        assert!(keys.find(key(3)).is_none());
        assert!(keys.known.is_empty() && keys.in_order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_stops_takes_no_events_into_a_log_that_ends_with_it() {
        let hub = hub();
        let log = MemoryLog::new(Arc::clone(&hub), 10);
        let publish = || log.publish(Publication::new(EventType::default(), "1", Topics::default(), None));
        assert!(publish().await.is_ok());
        let end = hub.ring_end();
        hub.drain(Duration::ZERO).await;
        assert!(matches!(publish().await, Err(PublishError::Unavailable { .. })));
        assert_eq!(hub.ring_end(), end);
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_have_left_the_ring_and_events_to_come_are_known_to_be_missing() {
        let hub = hub();
        let log = MemoryLog::new(Arc::clone(&hub), 10);
        let mut ids = Vec::new();
        for _ in 0..12 {
            ids.push(
                log.publish(Publication::new(EventType::default(), "1", Topics::default(), None))
                    .await
                    .unwrap()
                    .id,
            );
        }
        assert_eq!(hub.resume(ids[0]), Resume::Never(ResetReason::Expired));
        assert_eq!(hub.resume(ids[1]), Resume::At(2));
        assert_eq!(hub.resume(ids[11]), Resume::At(12));
        let next = EventId { position: ids[11].position.next(0), ..ids[11] };
        assert_eq!(hub.resume(next), Resume::Never(ResetReason::Future));
        assert_eq!(hub.resume(EventId { epoch: Epoch(2), ..ids[11] }), Resume::Never(ResetReason::Epoch));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_names_the_event_that_was_published_first_under_it() {
        let log = MemoryLog::new(hub(), 10);
        let publish =
            |data| log.publish(Publication::new(EventType::default(), data, Topics::default(), Some(key(1))));
        let first = publish("1").await.unwrap();
        assert!(!first.repeated);
        let again = publish("1").await.unwrap();
        assert_eq!((again.id, again.repeated), (first.id, true));
        assert!(matches!(publish("2").await, Err(PublishError::KeyReused)));
    }
}
