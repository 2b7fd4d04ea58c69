//! Catch-up: pages of the log for streams that opened at a position outside their instance's ring,
//! or that ask for the last events of the log.
//!
//! It reads on a separate connection, so that neither publishing nor the ring waits for it. Four
//! bounds apply: one page in flight for each token, [`READERS`] pages in flight for all streams,
//! [`HELD_KIB`] of pages that clients have not taken yet (docs/adr/0026), and a [`Budget`] for
//! entries that no client takes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::budget::Budget;
use super::deadline::{ANSWER_DEADLINE, within};
use super::keys::Keys;
use super::pace::PAGE_DEADLINE;
use super::reader::{Back, LogPage, Range};
use super::turns::Turns;
use crate::events::id::{EventId, Position};
use crate::events::log::{EventPage, LogReader, Page, Unreachable};
use crate::metrics::Metrics;
use crate::redis::{Connection, Connector, Fault};
use crate::token::TokenId;
use crate::topic::Patterns;

/// Size of a page in bytes. A larger first event makes a page larger.
const PAGE_BYTES: usize = 32 * 1024;
/// Bound of the pages in flight.
const READERS: usize = 8;
/// Bound, in KiB, of the pages that clients have not taken yet.
const HELD_KIB: usize = 64 * 1024;
/// Reservation, in KiB, for a page before it is read: the largest event with its metadata.
const LARGEST_KIB: u32 = 65;
/// Bound of the time of a page in [`give_way`]: on a slow link it is not Redis that takes it.
const LONGEST_PAGE: Duration = Duration::from_millis(10);
/// Pause between two attempts to connect.
const BETWEEN_DIALS: Duration = Duration::from_millis(150);

/// Reads pages for streams.
pub(super) struct CatchUp {
    metrics: Arc<Metrics>,
    link: watch::Sender<Link>,
    turns: Turns,
    readers: Semaphore,
    budget: Budget,
    held: Arc<Semaphore>,
}

/// State of the connection for catch-up.
#[derive(Clone)]
enum Link {
    /// No session with the log.
    Closed,
    Dialling,
    Open(Arc<Open>),
}

/// A connection, and the log generation that the instance has entered.
struct Open {
    connection: Connection,
    keys: Arc<Keys>,
    generation: String,
}

impl CatchUp {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            link: watch::Sender::new(Link::Closed),
            turns: Turns::default(),
            readers: Semaphore::new(READERS),
            budget: Budget::new(),
            held: Arc::new(Semaphore::new(HELD_KIB)),
        }
    }

    /// Notes that a session has begun, which runs [`serve`](Self::serve).
    pub(super) fn open(&self) {
        self.link.send_replace(Link::Dialling);
    }

    /// Notes that the session has ended.
    pub(super) fn close(&self) {
        self.link.send_replace(Link::Closed);
    }

    /// Keeps a connection to the log open while the future is polled, and replaces one that broke.
    /// It does not end the session: the session checks another connection for that.
    pub(super) async fn serve(
        &self,
        connector: &Connector,
        keys: &Arc<Keys>,
        generation: &str,
    ) -> Infallible {
        loop {
            if let Ok(connection) = connector.dial().await {
                let open = Open { connection, keys: Arc::clone(keys), generation: generation.to_owned() };
                self.link.send_replace(Link::Open(Arc::new(open)));
                let mut link = self.link.subscribe();
                // The sender lives longer than this future.
                let _ = link.wait_for(|link| !matches!(link, Link::Open(_))).await;
            }
            sleep(BETWEEN_DIALS).await;
        }
    }

    /// Waits for the connection, at most [`ANSWER_DEADLINE`].
    async fn link(&self) -> Result<Arc<Open>, Unreachable> {
        let mut link = self.link.subscribe();
        let link = timeout(ANSWER_DEADLINE, link.wait_for(|link| !matches!(link, Link::Dialling))).await;
        match link.map(|link| link.map(|link| link.clone())) {
            Ok(Ok(Link::Open(open))) => Ok(open),
            _ => Err(Unreachable),
        }
    }

    /// Runs `reading` when it is the turn of `token`.
    async fn in_turn<T>(&self, token: Option<TokenId>, reading: impl Future<Output = T> + Send) -> T {
        let in_line = token.map(|token| self.turns.join(token));
        let _turn = match &in_line {
            Some(in_line) => Some(in_line.turn().await),
            None => None,
        };
        reading.await
    }

    async fn page_after(&self, seen: EventId, patterns: &Patterns) -> Result<Page, Unreachable> {
        let mut held = set_aside(&self.held).await?;
        let asked = Instant::now();
        let page = self.read(&Range::after(seen.position, PAGE_BYTES).matching(patterns)).await?;
        let lost = page.beginning.lost_after(seen.position);
        let events = page.for_stream(seen.epoch, patterns).filter(|_| lost.is_none());
        let Some((events, read_to)) = events else { return Ok(Page::Expired) };
        give_back(&mut held, page.bytes);
        if events.is_empty() && read_to.is_some() {
            give_way(asked).await;
        }
        Ok(Page::Events(EventPage { events, read_to, held: Some(held) }))
    }

    /// Counts back from the horizon, page by page. No room is reserved: nothing of a page is kept.
    async fn count_back(
        &self,
        horizon: EventId,
        patterns: &Patterns,
        number: usize,
    ) -> Result<Position, Unreachable> {
        let (mut range, mut left) = (Range::up_to(horizon.position, PAGE_BYTES), number);
        loop {
            let asked = Instant::now();
            let page = self.read(&range.matching(patterns).without_data()).await?;
            match page.count_back(horizon.epoch, patterns, &mut left) {
                Back::Found(position) => return Ok(position),
                Back::From(position) => range = Range::before(Some(position), PAGE_BYTES),
            }
            give_way(asked).await;
        }
    }

    /// Reads a page as one of the [`READERS`], when something of the budget is left.
    async fn read(&self, range: &Range<'_>) -> Result<LogPage, Unreachable> {
        let _reader = self.readers.acquire().await.map_err(|_| Unreachable)?;
        self.budget.left().await;
        let open = self.link().await?;
        let mut connection = open.connection.clone();
        let question = range.question(&open.keys, &open.generation);
        let mut link = self.link.subscribe();
        let answer = tokio::select! {
            answer = within(PAGE_DEADLINE, connection.ask(&question)) => answer,
            // The connection was replaced: its answer will not come.
            _ = link.wait_for(|link| !link.is(&open)) => return Err(Unreachable),
        };
        let page = answer.and_then(LogPage::read).inspect_err(|fault| self.broke(&open, fault));
        // No page: the log generation has changed, and the session is about to notice it.
        let page = page.ok().flatten().ok_or(Unreachable)?;
        self.budget.spend(page.stepped_over);
        self.metrics.events.caught_up(page.bytes);
        Ok(page)
    }

    fn broke(&self, open: &Arc<Open>, fault: &Fault) {
        tracing::debug!(reason = fault.label(), "a page of the event log could not be read for a stream");
        self.link.send_if_modified(|link| {
            let is_current = link.is(open);
            if is_current {
                *link = Link::Dialling;
            }
            is_current
        });
    }
}

