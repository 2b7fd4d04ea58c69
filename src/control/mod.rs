//! Control over what users have open: revoked and blocked subjects, and the streams of all
//! instances.
//!
//! An order takes effect at once on the instance that gives it. The others read it from Redis
//! within a second.

mod admission;
mod bans;
pub(crate) mod heavy;
mod known;
mod leases;
mod order;
mod orders;
mod question;
mod reader;
mod tickets;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

pub use self::admission::{Admission, AdmissionDeps, Admitted, EndStream, NotAdmitted};
pub use self::bans::Barred;
use self::order::{About, Order, Received};
use self::orders::Orders;
use self::question::{Exchange, QuestionId, Questions, QuestionsDeps};
pub use self::question::{RedisExchange, TooManyLists};
use self::reader::CURRENT_FOR;
pub use self::reader::{Reader, ReaderDeps};
pub use self::tickets::Ticket;
pub use self::upkeep::Upkeep;
use crate::clock::{Clock, UnixMillis};
use crate::events::{EndReason, Hub, OpenStream, Selector, StreamFilter};
use crate::limits::{CLOCK_SKEW, MOST_ORDERS};
use crate::metrics::Metrics;
use crate::redis::Namespace;
use crate::redis::announce::{Announcements, Position};
use crate::redis::stream::StreamEntry;
use crate::store::{RedisStore, RevocationScope, StoreError};
use crate::token::Subject;

/// Bound of the time in which an instance that ends tells the others.
pub const LEAVING: Duration = Duration::from_millis(300);

/// Dependencies of [`Control`].
pub struct ControlDeps {
    /// Name of this instance.
    pub instance_id: String,
    /// The streams of this instance.
    pub hub: Arc<Hub>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Redis, which all instances share; `None` for an instance without one.
    pub shared: Option<Shared>,
}

/// Redis, as the place in which orders are announced.
pub struct Shared {
    /// Access to Redis for requests.
    pub store: Arc<RedisStore>,
    /// Namespace of the keys.
    pub namespace: Namespace,
    /// Number of this start of the instance.
    pub start: u64,
    /// Way to the other instances for questions.
    pub exchange: Arc<RedisExchange>,
}

/// A stream in the list of all instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedStream {
    /// The stream.
    pub stream: OpenStream,
    /// Its instance.
    pub instance_id: String,
}

/// The open streams of all instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The streams, the oldest first.
    pub streams: Vec<ListedStream>,
    /// Instances that did not answer.
    pub missing: Vec<String>,
    /// Whether more streams match.
    pub more: bool,
}

/// Result of ending streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Number of streams on the instances that answered.
    pub ended: u64,
    /// Scope of the order.
    pub effective: RevocationScope,
    /// Instances that did not answer.
    pub missing: Vec<String>,
}

/// Control over subjects and streams.
///
/// # Concurrency note
///
/// A stream is registered before its token is checked here. An order is remembered before it ends
/// streams. So an order that comes meanwhile ends the stream, or the check finds it.
pub struct Control {
    deps: ControlDeps,
    orders: Orders,
    /// Beginning of the last read that reached the end of all streams in Redis.
    current_at: Mutex<Option<Instant>>,
    questions: Arc<Questions>,
}

impl Control {
    /// Creates it without orders.
    #[must_use]
    pub fn new(deps: ControlDeps) -> Self {
        let orders = Orders::new(MOST_ORDERS, Arc::clone(&deps.clock), Arc::clone(&deps.metrics));
        let questions = Arc::new(Questions::new(QuestionsDeps {
            instance_id: deps.instance_id.clone(),
            start: deps.shared.as_ref().map_or(0, |shared| shared.start),
            hub: Arc::clone(&deps.hub),
            metrics: Arc::clone(&deps.metrics),
            exchange: deps.shared.as_ref().map(|shared| Arc::clone(&shared.exchange) as Arc<dyn Exchange>),
        }));
        Self { deps, orders, current_at: Mutex::default(), questions }
    }

