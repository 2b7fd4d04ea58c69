//! Commands that a server receives, as it reports them (MONITOR).

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::RedisServer;
use crate::endpoint::Endpoint;
use crate::patience::until;

/// Collects what `MONITOR` prints, one line for each command, until it is dropped.
pub struct Monitor {
    endpoint: Endpoint,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl RedisServer {
    /// Starts to watch. Commands that the kit itself sends are seen, too.
    pub async fn monitor(&self) -> Monitor {
        let client = self.endpoint.client().expect("the address is one");
        let monitor = client.get_async_monitor().await.expect("the server can be watched");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        let reader = tokio::spawn(async move {
            let mut commands = monitor.into_on_message::<String>();
            while let Some(line) = commands.next().await {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Monitor { endpoint: self.endpoint.clone(), lines, reader }
    }
}

impl Monitor {
    /// Everything the server was asked so far, up to this call for certain.
    pub async fn lines(&self) -> Vec<String> {
        // Commands are seen in order: with this one, all before it have been.
        let mark = format!("monitor-mark-{:016x}", fastrand::u64(..));
        self.endpoint.ask(&["ECHO", &mark]).await.expect("the server still answers");
        let mut lines = Vec::new();
        until("the monitor to catch up", async || {
            lines.clone_from(&self.lines.lock().unwrap_or_else(PoisonError::into_inner));
            lines.iter().any(|line| line.contains(&mark))
        })
        .await;
        lines.retain(|line| !line.contains("monitor-mark-"));
        lines
    }

    /// Stops watching and returns everything the server was asked meanwhile.
    pub async fn stop(self) -> Vec<String> {
        self.lines().await
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
