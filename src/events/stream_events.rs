//! Openings and ends of streams as events of the topics `$streams/opened` and `$streams/closed`.
//!
//! A stream adds its event to a bounded queue and never waits. A background task publishes them,
//! those of a stream in order. While the event log is unavailable the events wait; those beyond the
//! bound are lost and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::frame::EventType;
use super::log::{EventLog, PublishError};
use super::publication::Publication;
use super::registry::EndReason;
use super::selection::OpenStream;
use crate::metrics::Metrics;
use crate::token::Subject;
use crate::topic::{Pattern, Topics};

/// Bound of the events that wait.
const MOST_WAITING: usize = 10_000;
/// Events published at once.
const AT_ONCE: usize = 30;
/// Pause before events are published again that the log did not take.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);

/// The opening of a stream, or its end with the reason.
struct StreamEvent {
    stream: OpenStream,
    reason: Option<EndReason>,
}

enum Item {
    Event(StreamEvent),
    /// Dropped once all events before it are published.
    Flush(oneshot::Sender<Infallible>),
}

/// The data of an event.
#[derive(Serialize)]
struct Data<'a> {
    stream_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    topics: Vec<&'a str>,
    principal: &'a str,
    instance_id: &'a str,
    opened_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl StreamEvent {
    fn publication(&self, instance_id: &str) -> Publication {
        let Self { stream, reason } = self;
        let data = Data {
            stream_id: stream.stream_id.to_string(),
            token_id: stream.token_id.map(|id| id.to_string()),
            subject: stream.subject.as_ref().map(Subject::as_str),
            topics: stream.topics.iter().map(Pattern::as_str).collect(),
            principal: stream.principal.as_str(),
            instance_id,
            opened_at: stream.opened_at.rfc3339(),
            reason: reason.map(EndReason::as_str),
        };
        // Texts always have a document, and these are topics.
        let data = serde_json::to_string(&data).unwrap_or_default();
        let topic = if reason.is_none() { "$streams/opened" } else { "$streams/closed" };
        Publication::new(EventType::default(), &data, Topics::new([topic]).unwrap_or_default(), None)
    }
}

/// Queue of the openings and ends of streams.
pub struct StreamEvents {
    queue: mpsc::Sender<Item>,
    metrics: Arc<Metrics>,
}

impl StreamEvents {
    /// Creates the queue, and the task that publishes its events.
    #[must_use]
    pub fn new(instance_id: String, metrics: Arc<Metrics>) -> (Self, StreamEventsTask) {
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let task = StreamEventsTask { waiting, instance_id, metrics: Arc::clone(&metrics) };
        (Self { queue, metrics }, task)
    }

    /// Adds the opening of a stream, or its end with the reason.
    pub(super) fn add(&self, stream: OpenStream, reason: Option<EndReason>) {
        if self.queue.try_send(Item::Event(StreamEvent { stream, reason })).is_err() {
            self.metrics.events.stream_events_lost(1);
        }
    }

    /// Waits until the events so far are published.
    pub(super) async fn flush(&self) {
        let (unpublished, published) = oneshot::channel();
        if self.queue.send(Item::Flush(unpublished)).await.is_ok() {
            // Nothing is sent: this returns when the task drops the other end.
            let _ = published.await;
        }
    }
}

/// Publishes the openings and ends of streams.
pub struct StreamEventsTask {
    waiting: mpsc::Receiver<Item>,
    instance_id: String,
    metrics: Arc<Metrics>,
}

impl StreamEventsTask {
    /// Publishes for as long as the instance runs.
    pub async fn run(mut self, log: Arc<dyn EventLog>) {
        let mut items = Vec::with_capacity(AT_ONCE);
        while self.waiting.recv_many(&mut items, AT_ONCE).await > 0 {
            let mut batch = Vec::<StreamEvent>::new();
            let mut flushes = Vec::new();
            for item in items.drain(..) {
                match item {
                    Item::Event(event) => {
                        // The end of a stream waits for its opening: the log may take one without
                        // the other.
                        if batch.iter().any(|before| before.stream.stream_id == event.stream.stream_id) {
                            self.publish_all(log.as_ref(), &std::mem::take(&mut batch)).await;
                        }
                        batch.push(event);
                    }
                    Item::Flush(flush) => flushes.push(flush),
                }
            }
            self.publish_all(log.as_ref(), &batch).await;
        }
    }

    /// Publishes events of different streams, as soon as the log takes them.
    async fn publish_all(&self, log: &dyn EventLog, events: &[StreamEvent]) {
        let publications = events.iter().map(|event| event.publication(&self.instance_id)).collect();
        let mut refused = self.publish(log, publications).await;
        while !refused.is_empty() {
            tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            refused = self.publish(log, refused).await;
        }
    }

