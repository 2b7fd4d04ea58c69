//! The one function every call of Redis goes through: it owns the deadline, the second try after a
//! broken connection, and what the breaker learns.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult};
use thread_local::ThreadLocal;
use tokio::time::Instant;

use super::batch::Answer;
use super::worker_connection::WorkerConnection;
use crate::clock::Jitter;
use crate::redis::{Connection, Connector, Fault};
use crate::store::StoreError;
use crate::store::shared_breaker::SharedBreaker;

/// For all that a request waits for Redis, a new connection and a second try included.
const REQUEST_DEADLINE: Duration = Duration::from_millis(150);
/// For a question of the pulse, which checks its connection first: two round trips, and no request
/// waits for them.
const PULSE_DEADLINE: Duration = Duration::from_millis(300);
/// For the same while the breaker is not closed: a new connection may take longer.
const RECOVERY_DEADLINE: Duration = Duration::from_millis(600);

/// Where a call belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Of a request: on the worker's shared connection, only while the breaker is closed.
    Hot,
    /// Of the pulse: on a connection from the pool, whatever the breaker says.
    Pulse,
}

/// The way to Redis.
pub(super) struct Client {
    connector: Arc<Connector>,
    jitter: Arc<Jitter>,
    breaker: Arc<SharedBreaker>,
    connections: ThreadLocal<Arc<WorkerConnection>>,
}

impl Client {
    pub(super) fn new(connector: Connector, jitter: Arc<Jitter>, breaker: Arc<SharedBreaker>) -> Self {
        Self { connector: Arc::new(connector), jitter, breaker, connections: ThreadLocal::new() }
    }

    /// What this worker thread has for itself.
    pub(super) fn lane(&self) -> &Arc<WorkerConnection> {
        self.connections.get_or_default()
    }

    /// What all worker threads have for themselves.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Arc<WorkerConnection>> {
        self.connections.iter()
    }

    /// The answer to one command of a request, which goes out with those of others.
    pub(super) async fn ask_with_others(self: &Arc<Self>, command: Cmd) -> Answer {
        if !self.breaker.is_closed() {
            return Err(StoreError::Unavailable);
        }
        let lane = self.lane();
        let (answer, is_first) = lane.batch.add(command, REQUEST_DEADLINE);
        if is_first {
            // Runs when the requests that are ready now have had their turn.
            tokio::spawn(Arc::clone(self).flush(Arc::clone(lane)));
        }
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Sends what waits in a lane.
    async fn flush(self: Arc<Self>, lane: Arc<WorkerConnection>) {
        let waiting = lane.batch.take();
        let commands = &waiting.commands;
        let answers = self.ask(|mut connection| async move { connection.ask_all(commands).await }).await;
        waiting.answer(answers);
    }

    /// A call of a request.
    pub(super) async fn ask<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        self.ask_since(Instant::now(), work).await
    }

    /// A call of a request that has asked before: all of it counts towards the deadline.
    pub(super) async fn ask_since<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        asked_at: Instant,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        if !self.breaker.is_closed() {
            return Err(StoreError::Unavailable);
        }
        match self.call_from(asked_at, Path::Hot, work).await {
            Ok(answer) => {
                self.lane().answered();
                self.breaker.succeeded();
                Ok(answer)
            }
            Err(fault) => {
                if fault == Fault::Timeout {
                    self.lane().timed_out(asked_at);
                }
                self.breaker.failed(&fault, asked_at);
                Err(StoreError::Unavailable)
            }
        }
    }

    /// A call on either path; what it means for the breaker is the caller's to say.
    pub(super) async fn call<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        path: Path,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, Fault> {
        self.call_from(Instant::now(), path, work).await
    }

    async fn call_from<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        asked_at: Instant,
        path: Path,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, Fault> {
        let deadline = match path {
            Path::Hot => REQUEST_DEADLINE,
            Path::Pulse if self.breaker.is_closed() => PULSE_DEADLINE,
            Path::Pulse => RECOVERY_DEADLINE,
        };
        let answer = async {
            match self.attempt(path, deadline, &work).await {
                // Whatever was sent may have been done, and everything may be done twice.
                // In a box, as all that is rare here: what every request does should be small.
                Err(Attempt::Broke) => Box::pin(self.attempt(path, deadline, &work)).await,
                other => other,
            }
        };
        match tokio::time::timeout_at(asked_at + deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Attempt::Failed(fault))) => Err(fault),
            Ok(Err(Attempt::Broke)) => Err(Fault::Disconnected("twice in a row".to_owned())),
            Err(_elapsed) => Err(Fault::Timeout),
        }
    }

    /// Whether the pulse's server is still the one to talk to; no, where that cannot be learned in
    /// time.
    pub(super) async fn is_still_the_master(&self, asked_at: Instant) -> bool {
        let asked = self.connector.is_still_the_master();
        tokio::time::timeout_at(asked_at + REQUEST_DEADLINE, asked).await.unwrap_or(false)
    }

    /// After a beat that failed, the next one begins from nothing: it asks for the master, and
    /// dials, anew.
    pub(super) fn begin_anew(&self) {
        self.connector.forget();
        self.lane().clear();
    }

    /// After a change of the data's name, requests must not go on talking to where it was before.
    pub(super) fn invalidate_connections(&self) {
        self.breaker.invalidate_connections();
    }

    /// Whether requests reach Redis at present.
    pub(super) fn is_in_use(&self) -> bool {
        self.breaker.is_closed()
    }

    async fn attempt<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        path: Path,
        patience: Duration,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, Attempt> {
        if path == Path::Pulse && self.connector.has_pool() {
            let pooled = Box::pin(self.connector.from_pool(patience)).await?;
            return Box::pin(work(Connection::Node((*pooled).clone()))).await.map_err(Attempt::from);
        }
        let lane = self.lane();
        let generation = self.breaker.generation();
        let (connection, id) = match lane.live(generation) {
            Some(live) => live,
            None => Box::pin(lane.connection(&self.connector, &self.jitter, generation)).await?,
        };
        work(connection).await.map_err(|error| {
            let attempt = Attempt::from(error);
            if matches!(attempt, Attempt::Broke) {
                lane.discard(id);
            }
            attempt
        })
    }
}

/// How an attempt failed.
enum Attempt {
    /// In a way that a new connection may cure.
    Broke,
    Failed(Fault),
}

impl From<RedisError> for Attempt {
    fn from(error: RedisError) -> Self {
        if error.is_connection_dropped() { Self::Broke } else { Self::Failed(error.into()) }
    }
}

impl From<Fault> for Attempt {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}
