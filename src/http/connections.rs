//! Connections of clients: their bound, and the deadlines for the heads of requests.
//!
//! actix has a deadline for the head of a connection's first request only, and stops accepting at
//! its limit. Here every head has a deadline. Without room for a new connection, the connection
//! that was idle the longest is closed, so that held connections cannot lock out health checks and
//! others.

mod watched;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(super) use self::watched::Watched;
use crate::metrics::{Closed, Metrics};

/// State of a connection with a request in progress.
const ANSWERING: u64 = u64::MAX;
/// State of a connection that is closed to make room.
const CLOSED: u64 = u64::MAX - 1;
/// Connections that are chosen at once to make room, because a choice examines all of them.
const CHOSEN: usize = 64;

/// Deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From the first byte of a head to its last.
    pub(super) head: Duration,
    /// From one request to the next.
    pub(super) idle: Duration,
}

/// Open connections of all workers.
pub(super) struct Connections {
    most: usize,
    deadlines: Deadlines,
    metrics: Arc<Metrics>,
    /// Start of the time that states count from.
    start: Instant,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Arc<Connection>>,
    next: u64,
    /// Connections that were idle the longest when they were chosen, by state and key, the longest
    /// last. One that had a request since then has another state.
    chosen: Vec<(u64, u64)>,
}

impl Connections {
    pub(super) fn new(most: usize, deadlines: Deadlines, metrics: Arc<Metrics>) -> Self {
        Self { most, deadlines, metrics, start: Instant::now(), table: Mutex::default() }
    }

    /// Adds an accepted connection.
    ///
    /// # Errors
    /// There is no room, and every connection has a request in progress.
    pub(super) fn enter(self: &Arc<Self>) -> io::Result<Arc<Connection>> {
        let mut table = self.table.lock();
        if table.open.len() >= self.most {
            if !table.make_room() {
                self.metrics.connection_closed(Closed::NoRoom);
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            self.metrics.connection_closed(Closed::ForRoom);
        }
        let key = table.next;
        table.next += 1;
        let connection = Arc::new(Connection {
            key,
            connections: Arc::clone(self),
            state: AtomicU64::new(self.now()),
            waker: AtomicWaker::new(),
        });
        table.open.insert(key, Arc::clone(&connection));
        Ok(connection)
    }

    fn leave(&self, key: u64) {
        self.table.lock().open.remove(&key);
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(CLOSED - 1)
    }
}

impl Table {
    /// Closes the connection that was idle the longest. It leaves the table at once; its worker
    /// closes the file.
    fn make_room(&mut self) -> bool {
        // All that were chosen before may have had requests since.
        self.close_chosen() || {
            self.choose();
            self.close_chosen()
        }
    }

    fn close_chosen(&mut self) -> bool {
        while let Some((state, key)) = self.chosen.pop() {
            if self.open.get(&key).is_some_and(|connection| connection.close(state)) {
                self.open.remove(&key);
                return true;
            }
        }
        false
    }

    fn choose(&mut self) {
        let idle =
            self.open.values().filter_map(|connection| Some((connection.idle_since()?, connection.key)));
        let mut idle: Vec<_> = idle.collect();
        if idle.len() > CHOSEN {
            idle.select_nth_unstable(CHOSEN);
            idle.truncate(CHOSEN);
        }
        idle.sort_unstable_by_key(|idle| Reverse(*idle));
        self.chosen = idle;
    }
}

/// A connection, as other workers see it.
pub(super) struct Connection {
    key: u64,
    connections: Arc<Connections>,
    /// [`ANSWERING`], [`CLOSED`], or the time since which it is idle, which differs each time.
    state: AtomicU64,
    /// Wakes its worker to close it.
    waker: AtomicWaker,
}

impl Connection {
    /// Time since which it is idle, in ns; `None` with a request in progress or if it is closed.
    fn idle_since(&self) -> Option<u64> {
        Some(self.state.load(Ordering::Acquire)).filter(|state| *state < CLOSED)
    }

