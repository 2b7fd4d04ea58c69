//! Calls off the hot path that may carry much: on separate connections, so that they delay neither
//! requests nor health checks.

use parking_lot::Mutex;
use redis::{RedisError, RedisResult};
use tokio::time::{Instant, timeout_at};

use super::connect::Connector;
use super::connection::Connection;
use super::error::Fault;
use super::settings::RedisSettings;

/// Connections for calls off the hot path. They are dialled when they are needed.
pub(crate) struct OffPath {
    connector: Connector,
    /// The connection to a cluster, which is a pool already.
    cluster: Mutex<Option<Connection>>,
}

impl OffPath {
    /// Creates it without dialling.
    pub(crate) fn new(settings: RedisSettings) -> RedisResult<Self> {
        Ok(Self { connector: Connector::new(settings)?, cluster: Mutex::default() })
    }

    /// Calls Redis, up to `deadline`. After a failure the next call dials, and asks the sentinels
    /// for the master.
    pub(crate) async fn call<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        deadline: Instant,
        work: impl FnOnce(Connection) -> F + Send,
    ) -> Result<T, Fault> {
        let answer = match timeout_at(deadline, self.attempt(deadline, work)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Fault::Timeout),
        };
        if answer.is_err() {
            self.connector.forget();
            *self.cluster.lock() = None;
        }
        answer
    }

    async fn attempt<T, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        deadline: Instant,
        work: impl FnOnce(Connection) -> F + Send,
    ) -> Result<T, Fault> {
        if self.connector.has_pool() {
            let patience = deadline.saturating_duration_since(Instant::now());
            let pooled = self.connector.pooled(patience).await?;
            return work(Connection::Node((*pooled).clone())).await.map_err(RedisError::into);
        }
        let known = self.cluster.lock().clone();
        let connection = if let Some(connection) = known {
            connection
        } else {
            let dialled = self.connector.dial().await?;
            *self.cluster.lock() = Some(dialled.clone());
            dialled
        };
        work(connection).await.map_err(RedisError::into)
    }
}