impl Link {
    fn is(&self, open: &Arc<Open>) -> bool {
        matches!(self, Self::Open(current) if Arc::ptr_eq(current, open))
    }
}

#[async_trait]
impl LogReader for CatchUp {
    async fn after(
        &self,
        seen: EventId,
        patterns: &Patterns,
        token: Option<TokenId>,
    ) -> Result<Page, Unreachable> {
        self.in_turn(token, self.page_after(seen, patterns)).await
    }

    async fn before_last(
        &self,
        horizon: EventId,
        patterns: &Patterns,
        number: usize,
        token: Option<TokenId>,
    ) -> Result<Position, Unreachable> {
        self.in_turn(token, self.count_back(horizon, patterns, number)).await
    }
}

/// Waits after a page without an event, three times as long as it took. No client slows such pages
/// down: one after the other they would keep Redis busy for a stream that gets nothing.
async fn give_way(asked: Instant) {
    sleep(asked.elapsed().min(LONGEST_PAGE) * 3).await;
}

/// Reserves bytes for a page whose size is not known yet.
async fn set_aside(held: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Unreachable> {
    Arc::clone(held).acquire_many_owned(LARGEST_KIB).await.map_err(|_| Unreachable)
}

/// Releases the part of the reservation that the page does not need.
fn give_back(held: &mut OwnedSemaphorePermit, bytes: usize) {
    let surplus = held.num_permits().saturating_sub(bytes.div_ceil(1024));
    drop(held.split(surplus));
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::events::id::Epoch;

    #[tokio::test]
    async fn pages_that_streams_hold_are_bounded_in_bytes_and_the_next_waits_for_room() {
        let room = 2 * LARGEST_KIB as usize;
        let held = Arc::new(Semaphore::new(room));
        let mut small = set_aside(&held).await.unwrap();
        give_back(&mut small, 1500);
        assert_eq!((small.num_permits(), held.available_permits()), (2, room - 2));
        let mut large = set_aside(&held).await.unwrap();
        give_back(&mut large, 100_000);
        assert_eq!(large.num_permits(), LARGEST_KIB as usize, "no more than was set aside");
        let mut next = Box::pin(set_aside(&held));
        assert!(poll!(&mut next).is_pending());
        drop(large);
        assert!(poll!(&mut next).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_sessions_no_page_is_read_and_nobody_waits_for_ever() {
        let seen = EventId { epoch: Epoch(1), position: Position::START };
        let catch_up = CatchUp::new(Arc::new(Metrics::new().unwrap()));
        let (token, patterns) = (TokenId::parse("00000000000000aa").ok(), Patterns::default());
        let page = catch_up.after(seen, &patterns, token).await;
        assert_eq!(page.err(), Some(Unreachable));
        assert_eq!(catch_up.before_last(seen, &patterns, 1, token).await, Err(Unreachable));
        assert_eq!(
            (catch_up.held.available_permits(), catch_up.readers.available_permits()),
            (HELD_KIB, READERS)
        );
    }
}
