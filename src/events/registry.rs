//! The registry of an instance's open streams. It bounds them (all, of a token, of a principal),
//! lists them, and ends them one by one or by a selector.
//!
//! A stream is registered before its credential is checked against the store, so that a revocation
//! that arrives meanwhile finds it. It is listed once it is open.

mod ids;
mod index;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::ids::StreamIds;
use self::index::Index;
use super::selection::{OpenStream, Selector, StreamFilter, StreamId};
use crate::clock::UnixMillis;
use crate::limits::CLOCK_SKEW;
use crate::principal::PrincipalId;
use crate::token::{Subject, TokenId};
use crate::topic::Patterns;

/// Reason for the end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum EndReason {
    /// The instance is stopping.
    Drain,
    /// The stream reached its maximum age.
    MaxAge,
    /// The client read so slowly that its next event left the ring.
    Slow,
    /// The token that opened it was revoked, or every token of its subject.
    Revoked,
    /// Its subject was blocked.
    Blocked,
    /// A command ended it.
    Ended,
    /// The grant of its token has ended.
    GrantEnded,
    /// A newer stream of its subject took its place, as the policy says.
    Replaced,
    /// Its place or its single-use token belongs to another stream since an outage.
    LeaseLost,
    /// The client closed the connection.
    Client,
}

impl EndReason {
    /// Name in the `reconnect` event and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a stream with this reason ends at once, without the events that are still due.
    pub(super) const fn is_immediate(self) -> bool {
        match self {
            Self::Revoked | Self::Blocked | Self::Ended | Self::Replaced | Self::LeaseLost => true,
            Self::Drain | Self::MaxAge | Self::Slow | Self::GrantEnded | Self::Client => false,
        }
    }
}

/// The credential that opens a stream.
#[derive(Debug, Clone)]
pub struct Opener {
    /// The principal, or the principal that the token was issued to.
    pub principal: PrincipalId,
    /// The token; `None` for a principal's credential.
    pub token: Option<TokenId>,
    /// The end user whom the token is for.
    pub subject: Option<Subject>,
    /// The topics that the stream delivers.
    pub patterns: Patterns,
    /// Time of issue of the grant.
    pub issued_at: Option<UnixMillis>,
    /// The end of the grant.
    pub until: Option<UnixMillis>,
}

/// Bounds of the streams that are open on an instance.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Of all together.
    pub all: usize,
    /// Of one token; `None`: no bound.
    pub per_token: Option<usize>,
    /// Of one principal, by its tokens and its credential; `None`: no bound.
    pub per_principal: Option<usize>,
}

/// Reason why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum OpenError {
    /// The bound of all streams is reached; another instance may have room.
    #[error("the limit of open streams on this instance is reached; try again later")]
    Full,
    /// The bound of the token is reached.
    #[error(
        "the limit of open streams of this token is reached on this instance; issue a separate token for each page"
    )]
    TokenLimit,
    /// The bound of the principal is reached.
    #[error("the limit of open streams of this principal is reached on this instance; close one first")]
    PrincipalLimit,
    /// The limit of the subject is reached, on all instances together.
    #[error("the limit of open streams of this subject is reached; close one first")]
    SubjectLimit,
    /// The instance is stopping.
    #[error("this instance is stopping; open the stream again")]
    Draining,
}

/// Wakes a stream: for news, or to end.
#[derive(Default)]
pub(super) struct Signal {
    end: Mutex<Option<EndReason>>,
    ends: Notify,
    /// Whether there may be something to send that the stream has not looked for.
    has_news: AtomicBool,
    news: Notify,
}

impl Signal {
    /// Sets the reason to end. The first one is kept, but an immediate one replaces the others.
    /// Returns whether this is the reason now.
    fn end(&self, reason: EndReason) -> bool {
        let mut standing = self.end.lock();
        let is_kept = match *standing {
            None => true,
            Some(before) => reason.is_immediate() && !before.is_immediate(),
        };
        if is_kept {
            *standing = Some(reason);
        }
        drop(standing);
        self.ends.notify_one();
        is_kept
    }

