//! Exchange of questions and answers with the other instances.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::{Cmd, RedisResult, Value};
use tokio::time::Instant;

use super::answer::LARGEST;
use super::{Asked, MOST_LISTED, QuestionId};
use crate::clock::UnixMillis;
use crate::events::StreamFilter;
use crate::limits::REDIS_DEADLINE;
use crate::principal::PrincipalId;
use crate::redis::stream::{StreamEntry, news};
use crate::redis::{Claim, Connection, Fault, LoggedOnce, Namespace, OffPath, RedisSettings, questions};
use crate::store::{OtherInstances, RedisStore};
use crate::token::Subject;
use crate::topic::Topics;

/// Position before the first answer.
pub(super) const BEGINNING: &str = "0";
/// Bound of the name of an instance.
const LONGEST_NAME: usize = 256;

/// The question which streams are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(super) id: QuestionId,
    pub(super) filter: StreamFilter,
    /// The only instance that is asked; `None`: all.
    pub(super) instance: Option<String>,
    /// Number of streams that each instance names at most.
    pub(super) limit: usize,
    /// Bound of each answer in bytes.
    pub(super) bytes: usize,
}

impl Question {
    /// Fields in Redis.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { id, filter: StreamFilter { subject, topic, principal }, instance, limit, bytes } = self;
        let mut fields = vec![
            ("kind", "list".to_owned()),
            ("id", id.to_string()),
            ("limit", limit.to_string()),
            ("bytes", bytes.to_string()),
        ];
        fields.extend(subject.as_ref().map(|subject| ("subject", subject.as_str().to_owned())));
        fields.extend(topic.as_ref().map(|topic| ("topic", topic.clone())));
        fields.extend(principal.as_ref().map(|principal| ("principal", principal.to_string())));
        fields.extend(instance.as_ref().map(|instance| ("instance", instance.clone())));
        fields
    }

    /// Parses an entry; `None` if it is invalid. A field that is there and cannot be read makes it
    /// invalid: without the field the question would ask for more.
    pub(super) fn read(entry: &StreamEntry<'_>) -> Option<Self> {
        if entry.field("kind") != Some("list") {
            return None;
        }
        let topic = |text: &str| Topics::new([text]).is_ok().then(|| text.to_owned());
        let name = |text: &str| (text.len() <= LONGEST_NAME).then(|| text.to_owned());
        let number = |name| entry.field(name)?.parse::<usize>().ok();
        Some(Self {
            id: QuestionId::parse(entry.field("id")?)?,
            filter: StreamFilter {
                subject: optional(entry, "subject", Subject::parse).ok()?,
                topic: optional(entry, "topic", topic).ok()?,
                principal: optional(entry, "principal", PrincipalId::parse).ok()?,
            },
            instance: optional(entry, "instance", name).ok()?,
            limit: number("limit")?.clamp(1, MOST_LISTED),
            bytes: number("bytes")?.min(LARGEST),
        })
    }
}

/// A field that is there and cannot be read.
struct InvalidField;

fn optional<T>(
    entry: &StreamEntry<'_>,
    name: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, InvalidField> {
    if !entry.has(name) {
        return Ok(None);
    }
    entry.field(name).and_then(parse).map(Some).ok_or(InvalidField)
}

/// Way to the other instances.
#[async_trait]
pub(crate) trait Exchange: Send + Sync {
    /// The other instances.
    async fn others(&self, due: Instant) -> Asked;

    /// The present moment by the clock of Redis, as far as it is known.
    fn now(&self) -> UnixMillis;

    /// Whether answers may arrive.
    fn is_available(&self) -> bool;

    /// Asks a question. Returns whether the other instances can read it.
    async fn ask(&self, question: &Question, due: Instant) -> bool;

    /// Answers a question that was asked at `asked_at`, by the clock of Redis.
    async fn answer(&self, id: QuestionId, asked_at: UnixMillis, from: &str, answer: &str, due: Instant);

    /// Answers after `read_to`, with the names of their instances.
    async fn answers(&self, id: QuestionId, read_to: &mut String, due: Instant) -> Vec<(String, String)>;

    /// Removes the answers to a question.
    async fn remove_answers(&self, id: QuestionId);
}

/// Exchange through Redis, off the hot path.
pub struct RedisExchange {
    store: Arc<RedisStore>,
    claim: Arc<Claim>,
    namespace: Namespace,
    connections: OffPath,
    logged: Mutex<LoggedOnce>,
}

impl RedisExchange {
    /// Creates it without dialling.
    ///
    /// # Errors
    /// The settings contradict one another.
    pub fn new(settings: RedisSettings, store: Arc<RedisStore>, claim: Arc<Claim>) -> Result<Self, Fault> {
        let namespace = settings.namespace.clone();
        Ok(Self { store, claim, namespace, connections: OffPath::new(settings)?, logged: Mutex::default() })
    }

    async fn ask_one(&self, command: Cmd, due: Instant) -> Option<Value> {
        let command = &command;
        self.call(due, |mut connection| async move { connection.ask(command).await }).await
    }

    async fn call<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        due: Instant,
        work: impl FnOnce(Connection) -> F + Send,
    ) -> Option<T> {
        match self.connections.call(due, work).await {
            Ok(answer) => {
                self.logged.lock().clear();
                Some(answer)
            }
            Err(fault) => {
                if self.is_available() && self.logged.lock().is_new(&fault) {
                    tracing::warn!(
                        reason = fault.label(),
                        "questions about open streams cannot be exchanged with the other instances: {fault}. Lists name the instances that are missing in them"
                    );
                }
                None
            }
        }
    }
}

