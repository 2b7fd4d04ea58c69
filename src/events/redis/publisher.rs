//! Publishing to the log: the commands of a batch of events, and the outcome that each publisher
//! gets. `session` sends the batches.

use redis::{Cmd, RedisError, Value, from_redis_value};
use serde::Serialize;
use tokio::sync::oneshot;

use super::entry::written;
use super::keys::Keys;
use crate::events::id::{EventId, Position};
use crate::events::log::{KEYS_KEPT, PublishError, Published};
use crate::events::publication::{KeyDigest, Publication};
use crate::redis::{Fault, Script};

/// Script that appends one event, once for each idempotency key.
static PUBLISH: Script =
    Script::new(&[include_str!("size.lua"), include_str!("fields.lua"), include_str!("publish.lua")]);

/// Arguments of [`PUBLISH`].
#[derive(Serialize)]
struct Arguments<'a> {
    log_bytes: u64,
    log_entries: usize,
    generation: &'a str,
    r#type: &'a str,
    data: &'a str,
    topics: Option<&'a str>,
    key: Option<String>,
    fingerprint: Option<String>,
    key_seconds: u64,
}

/// `Retry-After` of a publish that was refused or has an unknown outcome.
pub(super) const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) const UNAVAILABLE: PublishError = PublishError::Unavailable { retry_after: RETRY_AFTER };
pub(super) const UNKNOWN: PublishError = PublishError::Unknown { retry_after: RETRY_AFTER };

/// Bounds of the log: entries, and bytes as `size.lua` counts them.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogLimits {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

/// A publish request in the queue: the event, and the channel for its outcome.
pub(super) struct PublishRequest {
    pub(super) publication: Publication,
    pub(super) reply: oneshot::Sender<Result<Published, PublishError>>,
}

impl PublishRequest {
    /// Size of the event's data and topics in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.publication.data.len() + self.publication.topics.as_str().len()
    }

    fn command(&self, keys: &Keys, generation: &str, limits: LogLimits) -> Cmd {
        let Publication { event_type, data, topics, key } = &self.publication;
        let published = key.map_or_else(|| keys.state.clone(), |key| keys.published_under(key));
        let arguments = Arguments {
            log_bytes: limits.bytes,
            log_entries: limits.entries,
            generation,
            r#type: event_type.as_str(),
            data,
            topics: written(topics),
            key: key.map(KeyDigest::to_hex),
            fingerprint: key.map(|_| self.publication.fingerprint().to_hex()),
            key_seconds: KEYS_KEPT.as_secs(),
        };
        PUBLISH.call(&[&keys.log, &keys.state, &published], &arguments)
    }
}

/// Answer of the script to a publish request.
pub(super) enum Answer {
    /// The event was appended.
    Appended(EventId),
    /// An event with this idempotency key and the same content is in the log already.
    Found(EventId),
    /// The event was not appended, or the key belongs to another event.
    Not(PublishError),
    /// The event was not appended: the log generation has changed.
    OtherGeneration,
}

/// Requests of a batch that was sent. If it is dropped, requests without an answer get the outcome
/// "unknown". A request whose channel is dropped without an outcome was not appended; its publisher
/// waits for the next session.
pub(super) struct Sent(Vec<PublishRequest>);

impl Sent {
    /// Drops requests whose publisher no longer waits.
    pub(super) fn of(requests: Vec<PublishRequest>) -> Self {
        Self(requests.into_iter().filter(|request| !request.reply.is_closed()).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn commands<'a>(
        &'a self,
        keys: &'a Keys,
        generation: &'a str,
        limits: LogLimits,
    ) -> impl Iterator<Item = Cmd> + 'a {
        self.0.iter().map(move |request| request.command(keys, generation, limits))
    }

    /// Sends every publisher the outcome of its event and reports appended events to `appended`.
    /// `is_copied` is false if a copy on a replica is required and missing: such an event is in the
    /// log, but its outcome is "unknown".
    ///
    /// # Errors
    /// The last failure: a fault of Redis, or another log generation.
    pub(super) fn answer(
        mut self,
        answers: Vec<Value>,
        is_copied: bool,
        mut appended: impl FnMut(EventId, &Publication),
    ) -> Result<(), Failed> {
        let mut failed = Ok(());
        // Requests without an answer stay and are dropped, with an unknown outcome.
        let answered = answers.len().min(self.0.len());
        for (request, answer) in self.0.drain(..answered).zip(answers) {
            let PublishRequest { publication, reply } = request;
            let answer = match read(answer, &publication) {
                Ok(Answer::Appended(id)) => {
                    appended(id, &publication);
                    Ok(Published { id, repeated: false })
                }
                Ok(Answer::Found(id)) => Ok(Published { id, repeated: true }),
                Ok(Answer::Not(error)) => Err(error),
                // Nothing was appended. The dropped channel makes the publisher wait for the next
                // session.
                Ok(Answer::OtherGeneration) => {
                    failed = Err(Failed::OtherGeneration);
                    continue;
                }
                Err(error) => {
                    let fault = Fault::from(error);
                    let outcome = if came_before_writing(&fault) { UNAVAILABLE } else { UNKNOWN };
                    failed = Err(Failed::Fault(fault));
                    Err(outcome)
                }
            };
            let answer = answer.and_then(|published| if is_copied { Ok(published) } else { Err(UNKNOWN) });
            let _ = reply.send(answer);
        }
        failed
    }
}