    /// Notes that there may be something to send.
    pub(super) fn notify(&self) {
        if !self.has_news.swap(true, Ordering::AcqRel) {
            self.news.notify_one();
        }
    }

    /// Notes that the stream looks for something to send.
    pub(super) fn looks(&self) {
        self.has_news.swap(false, Ordering::AcqRel);
    }

    #[cfg(test)]
    pub(super) fn has_unseen_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    /// Waits until there may be something to send that came after the last call of
    /// [`looks`](Self::looks). Cancel safe.
    pub(super) async fn news(&self) {
        while !self.has_news.load(Ordering::Acquire) {
            self.news.notified().await;
        }
    }
}

/// A registered stream. The parts of its opener are shared, so that it takes little memory.
struct Registered {
    principal: PrincipalId,
    token: Option<TokenId>,
    subject: Option<Subject>,
    patterns: Patterns,
    issued_at: Option<UnixMillis>,
    /// Time of registration.
    opened_at: UnixMillis,
    /// Whether its credential was checked.
    is_open: bool,
    signal: Arc<Signal>,
}

impl Registered {
    /// Whether a filter selects it. A stream that is not open yet is in no list.
    fn is_listed(&self, filter: &StreamFilter) -> bool {
        let StreamFilter { subject, topic, principal } = filter;
        self.is_open
            && subject.as_ref().is_none_or(|subject| self.subject.as_ref() == Some(subject))
            && principal.as_ref().is_none_or(|principal| self.principal == *principal)
            && topic.as_ref().is_none_or(|topic| self.patterns.matches(topic))
    }

    fn described(&self, stream_id: StreamId) -> OpenStream {
        OpenStream {
            stream_id,
            token_id: self.token,
            subject: self.subject.clone(),
            topics: self.patterns.clone(),
            principal: self.principal.clone(),
            opened_at: self.opened_at,
        }
    }
}

impl StreamLimits {
    /// Checks the bounds for a stream of `opener`. Those of the token and the principal come first:
    /// a client that exceeds them need not try another instance.
    fn check(&self, state: &State, opener: &Opener) -> Result<(), OpenError> {
        let of_token = opener.token.map_or(0, |token| state.by_token.of(&token).len());
        let of_principal = state.by_principal.get(&opener.principal).copied().unwrap_or(0);
        let is_reached = |limit: Option<usize>, open| limit.is_some_and(|limit| open >= limit);
        if is_reached(self.per_token, of_token) {
            Err(OpenError::TokenLimit)
        } else if is_reached(self.per_principal, of_principal) {
            Err(OpenError::PrincipalLimit)
        } else if state.streams.len() >= self.all {
            Err(OpenError::Full)
        } else {
            Ok(())
        }
    }
}

#[derive(Default)]
struct State {
    /// By their numbers, which follow the order of registration. In boxes, because up to half of
    /// the places of a table are empty.
    streams: HashMap<u64, Box<Registered>>,
    by_token: Index<TokenId>,
    by_subject: Index<Subject>,
    /// Number of streams of each principal, those of its tokens included.
    by_principal: HashMap<PrincipalId, usize>,
    next: u64,
    draining: bool,
}

impl State {
    /// Calls `found` with each stream that a selector matches. Only streams of a principal or topic
    /// are searched among all.
    fn select(&self, selector: &Selector, ids: StreamIds, mut found: impl FnMut(&Registered)) {
        match selector {
            Selector::Subject(subject) => self.each(self.by_subject.of(subject), found),
            Selector::Token(token) => self.each(self.by_token.of(token), found),
            Selector::Stream(id) => self.each(&[ids.number(*id)], found),
            Selector::Principal(principal) if !self.by_principal.contains_key(principal) => {}
            Selector::Principal(principal) => {
                let streams = self.streams.values().filter(|stream| stream.principal == *principal);
                streams.for_each(|stream| found(stream));
            }
            Selector::Topic(topic) => {
                let streams = self.streams.values().filter(|stream| stream.patterns.matches(topic));
                streams.for_each(|stream| found(stream));
            }
        }
    }

