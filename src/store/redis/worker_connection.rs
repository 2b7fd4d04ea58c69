//! One shared connection for each worker thread: dialled where it is used, replaced after an
//! outage, after an error, and by age.

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

/// A connection is replaced at an age between 80 and 100 % of this, so that no forgotten address,
/// credential or middlebox outlives it.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Between two looks at the age of the connection; shorter than any deadline.
const KEEPER_INTERVAL: Duration = Duration::from_millis(100);

/// After a connection could not be replaced for its age, before that is tried again.
const BETWEEN_DIALS: Duration = Duration::from_secs(10);
/// Timeouts in a row after which a connection is taken to be dead.
const TIMEOUTS_TO_REDIAL: u32 = 3;

/// The connection, and what it is called in this lane.
type Dialling = Shared<BoxFuture<'static, Result<(Connection, u64), Fault>>>;

/// What one worker thread has for itself, so that workers share no line of memory on the hot path.
#[derive(Default)]
pub(super) struct WorkerConnection {
    state: Mutex<State>,
    pub(super) batch: Batch,
    /// Calls in a row that were not answered in time.
    timeouts: AtomicU32,
    last_timeout: Mutex<Option<Instant>>,
    /// Tokens recorded through this lane, by the second in which they expire.
    pub(super) recorded: ExpiringCounts,
    /// Those of them that were revoked through this lane.
    pub(super) revoked: ExpiringCounts,
    /// The token last recorded.
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
    /// [`WorkerConnection::keep`] runs.
    kept: bool,
    next_id: u64,
}

struct Live {
    connection: Connection,
    id: u64,
    /// Openings of the breaker before it was dialled.
    generation: u64,
    until: Instant,
}

impl WorkerConnection {
    /// The connection, if there is one from after the last of `generation`.
    pub(super) fn live(&self, generation: u64) -> Option<(Connection, u64)> {
        let state = self.state.lock();
        let live = state.live.as_ref().filter(|live| live.generation == generation);
        live.map(|live| (live.connection.clone(), live.id))
    }

    /// The connection, dialled if there is none from after the last of `generation`.
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
            // One that failed, or was ended with its task, would fail for ever.
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

    /// Replaces the connection when it is old; the old one serves until the new one is there.
    ///
    /// It ticks more often than that takes, and than a call's deadline is long: tokio wakes itself
    /// with a system call for each new timer that is due before all others, which every call's
    /// would be (a fifth of the throughput).
    async fn keep(lane: Weak<Self>, connector: Arc<Connector>, jitter: Arc<Jitter>) {
        let mut tick = tokio::time::interval(KEEPER_INTERVAL);
        loop {
            tick.tick().await;
            let Some(lane) = lane.upgrade() else { return };
            let mut state = lane.state.lock();
            let old = state.live.as_ref().filter(|live| live.until <= Instant::now());
            if let Some(generation) = old.map(|live| live.generation)
                && state.dialling.is_none()
            {
                state.dialling = Some(lane.dial(&connector, &jitter, generation));
            }
        }
    }

    /// Lets go of this connection, because it broke; not of the one that may have replaced it.
    pub(super) fn discard(&self, id: u64) {
        self.state.lock().live.take_if(|live| live.id == id);
    }

    /// Lets go of whichever connection there is.
    pub(super) fn clear(&self) {
        self.state.lock().live = None;
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        if self.timeouts.load(Ordering::Relaxed) > 0 {
            self.timeouts.store(0, Ordering::Relaxed);
        }
    }

    /// A call was not answered in time. A connection whose packets are lost never ends by itself,
    /// and what other lanes hear keeps the breaker closed: after several in a row this one is
    /// dialled anew. As for the breaker, calls that wait through the same pause count once
    /// (docs/adr/0012).
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

    /// Dials in a task of its own: whoever waits for it may give up without ending it.
    fn dial(self: &Arc<Self>, connector: &Arc<Connector>, jitter: &Arc<Jitter>, generation: u64) -> Dialling {
        let (lane, connector) = (Arc::clone(self), Arc::clone(connector));
        let age = jitter.between(MAX_AGE * 4 / 5, MAX_AGE);
        let task = tokio::spawn(async move {
            let outcome = connector.dial().await;
            let mut state = lane.state.lock();
            state.next_id += 1;
            let id = state.next_id;
            // A dial from before an opening has nothing to say any more.
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