#[async_trait]
impl Exchange for RedisExchange {
    async fn others(&self, due: Instant) -> Asked {
        let known = || {
            let OtherInstances { live, seen } = self.store.others();
            // Nobody answers while Redis is unavailable.
            Asked::new(if self.is_available() { live } else { Vec::new() }, seen)
        };
        if !self.is_available() {
            return known();
        }
        // Read again: since the last exchange an instance may have started, or ended.
        let read = &self.store.read_members();
        let records = self.call(due, |mut connection| async move { connection.ask_all(read).await });
        let read = records.await.and_then(|answers| self.store.others_in(answers));
        read.map_or_else(known, |OtherInstances { live, seen }| Asked::new(live, seen))
    }

    fn now(&self) -> UnixMillis {
        self.store.redis_now()
    }

    fn is_available(&self) -> bool {
        self.store.is_in_use() && self.claim.is_held()
    }

    async fn ask(&self, question: &Question, due: Instant) -> bool {
        let command = questions::ask(&questions::stream(&self.namespace), &question.fields());
        self.is_available() && self.ask_one(command, due).await.is_some()
    }

    async fn answer(&self, id: QuestionId, asked_at: UnixMillis, from: &str, answer: &str, due: Instant) {
        let answers = questions::answers(&self.namespace, &id.to_string());
        if self.is_available() {
            self.ask_one(questions::answer(&answers, asked_at, from, answer), due).await;
        }
    }

    async fn answers(&self, id: QuestionId, read_to: &mut String, due: Instant) -> Vec<(String, String)> {
        let answers = questions::answers(&self.namespace, &id.to_string());
        let Some(found) = self.ask_one(questions::read(&answers, read_to), due).await else {
            return Vec::new();
        };
        let entries = news(&found).unwrap_or_default();
        if let Some(last) = entries.last() {
            last.position.clone_into(read_to);
        }
        let answer = |entry: &StreamEntry<'_>| {
            let from = entry.field("from").filter(|from| from.len() <= LONGEST_NAME)?;
            Some((from.to_owned(), entry.field("answer")?.to_owned()))
        };
        entries.iter().filter_map(answer).collect()
    }

    async fn remove_answers(&self, id: QuestionId) {
        let answers = questions::answers(&self.namespace, &id.to_string());
        if self.is_available() {
            self.ask_one(questions::remove(&answers), Instant::now() + REDIS_DEADLINE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, String)]) -> Value {
        let bytes = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = fields.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]).collect();
        let entry = Value::Array(vec![bytes("1-0"), Value::Array(fields)]);
        Value::Array(vec![Value::Array(vec![bytes("{vx11}:questions"), Value::Array(vec![entry])])])
    }

    fn read(fields: &[(&str, String)]) -> Option<Question> {
        let answer = entry(fields);
        Question::read(&news(&answer).unwrap()[0])
    }

    fn question() -> Question {
        Question {
            id: QuestionId::parse("00000000000000ab0000000000000001").unwrap(),
            filter: StreamFilter {
                subject: Subject::parse("user-1"),
                topic: Some("orders/1".to_owned()),
                principal: PrincipalId::parse("shop"),
            },
            instance: Some("1".to_owned()),
            limit: 7,
            bytes: 1000,
        }
    }

    #[test]
    fn a_question_reads_back_as_itself() {
        let plain = Question { filter: StreamFilter::default(), instance: None, ..question() };
        for question in [question(), plain] {
            assert_eq!(read(&question.fields()), Some(question));
        }
    }

    #[test]
    fn a_question_with_a_wrong_field_is_none_rather_than_one_for_more_streams() {
        for (wrong, value) in [
            ("kind", "other"),
            ("id", "1"),
            ("subject", "a b"),
            ("topic", "orders/*"),
            ("topic", ""),
            ("principal", ""),
            ("limit", "-1"),
            ("limit", ""),
            ("bytes", "-1"),
        ] {
            let mut fields = question().fields();
            for field in fields.iter_mut().filter(|(name, _)| *name == wrong) {
                value.clone_into(&mut field.1);
            }
            assert_eq!(read(&fields), None, "{wrong} {value}");
        }
        for missing in ["kind", "id", "limit", "bytes"] {
            let mut fields = question().fields();
            fields.retain(|(name, _)| *name != missing);
            assert_eq!(read(&fields), None, "{missing}");
        }
    }

    #[test]
    fn the_numbers_of_a_question_are_kept_within_their_bounds() {
        for (written, limit, bytes) in
            [("0", 1, 0), ("10000", MOST_LISTED, 10_000), ("9999999", MOST_LISTED, LARGEST)]
        {
            let mut fields = question().fields();
            for field in fields.iter_mut().filter(|(name, _)| ["limit", "bytes"].contains(name)) {
                written.clone_into(&mut field.1);
            }
            let read = read(&fields).unwrap();
            assert_eq!((read.limit, read.bytes), (limit, bytes));
        }
    }
}