    fn each(&self, numbers: &[u64], mut found: impl FnMut(&Registered)) {
        numbers.iter().filter_map(|number| self.streams.get(number)).for_each(|stream| found(stream));
    }

    /// Time of registration and number of each stream that a filter selects.
    fn matching(&self, filter: &StreamFilter) -> Vec<(UnixMillis, u64)> {
        let listed =
            |number: u64, stream: &Registered| stream.is_listed(filter).then_some((stream.opened_at, number));
        match &filter.subject {
            Some(subject) => {
                let numbers = self.by_subject.of(subject).iter();
                numbers.filter_map(|number| listed(*number, self.streams.get(number)?)).collect()
            }
            None => self.streams.iter().filter_map(|(number, stream)| listed(*number, stream)).collect(),
        }
    }
}

/// The open streams.
pub(super) struct Registry {
    limits: StreamLimits,
    ids: StreamIds,
    state: Mutex<State>,
    /// Notified when the last stream has ended in a drain.
    empty: Notify,
}

impl Registry {
    /// Creates an empty registry. `base` is random, and distinguishes the ids of its streams.
    pub(super) fn new(limits: StreamLimits, base: u64) -> Self {
        Self { limits, ids: StreamIds::new(base), state: Mutex::default(), empty: Notify::new() }
    }

    /// Registers a stream of `opener`. One lock covers check and registration, so that two streams
    /// cannot take the last place.
    pub(super) fn enter(self: &Arc<Self>, opener: Opener, opened_at: UnixMillis) -> Result<Place, OpenError> {
        let mut state = self.state.lock();
        if state.draining {
            return Err(OpenError::Draining);
        }
        self.limits.check(&state, &opener)?;
        let number = state.next;
        state.next += 1;
        let Opener { principal, token, subject, patterns, issued_at, until: _ } = opener;
        // The text of a subject is kept once for all its streams.
        let subject = subject.map(|subject| state.by_subject.shared(&subject).cloned().unwrap_or(subject));
        if let Some(token) = token {
            state.by_token.add(token, number);
        }
        if let Some(subject) = &subject {
            state.by_subject.add(subject.clone(), number);
        }
        *state.by_principal.entry(principal.clone()).or_default() += 1;
        let signal = Arc::new(Signal::default());
        let stream = Registered {
            principal,
            token,
            subject,
            patterns,
            issued_at,
            opened_at,
            is_open: false,
            signal: Arc::clone(&signal),
        };
        state.streams.insert(number, Box::new(stream));
        Ok(Place { registry: Arc::clone(self), number, signal })
    }

    /// Ends the streams of `selector` that were registered at `opened_until` or before. Returns the
    /// number of those that had no such reason to end before.
    pub(super) fn end(&self, selector: &Selector, opened_until: UnixMillis, reason: EndReason) -> usize {
        self.end_those(selector, reason, |stream| stream.opened_at <= opened_until)
    }

    /// Ends the streams of a subject whose tokens were issued at `issued_until` or before, as
    /// revoked. Returns the number of those that had no such reason to end before.
    pub(super) fn end_issued(&self, subject: &Subject, issued_until: UnixMillis) -> usize {
        let selector = Selector::Subject(subject.clone());
        // The clock of the instance that issued a token may be ahead by CLOCK_SKEW. A time of issue
        // that is later than that counts as the time of opening.
        self.end_those(&selector, EndReason::Revoked, |stream| {
            let issued_at = stream.issued_at.unwrap_or(UnixMillis(0));
            let is_in_range = issued_at <= stream.opened_at.plus(CLOCK_SKEW);
            (if is_in_range { issued_at } else { stream.opened_at }) <= issued_until
        })
    }