    /// Publishes events. Returns those that are certainly not in the log. The others are in it, or
    /// may be: they are not repeated, so that nobody gets one twice.
    async fn publish(&self, log: &dyn EventLog, publications: Vec<Publication>) -> Vec<Publication> {
        let outcomes =
            join_all(publications.iter().map(|publication| log.publish(publication.clone()))).await;
        let outcomes = publications.into_iter().zip(outcomes);
        let mut refused = Vec::new();
        for (publication, outcome) in outcomes {
            match outcome {
                Ok(_) => {}
                Err(PublishError::Unavailable { .. }) => refused.push(publication),
                Err(PublishError::Unknown { .. } | PublishError::KeyReused) => {
                    self.metrics.events.stream_events_lost(1);
                }
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::UnixMillis;
    use crate::events::id::{Epoch, EventId, Position};
    use crate::events::log::Published;
    use crate::events::selection::StreamId;
    use crate::principal::PrincipalId;
    use crate::token::TokenId;
    use crate::topic::Patterns;

    /// A log with these outcomes, and then with success; it keeps what it took.
    #[derive(Default)]
    struct Script {
        outcomes: Mutex<Vec<PublishError>>,
        taken: Mutex<Vec<(String, Value)>>,
    }

    #[async_trait]
    impl EventLog for Script {
        async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
            if let Some(error) = self.outcomes.lock().pop() {
                return Err(error);
            }
            let data = serde_json::from_str(&publication.data).unwrap();
            self.taken.lock().push((publication.topics.as_str().to_owned(), data));
            let id = EventId { epoch: Epoch(1), position: Position { millis: 1, seq: 0 } };
            Ok(Published { id, repeated: false })
        }
    }

    fn stream(number: u64) -> OpenStream {
        OpenStream {
            stream_id: StreamId::new(number),
            token_id: None,
            subject: None,
            topics: Patterns::default(),
            principal: PrincipalId::parse("p").unwrap(),
            opened_at: UnixMillis(1_767_470_400_000),
        }
    }

    fn start(log: &Arc<Script>) -> (StreamEvents, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (events, task) = StreamEvents::new("1".to_owned(), Arc::clone(&metrics));
        tokio::spawn(task.run(Arc::<Script>::clone(log)));
        (events, metrics)
    }

    /// Whether an event was counted as lost.
    fn lost(metrics: &Metrics) -> bool {
        let page = String::from_utf8(metrics.render().unwrap()).unwrap();
        let mut lines = page.lines();
        let line = lines.find(|line| line.starts_with("vx11_operator_stream_events_lost_total")).unwrap();
        !line.ends_with(" 0")
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_names_the_stream_and_its_end_the_reason() {
        let log = Arc::new(Script::default());
        let (events, _) = start(&log);
        let by_token = OpenStream {
            token_id: Some(TokenId::parse("0123456789abcdef").unwrap()),
            subject: Subject::parse("user-1"),
            topics: Patterns::new(["orders/*", "default"]).unwrap(),
            ..stream(1)
        };
        events.add(by_token.clone(), None);
        events.add(stream(2), None);
        events.add(by_token, Some(EndReason::GrantEnded));
        events.flush().await;
        let mut data = json!({
            "stream_id": "0000000000000001", "token_id": "0123456789abcdef", "subject": "user-1",
            "topics": ["orders/*", "default"], "principal": "p", "instance_id": "1",
            "opened_at": "2026-01-03T20:00:00.000Z",
        });
        let plain = json!({
            "stream_id": "0000000000000002", "topics": ["default"], "principal": "p", "instance_id": "1",
            "opened_at": "2026-01-03T20:00:00.000Z",
        });
        let opened = [&data, &plain].map(|data| ("$streams/opened".to_owned(), data.clone()));
        data["reason"] = json!("grant_ended");
        let closed = ("$streams/closed".to_owned(), data);
        assert_eq!(*log.taken.lock(), [&opened[..], &[closed]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn events_wait_for_the_log_in_order_and_those_of_unknown_outcome_are_counted_as_lost() {
        let retry_after = Duration::from_secs(1);
        let unavailable = PublishError::Unavailable { retry_after };
        let log = Arc::new(Script::default());
        *log.outcomes.lock() = vec![unavailable, unavailable, unavailable, unavailable];
        let (events, metrics) = start(&log);
        for number in [1, 2] {
            events.add(stream(number), None);
        }
        events.flush().await;
        let ids = || {
            let ids = log.taken.lock();
            ids.iter()
                .map(|(_, data)| data["stream_id"].as_str().unwrap()[15..].to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!((ids(), lost(&metrics)), (vec!["1".to_owned(), "2".to_owned()], false));
        log.outcomes.lock().push(PublishError::Unknown { retry_after });
        for number in [3, 4] {
            events.add(stream(number), None);
        }
        events.flush().await;
        assert_eq!((ids().join(" "), lost(&metrics)), ("1 2 4".to_owned(), true));
    }

    #[tokio::test(start_paused = true)]
    async fn events_beyond_the_bound_are_lost_and_counted() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (events, _task) = StreamEvents::new("1".to_owned(), Arc::clone(&metrics));
        for number in 0..MOST_WAITING {
            events.add(stream(number as u64), None);
        }
        assert!(!lost(&metrics));
        events.add(stream(0), None);
        assert!(lost(&metrics));
    }
}
