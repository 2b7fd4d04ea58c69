//! Worker connections: one multiplexed connection for each worker thread.
//!
//! It is dialled on first use. It is replaced after an error, after [`TIMEOUTS_TO_REDIAL`]
//! timeouts, by age, and when the connection generation changes (`store::shared_breaker`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::batch::Batch;
use crate::clock::{ExpiringCounts, Jitter};
use crate::redis::{Connection, Connector, Fault};

/// Maximum age of a connection; each draws 80 to 100 % of it. It bounds the time for which an old
/// address, credential or middlebox is used.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Interval of the check of the age; shorter than any deadline.
const KEEPER_INTERVAL: Duration = Duration::from_millis(100);

/// Pause after a failed replacement of an old connection, which stays in use meanwhile.
const BETWEEN_DIALS: Duration = Duration::from_secs(10);
/// Consecutive timeouts after which a connection counts as dead.
const TIMEOUTS_TO_REDIAL: u32 = 3;

/// A pending dial: the connection and its id.
type Dialling = Shared<BoxFuture<'static, Result<(Connection, u64), Fault>>>;

/// State of one worker thread. Workers share no cache line on the hot path.
#[derive(Default)]
pub(super) struct WorkerConnection {
    state: Mutex<State>,
    pub(super) batch: Batch,
    /// Consecutive timeouts.
    timeouts: AtomicU32,
    last_timeout: Mutex<Option<Instant>>,
    /// Tokens recorded by this worker, by second of expiry.
    pub(super) recorded: ExpiringCounts,
    /// Tokens revoked by this worker, by second of expiry.
    pub(super) revoked: ExpiringCounts,
    /// The token that was recorded last.
    pub(super) latest: Mutex<Option<Latest>>,
}

/// A recorded token, for samples.
#[derive(Clone, Copy)]
pub(super) struct Latest {
    pub(super) id: crate::token::TokenId,
    pub(super) expires_at: crate::clock::UnixMillis,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    dialling: Option<Dialling>,
    /// Whether [`WorkerConnection::keep`] runs.
    kept: bool,
    next_id: u64,
}

struct Live {
    connection: Connection,
    id: u64,
    /// Connection generation at which it was dialled.
    generation: u64,
    until: Instant,
}

impl WorkerConnection {
    /// The connection, if there is one of this generation.
    pub(super) fn live(&self, generation: u64) -> Option<(Connection, u64)> {
        let state = self.state.lock();
        let live = state.live.as_ref().filter(|live| live.generation == generation);
        live.map(|live| (live.connection.clone(), live.id))
    }

    /// The connection, dialled if there is none of this generation.
    pub(super) async fn connection(
        self: &Arc<Self>,
        connector: &Arc<Connector>,
        jitter: &Arc<Jitter>,
        generation: u64,
    ) -> Result<(Connection, u64), Fault> {
        let dialling = {
            let mut state = self.state.lock();
            if state.live.as_ref().is_some_and(|live| live.generation != generation) {
                (state.live, state.dialling) = (None, None);
            }
            if let Some(live) = &state.live {
                return Ok((live.connection.clone(), live.id));
            }
            // A failed dial would return its error for ever.
            state.dialling.take_if(|dialling| matches!(dialling.peek(), Some(Err(_))));
            if let Some(dialling) = &state.dialling {
                dialling.clone()
            } else {
                let new = self.dial(connector, jitter, generation);
                if !std::mem::replace(&mut state.kept, true) {
                    let (connector, jitter) = (Arc::clone(connector), Arc::clone(jitter));
                    tokio::spawn(Self::keep(Arc::downgrade(self), connector, jitter));
                }
                state.dialling.insert(new).clone()
            }
        };
        dialling.await
    }

    /// Background task: replaces the connection when it is old. The old one stays in use until the
    /// new one is dialled. Ends when the worker thread drops its state.
    ///
    /// Its short interval also saves system calls: tokio makes one for each new timer that is due
    /// before all others, which the deadline of every call would be (a fifth of the throughput).
    async fn keep(worker: Weak<Self>, connector: Arc<Connector>, jitter: Arc<Jitter>) {
        let mut tick = tokio::time::interval(KEEPER_INTERVAL);
        loop {
            tick.tick().await;
            let Some(worker) = worker.upgrade() else { return };
            let mut state = worker.state.lock();
            let old = state.live.as_ref().filter(|live| live.until <= Instant::now());
            if let Some(generation) = old.map(|live| live.generation)
                && state.dialling.is_none()
            {
                state.dialling = Some(worker.dial(&connector, &jitter, generation));
            }
        }
    }

    /// Drops the connection with this id, which broke. A connection that has replaced it stays.
    pub(super) fn discard(&self, id: u64) {
        self.state.lock().live.take_if(|live| live.id == id);
    }

    /// Drops the connection.
    pub(super) fn clear(&self) {
        self.state.lock().live = None;
    }

    /// Notes an answer.
    pub(super) fn answered(&self) {
        if self.timeouts.load(Ordering::Relaxed) > 0 {
            self.timeouts.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a timeout, and drops the connection after several. A connection whose packets are lost
    /// never ends, and answers on other worker connections keep the breaker closed. Calls that wait
    /// in the same pause count once, as for the breaker (docs/adr/0012).
    pub(super) fn timed_out(&self, asked_at: Instant) {
        {
            let mut last = self.last_timeout.lock();
            if last.is_some_and(|last| asked_at < last) {
                return;
            }
            *last = Some(Instant::now());
        }
        if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_TO_REDIAL {
            self.timeouts.store(0, Ordering::Relaxed);
            self.clear();
        }
    }

    /// Dials in a separate task, which goes on if the callers give up.
    fn dial(self: &Arc<Self>, connector: &Arc<Connector>, jitter: &Arc<Jitter>, generation: u64) -> Dialling {
        let (worker, connector) = (Arc::clone(self), Arc::clone(connector));
        let age = jitter.between(MAX_AGE * 4 / 5, MAX_AGE);
        let task = tokio::spawn(async move {
            let outcome = connector.dial().await;
            let mut state = worker.state.lock();
            state.next_id += 1;
            let id = state.next_id;
            // The result of a dial of an older generation is ignored.
            if state.live.as_ref().is_none_or(|live| live.generation <= generation) {
                state.dialling = None;
                match (&outcome, &mut state.live) {
                    (Ok(connection), _) => {
                        let until = Instant::now() + age;
                        state.live = Some(Live { connection: connection.clone(), id, generation, until });
                    }
                    (Err(_), Some(old)) => old.until = Instant::now() + BETWEEN_DIALS,
                    (Err(_), None) => {}
                }
            }
            outcome.map(|connection| (connection, id))
        });
        task.map(|ended| ended.unwrap_or_else(|error| Err(Fault::Unexpected(error.to_string()))))
            .boxed()
            .shared()
    }
}
