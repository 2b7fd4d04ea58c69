//! An instance of each release on one Redis, publishers and streams.

use std::path::Path;

use serde_json::{Value, json};
use vx11_kit::{
    Answer, Api, EventId, EventStream, Issued, Operator, RedisServer, eventually, new_principal,
    previous_release, until,
};

use crate::this_release;

/// One instance of each release; killed when dropped.
pub(crate) struct Mixed {
    pub(crate) redis: RedisServer,
    pub(crate) old: Operator,
    pub(crate) new: Operator,
    principal: String,
}

impl Mixed {
    /// Starts both, which use Redis when this returns.
    pub(crate) async fn start() -> Self {
        let (redis, principal) = (RedisServer::start().await, new_principal());
        let old = start(&previous_release("debug"), "1", &redis, &principal).await;
        let new = start(this_release(), "2", &redis, &principal).await;
        Self { redis, old, new, principal }
    }

    /// Both instances.
    pub(crate) fn both(&self) -> [&Operator; 2] {
        [&self.old, &self.new]
    }

    /// A further instance of each release, which knows the log from Redis only.
    pub(crate) async fn late(&self) -> [Operator; 2] {
        let old = start(&previous_release("debug"), "3", &self.redis, &self.principal).await;
        [old, start(this_release(), "4", &self.redis, &self.principal).await]
    }
}

async fn start(release: &Path, id: &str, redis: &RedisServer, principal: &str) -> Operator {
    let port = redis.port().to_string();
    let environment = [("INSTANCE_ID", id), ("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port)];
    let instance = Operator::start(release, principal, &environment).await;
    instance.await_well().await;
    until("an instance that uses the event log", async || instance.is_log_available().await == Ok(true))
        .await;
    instance
}

/// A token without a grant.
pub(crate) async fn plain(on: &Api) -> String {
    on.issue().await.unwrap().token
}

/// A token with a grant for these topics.
pub(crate) async fn granted(on: &Api, topics: &[&str]) -> Issued {
    on.issue_with(Some(&json!({ "topics": topics }))).await.unwrap()
}

/// Opens a stream.
pub(crate) async fn stream(on: &Api, token: &str) -> EventStream {
    connected(on.open_stream(token).await).await
}

/// Opens a stream after an event.
pub(crate) async fn resumed(on: &Api, token: &str, after: &str) -> EventStream {
    connected(on.resume_stream(token, after).await).await
}

/// Opens a stream that begins with earlier events.
pub(crate) async fn beginning(on: &Api, token: &str, from: &str) -> EventStream {
    let address = format!("{}/operator/api/events/stream", on.base());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let opened = client.get(address).query(&[("token", token), ("from", from)]).send().await.unwrap();
    EventStream::connected(opened).await
}

async fn connected(opened: Result<Option<reqwest::Response>, String>) -> EventStream {
    EventStream::connected(opened.unwrap().expect("the token is accepted")).await
}

/// Opens a stream with a token without a grant.
pub(crate) async fn of_default(on: &Api) -> EventStream {
    stream(on, &plain(on).await).await
}

/// Opens a stream of these topics.
pub(crate) async fn of_topics(on: &Api, topics: &[&str]) -> EventStream {
    stream(on, &granted(on, topics).await.token).await
}

/// Ids of the next published events, without a reset between them.
pub(crate) async fn next_ids(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = stream.next_published().await;
        assert_eq!(event.event, "message", "after {ids:?}: {}", event.data);
        ids.push(event.id);
    }
    ids
}

/// Publishes under a key, and again as publishers should until the outcome is known.
pub(crate) async fn publish_under(key: &str, on: &Api, topics: &[&str], data: &Value) -> Answer {
    let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    eventually("the outcome of a publish", async || match on.publish_to(&topics, key, data).await.0 {
        Answer::Refused | Answer::Unknown => None,
        answer => Some(answer),
    })
    .await
}

/// The same for an event that is taken; returns its id.
pub(crate) async fn acknowledged(key: &str, on: &Api, topics: &[&str], data: &Value) -> EventId {
    match publish_under(key, on, topics, data).await {
        Answer::Acknowledged { id, .. } => id,
        other => panic!("{key}: {other:?}"),
    }
}

/// Whether the key was used for another event.
pub(crate) fn is_reused(answer: &Answer) -> bool {
    matches!(answer, Answer::Unanswered(words) if words.contains("idempotency_key_reused"))
}

/// Publishes an event, to `default` if there are no topics, and returns its id.
pub(crate) async fn publish(on: &Api, topics: &[&str], data: &Value) -> String {
    let key = format!("{:032x}", fastrand::u128(..));
    acknowledged(&key, on, topics, data).await.to_string()
}
