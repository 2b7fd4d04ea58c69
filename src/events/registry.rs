//! The registry of an instance's open streams. It bounds them (all, of a token, of a principal) and
//! ends them one by one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::UnixMillis;
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
    /// Another stream took its place: of its subject, or of its single-use token.
    Replaced,
    /// The client closed the connection.
    Client,
}

impl EndReason {
    /// Name in the `reconnect` event and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
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
    /// The end of the grant.
    pub until: Option<UnixMillis>,
}

/// Policy for a stream beyond the limit of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectPolicy {
    /// It is refused.
    Refuse,
    /// The oldest stream of the subject ends.
    ReplaceOldest,
}

/// Limit of a subject's open streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectLimit {
    /// Number of streams.
    pub streams: usize,
    /// Policy beyond it.
    pub policy: SubjectPolicy,
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
    /// Of one subject; `None`: no bound.
    pub per_subject: Option<SubjectLimit>,
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
    /// The bound of the subject is reached.
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
    /// Sets the reason to end. The first one is kept, but a revocation replaces it: that ends the
    /// stream at once, without the events that are still due.
    fn end(&self, reason: EndReason) {
        let mut standing = self.end.lock();
        if standing.is_none() || reason == EndReason::Revoked {
            *standing = Some(reason);
        }
        drop(standing);
        self.ends.notify_one();
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

struct Open {
    opener: Opener,
    signal: Arc<Signal>,
}

impl StreamLimits {
    /// Checks the bounds for a stream of `opener`. Those of the token and of the principal come
    /// first: a client that exceeds them need not try another instance.
    fn check(&self, state: &State, opener: &Opener) -> Result<(), OpenError> {
        let of_token = opener.token.and_then(|token| state.by_token.get(&token)).map_or(0, Vec::len);
        let of_principal = state.by_principal.get(&opener.principal).copied().unwrap_or(0);
        let is_reached = |limit: Option<usize>, open| limit.is_some_and(|limit| open >= limit);
        if is_reached(self.per_token, of_token) {
            Err(OpenError::TokenLimit)
        } else if is_reached(self.per_principal, of_principal) {
            Err(OpenError::PrincipalLimit)
        } else if state.open.len() >= self.all {
            Err(OpenError::Full)
        } else {
            Ok(())
        }
    }
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Open>,
    /// Keys of the streams of each token.
    by_token: HashMap<TokenId, Vec<u64>>,
    /// Number of streams of each principal, those of its tokens included.
    by_principal: HashMap<PrincipalId, usize>,
    next: u64,
    draining: bool,
}

/// The open streams.
pub(super) struct Registry {
    limits: StreamLimits,
    state: Mutex<State>,
    /// Notified when the last stream has ended in a drain.
    empty: Notify,
}

impl Registry {
    pub(super) fn new(limits: StreamLimits) -> Self {
        Self { limits, state: Mutex::default(), empty: Notify::new() }
    }

    /// Registers a stream of `opener`. One lock covers check and registration, so that two streams
    /// cannot take the last place.
    pub(super) fn enter(self: &Arc<Self>, opener: Opener) -> Result<Place, OpenError> {
        let mut state = self.state.lock();
        if state.draining {
            return Err(OpenError::Draining);
        }
        self.limits.check(&state, &opener)?;
        let key = state.next;
        state.next += 1;
        let signal = Arc::new(Signal::default());
        if let Some(token) = opener.token {
            state.by_token.entry(token).or_default().push(key);
        }
        *state.by_principal.entry(opener.principal.clone()).or_default() += 1;
        state.open.insert(key, Open { opener, signal: Arc::clone(&signal) });
        Ok(Place { registry: Arc::clone(self), key, signal })
    }

    /// Ends every stream that `token` opened. Returns their number.
    pub(super) fn end_token(&self, token: TokenId) -> usize {
        let state = self.state.lock();
        let opened = state.by_token.get(&token).into_iter().flatten();
        opened.filter_map(|key| state.open.get(key)).map(|open| open.signal.end(EndReason::Revoked)).count()
    }

    /// Wakes every stream.
    pub(super) fn notify_all(&self) {
        for open in self.state.lock().open.values() {
            open.signal.notify();
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
            state.open.values().map(|open| Arc::clone(&open.signal)).collect()
        };
        let start = Instant::now();
        let share = window / u32::try_from(signals.len()).unwrap_or(u32::MAX).max(1);
        for (place, signal) in (0..).zip(&signals) {
            tokio::time::sleep_until(start + share * place).await;
            signal.end(EndReason::Drain);
        }
        loop {
            let left = self.empty.notified();
            if self.state.lock().open.is_empty() {
                break;
            }
            left.await;
        }
    }
}

/// Registration of a stream; dropping it removes the stream.
pub(super) struct Place {
    registry: Arc<Registry>,
    key: u64,
    signal: Arc<Signal>,
}

impl Place {
    /// The token that opened the stream; `None` for a principal's credential.
    pub(super) fn token(&self) -> Option<TokenId> {
        self.registry.state.lock().open.get(&self.key).and_then(|open| open.opener.token)
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
        let Some(Open { opener, .. }) = state.open.remove(&self.key) else { return };
        if let Some(token) = opener.token
            && let Entry::Occupied(mut keys) = state.by_token.entry(token)
        {
            keys.get_mut().retain(|key| *key != self.key);
            if keys.get().is_empty() {
                keys.remove();
            }
        }
        if let Entry::Occupied(mut count) = state.by_principal.entry(opener.principal) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if state.open.is_empty() && state.draining {
            self.registry.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TokenId {
        TokenId::parse(text).unwrap()
    }

    /// A registry with a limit on all streams only.
    fn registry(all: usize) -> Arc<Registry> {
        Arc::new(Registry::new(StreamLimits { all, per_token: None, per_principal: None, per_subject: None }))
    }

    fn of(principal: &str, token: Option<TokenId>) -> Opener {
        Opener {
            principal: PrincipalId::parse(principal).unwrap(),
            token,
            subject: None,
            patterns: Patterns::default(),
            until: None,
        }
    }

    #[test]
    fn the_cap_holds_and_a_stream_that_leaves_makes_room() {
        let registry = registry(2);
        let (first, _second) =
            (registry.enter(of("p", None)).unwrap(), registry.enter(of("p", None)).unwrap());
        assert_eq!(registry.enter(of("p", None)).err(), Some(OpenError::Full));
        drop(first);
        assert!(registry.enter(of("p", None)).is_ok());
    }

    #[test]
    fn one_token_takes_as_many_places_as_it_may_and_leaves_the_rest_to_others() {
        let limits = StreamLimits { all: 5, per_token: Some(2), per_principal: None, per_subject: None };
        let registry = Arc::new(Registry::new(limits));
        let (greedy, other) = (id("00000000000000aa"), id("00000000000000bb"));
        let enter = |token| registry.enter(of("p", token));
        let mut places = vec![enter(Some(greedy)).unwrap(), enter(Some(greedy)).unwrap()];
        assert_eq!(enter(Some(greedy)).err(), Some(OpenError::TokenLimit));
        // Neither another token nor the principal itself has that limit.
        places.extend([enter(Some(other)).unwrap(), enter(None).unwrap(), enter(None).unwrap()]);
        assert_eq!(enter(None).err(), Some(OpenError::Full));
        assert_eq!(enter(Some(greedy)).err(), Some(OpenError::TokenLimit), "on a full instance too");
        places.remove(0);
        assert!(enter(Some(greedy)).is_ok());
    }

    #[test]
    fn a_principal_is_counted_with_all_its_tokens_and_its_own_credential() {
        let limits = StreamLimits { all: 10, per_token: None, per_principal: Some(3), per_subject: None };
        let registry = Arc::new(Registry::new(limits));
        let tokens = ["00000000000000aa", "00000000000000bb"].map(|text| Some(id(text)));
        let mut places = Vec::new();
        for token in [tokens[0], tokens[1], None] {
            places.push(registry.enter(of("p", token)).unwrap());
        }
        for token in [tokens[0], None] {
            assert_eq!(registry.enter(of("p", token)).err(), Some(OpenError::PrincipalLimit));
        }
        assert!(registry.enter(of("another", tokens[0])).is_ok());
        places.clear();
        assert!(registry.state.lock().by_principal.is_empty(), "nothing is kept of one without streams");
        assert!(registry.enter(of("p", None)).is_ok());
    }

    #[tokio::test]
    async fn revoking_ends_the_tokens_own_streams_only() {
        let registry = registry(10);
        let (mine, other) = (id("00000000000000aa"), id("00000000000000bb"));
        let (a, b) =
            (registry.enter(of("p", Some(mine))).unwrap(), registry.enter(of("p", Some(mine))).unwrap());
        let c = registry.enter(of("p", Some(other))).unwrap();
        let d = registry.enter(of("p", None)).unwrap();
        assert_eq!(registry.end_token(mine), 2);
        assert_eq!((a.ended().await, b.ended().await), (EndReason::Revoked, EndReason::Revoked));
        for untouched in [&c, &d] {
            assert!(untouched.end_reason().is_none());
        }
        drop((a, b));
        assert_eq!(registry.end_token(mine), 0);
        assert_eq!(registry.state.lock().by_token.len(), 1, "nothing is kept of a token without streams");
    }

    #[tokio::test]
    async fn a_revocation_outranks_a_drain_and_nothing_outranks_a_revocation() {
        let registry = registry(1);
        let token = id("00000000000000aa");
        let place = registry.enter(of("p", Some(token))).unwrap();
        place.signal.end(EndReason::Drain);
        assert_eq!(place.end_reason(), Some(EndReason::Drain));
        registry.end_token(token);
        place.signal.end(EndReason::Drain);
        assert_eq!(place.end_reason(), Some(EndReason::Revoked));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_spreads_the_ends_evenly_and_lets_nobody_in() {
        let registry = registry(10);
        let places: Vec<_> = (0..5).map(|_| registry.enter(of("p", None)).unwrap()).collect();
        let start = Instant::now();
        let streams = places.into_iter().map(|place| {
            tokio::spawn(async move {
                assert_eq!(place.ended().await, EndReason::Drain);
                start.elapsed().as_secs()
            })
        });
        let streams: Vec<_> = streams.collect();
        registry.drain(Duration::from_secs(10)).await;
        assert_eq!(registry.enter(of("p", None)).err(), Some(OpenError::Draining));
        let mut ended = Vec::new();
        for stream in streams {
            ended.push(stream.await.unwrap());
        }
        ended.sort_unstable();
        assert_eq!(ended, [0, 2, 4, 6, 8]);
    }
}