    /// Whether this instance knows the orders of all instances, except for those of the last
    /// moments. Without Redis there are no others.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.deps.shared.is_none() || self.current_at.lock().is_some_and(|at| at.elapsed() < CURRENT_FOR)
    }

    /// Notes that all orders which were in Redis at a moment are carried out.
    pub(crate) fn became_current(&self, at: Instant) {
        *self.current_at.lock() = Some(at);
    }

    /// Reason to refuse a token of `subject` that was issued at `issued_at`.
    #[must_use]
    pub fn refusal(&self, subject: &Subject, issued_at: UnixMillis) -> Option<Barred> {
        self.orders.refusal(subject, issued_at)
    }

    /// Whether a subject is blocked.
    #[must_use]
    pub fn is_blocked(&self, subject: &Subject) -> bool {
        self.orders.is_blocked(subject)
    }

    /// Time of issue of a token for `subject`: now, or after every known revocation of the subject.
    #[must_use]
    pub fn time_of_issue(&self, subject: &Subject) -> UnixMillis {
        self.orders.time_of_issue(subject)
    }

    /// Refuses every token issued to the subject until now, and ends its streams.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn revoke_subject(&self, subject: Subject) -> Result<RevocationScope, StoreError> {
        let about = About::IssuedTo(subject.clone());
        let order = self.orders.give(&about, |at, _known| Order::revoke(subject, at))?;
        self.carry_out(&order);
        Ok(self.announce(&order, None).await)
    }

    /// Blocks a subject for `length`. Returns the scope, and the end of the block.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn block(
        &self,
        subject: Subject,
        length: Duration,
    ) -> Result<(RevocationScope, UnixMillis), StoreError> {
        let about = About::Blocked(subject.clone());
        let order = self.orders.give(&about, |at, known| Order::block(subject, at, length, known))?;
        self.carry_out(&order);
        Ok((self.announce(&order, None).await, order.until))
    }

    /// Ends the block of a subject.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn unblock(&self, subject: Subject) -> Result<RevocationScope, StoreError> {
        let about = About::Blocked(subject.clone());
        let order = self.orders.give(&about, |at, known| Order::unblock(subject, at, known))?;
        Ok(self.announce(&order, None).await)
    }

    /// Ends streams of all instances.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn end(&self, selector: Selector) -> Result<Ended, StoreError> {
        let about = About::Streams(selector.clone());
        let order = self.orders.give(&about, |at, _known| Order::end(selector, at))?;
        let question = self.questions.draw();
        let ended = self.carry_out(&order) as u64;
        let effective = self.announce(&order, Some(&question.to_string())).await;
        let is_announced = effective == RevocationScope::Cluster;
        let (elsewhere, missing) = self.questions.count_ended(question, is_announced).await;
        Ok(Ended { ended: ended.saturating_add(elsewhere), effective, missing })
    }

    /// Announces an order to the other instances. Without Redis there are none. An order that Redis
    /// does not take waits until it does.
    async fn announce(&self, order: &Order, question: Option<&str>) -> RevocationScope {
        let Some(Shared { store, namespace, .. }) = &self.deps.shared else {
            return RevocationScope::Cluster;
        };
        let stream = order.about.stream();
        let entry = order.fields(question);
        if store.announce(stream, &stream.stream(namespace), &entry).await.is_ok() {
            return RevocationScope::Cluster;
        }
        self.orders.not_announced(order);
        RevocationScope::Instance
    }

    /// Ends the streams of this instance that an order is about. Returns their number.
    fn carry_out(&self, order: &Order) -> usize {
        let latest = UnixMillis(u64::MAX);
        match &order.about {
            About::IssuedTo(subject) => self.deps.hub.end_issued(subject, order.at),
            About::Blocked(subject) => {
                // A block that is over ends the streams that were open when it began.
                let opened_until = if self.is_blocked(subject) { latest } else { order.at };
                let selector = Selector::Subject(subject.clone());
                if order.is_block() {
                    self.deps.hub.end(&selector, opened_until, EndReason::Blocked)
                } else {
                    0
                }
            }
            About::Streams(selector) => {
                self.deps.hub.end(selector, order.at.plus(CLOCK_SKEW), EndReason::Ended)
            }
        }
    }

    /// Carries out orders that were read in Redis. All of them are remembered first: a block whose
    /// end is among them ends no stream that was opened after it.
    fn receive(&self, received: Vec<Received>) {
        let learn = |received: Received| (self.orders.learn(&received.order, received.position), received);
        let received: Vec<_> = received.into_iter().map(learn).collect();
        for (is_new, Received { order, question, position, .. }) in &received {
            let streams = if *is_new { self.carry_out(order) } else { 0 };
            if let Some(question) = question.as_deref().and_then(QuestionId::parse) {
                self.questions.answer_ended(question, position.time(), streams);
            }
            tracing::debug!(streams, "order received");
        }
    }

    /// Up to `count` orders that a stream in Redis lacks.
    fn unannounced(&self, stream: &Announcements, count: usize) -> Vec<Order> {
        self.orders.unannounced(stream, count)
    }

    /// Notes that these orders are announced, each at its position.
    fn announced(&self, orders: &[Order], positions: &[Position]) {
        self.orders.announced(orders, positions);
    }

    /// Notes the position of the first entry of a stream in Redis. Known orders from before it
    /// count as not announced.
    fn begins_at(&self, stream: &Announcements, first: Position) {
        self.orders.begins_at(stream, first);
    }

    /// Notes that Redis has lost the orders.
    fn announce_all(&self) {
        self.orders.announce_all();
    }

    /// Frees orders that are over; called about once a second.
    pub fn sweep(&self) {
        self.orders.sweep();
    }

    /// Lists the `limit` oldest open streams that `filter` selects, those of all instances or of
    /// one. Answers stay in Redis for seconds if the future is dropped.
    ///
    /// # Errors
    /// As many lists are being made as may be at once.
    pub async fn list(
        &self,
        filter: StreamFilter,
        instance: Option<String>,
        limit: usize,
    ) -> Result<Listing, TooManyLists> {
        self.questions.list(filter, instance, limit).await
    }

    /// Tells the other instances that this one ends, so that they no longer miss it. Without Redis
    /// they miss it for a while.
    pub async fn leave(&self) {
        let Some(Shared { store, .. }) = &self.deps.shared else { return };
        if store.is_in_use() {
            match timeout(LEAVING, store.leave()).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => tracing::debug!("the last member record was not written: {fault}"),
                Err(_elapsed) => tracing::debug!("the last member record was not written in time"),
            }
        }
    }

    /// Answers a question that was read in Redis.
    fn answer(&self, question: &StreamEntry<'_>) {
        self.questions.receive(question);
    }
}

#[cfg(test)]
pub(crate) mod tests;