    /// End of an idle period.
    fn idle_until(&self, since: u64) -> Instant {
        self.connections.start + Duration::from_nanos(since) + self.connections.deadlines.idle
    }

    fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Closes it if it was idle since then.
    fn close(&self, since: u64) -> bool {
        let closed = self.state.compare_exchange(since, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if closed {
            self.waker.wake();
        }
        closed
    }
}

/// A request in progress. Its connection is not closed to make room.
pub(super) struct Answering {
    /// `None` in tests without connections.
    connection: Option<Arc<Connection>>,
    before: u64,
}

impl Answering {
    /// Begins a request; `None` if its connection was closed meanwhile.
    pub(super) fn begin(connection: Option<&Arc<Connection>>) -> Option<Self> {
        let Some(connection) = connection else { return Some(Self { connection: None, before: 0 }) };
        let begin = |state| (state < CLOSED).then_some(ANSWERING);
        let before = connection.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin).ok()?;
        Some(Self { connection: Some(Arc::clone(connection)), before })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            let now = connection.connections.now();
            connection.state.store(now.max(self.before + 1), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const DEADLINES: Deadlines =
        Deadlines { head: Duration::from_secs(5), idle: Duration::from_secs(75) };

    pub(super) fn connections(most: usize) -> Arc<Connections> {
        Arc::new(Connections::new(most, DEADLINES, Arc::new(Metrics::new().unwrap())))
    }

    fn begin(connection: &Arc<Connection>) -> Option<Answering> {
        Answering::begin(Some(connection))
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_without_a_request_for_longest_makes_room_for_another() {
        let connections = connections(3);
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(connections.enter().unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // The first has had a request since it came.
        drop(begin(&open[0]));
        for closed in [1, 2, 0] {
            tokio::time::advance(Duration::from_secs(1)).await;
            open.push(connections.enter().unwrap());
            assert!(open[closed].is_closed(), "{closed}");
            assert_eq!(open.iter().filter(|connection| !connection.is_closed()).count(), 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_never_makes_room() {
        let connections = connections(2);
        let [one, other] = [(); 2].map(|()| connections.enter().unwrap());
        let [stream, request] = [&one, &other].map(|connection| begin(connection).unwrap());
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(connections.enter().is_err());
        drop(request);
        assert!(connections.enter().is_ok());
        assert_eq!((one.is_closed(), other.is_closed()), (false, true));
        drop(stream);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_chosen_and_has_had_a_request_since_stays() {
        let connections = connections(3);
        let open = [(); 3].map(|()| connections.enter().unwrap());
        // Chosen with it, so that both are chosen in advance of the next.
        let (first, rest) = open.split_first().unwrap();
        connections.enter().unwrap();
        assert!(first.is_closed());
        for kept in rest {
            drop(begin(kept));
        }
        let newest = connections.enter().unwrap();
        assert!(rest.iter().all(|connection| !connection.is_closed()) && !newest.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_on_a_connection_that_was_closed_for_room_is_not_begun() {
        let connections = connections(1);
        let closed = connections.enter().unwrap();
        let other = connections.enter().unwrap();
        assert!(begin(&closed).is_none());
        assert!(begin(&other).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_of_many_go_first_and_in_their_order() {
        let connections = connections(3 * CHOSEN);
        let mut open = Vec::new();
        for _ in 0..3 * CHOSEN {
            open.push(connections.enter().unwrap());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        for number in 0..2 * CHOSEN {
            tokio::time::advance(Duration::from_millis(1)).await;
            open.push(connections.enter().unwrap());
            let is_closed = open.iter().take_while(|connection| connection.is_closed()).count();
            assert_eq!(is_closed, number + 1);
        }
        assert_eq!(connections.table.lock().open.len(), 3 * CHOSEN);
    }
}