    fn end_those(
        &self,
        selector: &Selector,
        reason: EndReason,
        is_meant: impl Fn(&Registered) -> bool,
    ) -> usize {
        let mut signals = Vec::new();
        self.state.lock().select(selector, self.ids, |stream| {
            if is_meant(stream) {
                signals.push(Arc::clone(&stream.signal));
            }
        });
        // Streams are woken without the lock, because they may be many.
        signals.into_iter().filter(|signal| signal.end(reason)).count()
    }

    /// The `limit` oldest open streams that `filter` selects, the oldest first, and whether there
    /// are more.
    pub(super) fn list(&self, filter: &StreamFilter, limit: usize) -> (Vec<OpenStream>, bool) {
        let mut matching = self.state.lock().matching(filter);
        let has_more = matching.len() > limit;
        if has_more {
            matching.select_nth_unstable(limit);
            matching.truncate(limit);
        }
        matching.sort_unstable();
        let state = self.state.lock();
        // One that has ended between the locks is left out.
        let described = |(_, number): &(UnixMillis, u64)| {
            state.streams.get(number).map(|stream| stream.described(self.ids.id(*number)))
        };
        (matching.iter().filter_map(described).collect(), has_more)
    }

    /// Wakes every stream.
    pub(super) fn notify_all(&self) {
        for stream in self.state.lock().streams.values() {
            stream.signal.notify();
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state.lock().draining
    }

    /// Refuses new streams and ends the open ones spread evenly over `window`. Returns when all
    /// have ended.
    pub(super) async fn drain(&self, window: Duration) {
        let signals: Vec<_> = {
            let mut state = self.state.lock();
            state.draining = true;
            state.streams.values().map(|stream| Arc::clone(&stream.signal)).collect()
        };
        let start = Instant::now();
        let share = window / u32::try_from(signals.len()).unwrap_or(u32::MAX).max(1);
        for (place, signal) in (0..).zip(&signals) {
            tokio::time::sleep_until(start + share * place).await;
            signal.end(EndReason::Drain);
        }
        loop {
            let left = self.empty.notified();
            if self.state.lock().streams.is_empty() {
                break;
            }
            left.await;
        }
    }
}

/// Registration of a stream; dropping it removes the stream.
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
    signal: Arc<Signal>,
}

impl Place {
    /// Id of the stream.
    pub(super) fn id(&self) -> StreamId {
        self.registry.ids.id(self.number)
    }

    /// The token that opened the stream; `None` for a principal's credential.
    pub(super) fn token(&self) -> Option<TokenId> {
        self.registry.state.lock().streams.get(&self.number).and_then(|stream| stream.token)
    }

    /// The stream as a list shows it; `None` if it is not registered any more.
    pub(super) fn described(&self) -> Option<OpenStream> {
        self.registry.state.lock().streams.get(&self.number).map(|stream| stream.described(self.id()))
    }

    /// Opens the stream: its credential was checked.
    pub(super) fn open(&self) {
        if let Some(stream) = self.registry.state.lock().streams.get_mut(&self.number) {
            stream.is_open = true;
        }
    }

    /// Wakes the stream.
    pub(super) const fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Reason to end, if there is one.
    pub(super) fn end_reason(&self) -> Option<EndReason> {
        *self.signal.end.lock()
    }

    /// Waits for a reason to end. Cancel safe.
    pub(super) async fn ended(&self) -> EndReason {
        loop {
            if let Some(reason) = self.end_reason() {
                return reason;
            }
            self.signal.ends.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        let Some(stream) = state.streams.remove(&self.number) else { return };
        let Registered { principal, token, subject, .. } = *stream;
        if let Some(token) = token {
            state.by_token.remove(&token, self.number);
        }
        if let Some(subject) = subject {
            state.by_subject.remove(&subject, self.number);
        }
        if let Entry::Occupied(mut count) = state.by_principal.entry(principal) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if state.streams.is_empty() && state.draining {
            self.registry.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
