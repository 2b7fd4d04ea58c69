//! The client: every call of Redis by the store goes through it. It owns the deadline, the second
//! try after a broken connection, and the report to the circuit breaker.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult};
use thread_local::ThreadLocal;
use tokio::time::Instant;

use super::batch::Answer;
use super::worker_connection::WorkerConnection;
use crate::clock::Jitter;
use crate::limits::REDIS_DEADLINE;
use crate::redis::{Connection, Connector, Fault, HostPort};
use crate::store::StoreError;
use crate::store::shared_breaker::SharedBreaker;

/// Deadline of a health check. It takes two round trips, because it tests its connection first, and
/// no request waits for it.
const HEALTH_CHECK_DEADLINE: Duration = Duration::from_millis(300);
/// Deadline of a health check while the breaker is not closed, because dialling takes longer.
const RECOVERY_DEADLINE: Duration = Duration::from_millis(600);

/// Purpose of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// A request: on the worker connection, only while the breaker is closed.
    Hot,
    /// A health check: on a connection from the pool, independent of the breaker.
    HealthCheck,
}

/// Client of the store for Redis.
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

    /// The connection of this worker thread.
    pub(super) fn worker_connection(&self) -> &Arc<WorkerConnection> {
        self.connections.get_or_default()
    }

    /// The connections of all worker threads.
    pub(super) fn worker_connections(&self) -> impl Iterator<Item = &Arc<WorkerConnection>> {
        self.connections.iter()
    }

    /// Sends one command of a request in a batch with those of other requests.
    pub(super) async fn ask_with_others(self: &Arc<Self>, command: Cmd) -> Answer {
        if !self.breaker.is_closed() {
            return Err(StoreError::Unavailable);
        }
        let worker = self.worker_connection();
        let (answer, is_first) = worker.batch.add(command, REDIS_DEADLINE);
        if is_first {
            // The task runs after the requests that are ready now, which join the batch.
            tokio::spawn(Arc::clone(self).flush(Arc::clone(worker)));
        }
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Sends the batch of a worker connection.
    async fn flush(self: Arc<Self>, worker: Arc<WorkerConnection>) {
        let waiting = worker.batch.take();
        let commands = &waiting.commands;
        let answers = self.ask(|mut connection| async move { connection.ask_all(commands).await }).await;
        waiting.answer(answers);
    }

    /// Calls Redis for a request.
    pub(super) async fn ask<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        self.ask_since(Instant::now(), work).await
    }

    /// Calls Redis again for a request that began at `asked_at`: one deadline covers all its calls.
    pub(super) async fn ask_since<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        asked_at: Instant,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        if !self.breaker.is_closed() {
            return Err(StoreError::Unavailable);
        }
        let answer = self.call_from(asked_at, Path::Hot, work).await;
        self.report(&answer, asked_at);
        answer.map_err(|_fault| StoreError::Unavailable)
    }

    /// Calls Redis for something that requests can do without; `None` if a right is missing, which
    /// is no fault of Redis.
    pub(super) async fn ask_if_permitted<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<Option<T>, StoreError> {
        if !self.breaker.is_closed() {
            return Err(StoreError::Unavailable);
        }
        let asked_at = Instant::now();
        let answer = self.call_from(asked_at, Path::Hot, work).await;
        if matches!(answer, Err(Fault::Permission(_))) {
            return Ok(None);
        }
        self.report(&answer, asked_at);
        answer.map(Some).map_err(|_fault| StoreError::Unavailable)
    }

    /// Reports the outcome of a call to the breaker.
    fn report<T>(&self, answer: &Result<T, Fault>, asked_at: Instant) {
        match answer {
            Ok(_) => {
                self.worker_connection().answered();
                self.breaker.succeeded();
            }
            Err(fault) => {
                if *fault == Fault::Timeout {
                    self.worker_connection().timed_out(asked_at);
                }
                self.breaker.failed(fault, asked_at);
            }
        }
    }

    /// Calls Redis without a report to the breaker, which is left to the caller.
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
            Path::Hot => REDIS_DEADLINE,
            Path::HealthCheck if self.breaker.is_closed() => HEALTH_CHECK_DEADLINE,
            Path::HealthCheck => RECOVERY_DEADLINE,
        };
        let answer = async {
            match self.attempt(path, deadline, &work).await {
                // The first try may have been carried out; all operations are idempotent. Boxed,
                // because it is rare: the future of every request stays small.
                Err(Attempt::Broke) => Box::pin(self.attempt(path, deadline, &work)).await,
                other => other,
            }
        };
        match tokio::time::timeout_at(asked_at + deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Attempt::Failed(fault))) => Err(fault),
            Ok(Err(Attempt::Broke)) => {
                Err(Fault::Disconnected("at the first and at the second try".to_owned()))
            }
            Err(_elapsed) => Err(Fault::Timeout),
        }
    }

    /// Whether the server of the health check is still the master; false if that cannot be learned
    /// in time.
    pub(super) async fn is_still_the_master(&self, asked_at: Instant) -> bool {
        let asked = self.connector.is_still_the_master();
        tokio::time::timeout_at(asked_at + REDIS_DEADLINE, asked).await.unwrap_or(false)
    }

    /// The master that a majority of the sentinels names.
    pub(super) async fn named_master(&self) -> Option<HostPort> {
        self.connector.named_master().await
    }

    /// Discards connections and the known master after a failed health check, so that the next one
    /// asks for the master and dials.
    pub(super) fn forget_connections(&self) {
        self.connector.forget();
        self.worker_connection().clear();
    }

    /// Invalidates all worker connections after a change of the data id.
    pub(super) fn invalidate_connections(&self) {
        self.breaker.invalidate_connections();
    }

    /// Present connection generation.
    pub(super) fn generation(&self) -> u64 {
        self.breaker.generation()
    }

    /// Whether requests use Redis at present.
    pub(super) fn is_in_use(&self) -> bool {
        self.breaker.is_closed()
    }

    async fn attempt<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        path: Path,
        patience: Duration,
        work: impl Fn(Connection) -> F + Send + Sync,
    ) -> Result<T, Attempt> {
        if path == Path::HealthCheck && self.connector.has_pool() {
            let pooled = Box::pin(self.connector.pooled(patience)).await?;
            return Box::pin(work(Connection::Node((*pooled).clone()))).await.map_err(Attempt::from);
        }
        let worker = self.worker_connection();
        let generation = self.breaker.generation();
        let (connection, id) = match worker.live(generation) {
            Some(live) => live,
            None => Box::pin(worker.connection(&self.connector, &self.jitter, generation)).await?,
        };
        work(connection).await.map_err(|error| {
            let attempt = Attempt::from(error);
            if matches!(attempt, Attempt::Broke) {
                worker.discard(id);
            }
            attempt
        })
    }
}

/// Failure of an attempt.
enum Attempt {
    /// The connection broke; a new one may help.
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