/// Whether Redis refused the script before its first write, so that the event is certainly not in
/// the log.
const fn came_before_writing(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::ReadOnly
            | Fault::OutOfMemory
            | Fault::Loading
            | Fault::NotWriting(_)
            | Fault::Authentication(_)
    )
}

/// Reason why a batch failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The log generation has changed.
    OtherGeneration,
    Fault(Fault),
}

impl Drop for Sent {
    fn drop(&mut self) {
        for request in self.0.drain(..) {
            let _ = request.reply.send(Err(UNKNOWN));
        }
    }
}

fn read(answer: Value, publication: &Publication) -> Result<Answer, RedisError> {
    let words: Vec<String> = from_redis_value(answer.extract_error()?)?;
    let [epoch, position, known @ ..] = words.as_slice() else {
        return Ok(Answer::OtherGeneration);
    };
    let id = epoch.parse().ok().zip(position.parse::<Position>().ok());
    let Some((epoch, position)) = id else {
        return Ok(Answer::Not(UNKNOWN));
    };
    let id = EventId { epoch, position };
    Ok(match known.first() {
        None => Answer::Appended(id),
        Some(known) if *known == publication.fingerprint().to_hex() => Answer::Found(id),
        Some(_) => Answer::Not(PublishError::KeyReused),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::frame::EventType;
    use crate::topic::Topics;

    fn publication(data: &str, topics: Topics) -> Publication {
        Publication::new(EventType::default(), data, topics, None)
    }

    fn request_of(data: &str) -> (PublishRequest, oneshot::Receiver<Result<Published, PublishError>>) {
        let (reply, answer) = oneshot::channel();
        (
            PublishRequest {
                publication: Publication::new(EventType::default(), data, Topics::default(), None),
                reply,
            },
            answer,
        )
    }

    fn words(words: &[&str]) -> Value {
        Value::Array(words.iter().map(|word| Value::SimpleString((*word).to_owned())).collect())
    }

    #[test]
    fn each_publisher_gets_the_outcome_of_its_own_event() {
        let (requests, answers): (Vec<_>, Vec<_>) = ["1", "2", "3"].map(request_of).into_iter().unzip();
        let mut appended = Vec::new();
        let said = vec![words(&["0000000a", "5-0"]), words(&[]), words(&["0000000a", "6-1"])];
        let failed =
            Sent::of(requests).answer(said, true, |id, event| appended.push((id, event.data.clone())));
        assert!(matches!(failed, Err(Failed::OtherGeneration)));
        let outcomes: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().ok()).collect();
        assert_eq!(outcomes[0].unwrap().unwrap().id.to_string(), "0000000a-5-0");
        assert_eq!(outcomes[1], None, "the log was not joined: its publisher waits for the next session");
        assert_eq!(outcomes[2].unwrap().unwrap().id.to_string(), "0000000a-6-1");
        assert_eq!(appended.len(), 2);
    }

    #[test]
    fn an_event_without_the_copy_it_needs_is_not_acknowledged_but_remembered() {
        let (request, mut answer) = request_of("1");
        let mut appended = 0;
        let said = vec![words(&["0000000a", "5-0"])];
        Sent::of(vec![request]).answer(said, false, |_, _| appended += 1).unwrap();
        assert_eq!((answer.try_recv().unwrap(), appended), (Err(UNKNOWN), 1));
    }

    #[test]
    fn a_request_that_was_sent_and_not_answered_may_have_been_done() {
        let (request, mut answer) = request_of("1");
        drop(Sent::of(vec![request]));
        assert_eq!(answer.try_recv().unwrap(), Err(UNKNOWN));
    }

    #[test]
    fn another_event_under_a_known_key_is_refused() {
        let read = |fingerprint: &str, publication: &Publication| {
            read(words(&["0000000a", "5-0", fingerprint]), publication).unwrap()
        };
        let first = publication("1", Topics::default());
        let known = first.fingerprint().to_hex();
        assert!(matches!(read(&known, &first), Answer::Found(_)));
        assert!(matches!(read("00", &first), Answer::Not(PublishError::KeyReused)));
        // The same data to other topics is another event.
        let elsewhere = publication("1", Topics::parse("orders/1").unwrap());
        assert!(matches!(read(&known, &elsewhere), Answer::Not(PublishError::KeyReused)));
        assert!(matches!(read(&elsewhere.fingerprint().to_hex(), &elsewhere), Answer::Found(_)));
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_with_the_topics_of_its_events() {
        let (reply, _answer) = oneshot::channel();
        let publication = publication("12", Topics::parse("orders/1 default").unwrap());
        assert_eq!(PublishRequest { publication, reply }.bytes(), 2 + 16);
    }
}
