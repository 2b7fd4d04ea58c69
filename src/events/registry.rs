//! The open streams of this instance: how many there may be, and the means to end them one by one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::token::TokenId;

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The instance is stopping.
    Drain,
    /// The stream reached its maximum age.
    MaxAge,
    /// The client read so slowly that events it had not seen left the ring.
    Slow,
    /// The token that opened it was revoked.
    Revoked,
    /// The client went away.
    Client,
}

impl EndReason {
    /// The reason as clients and metrics see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::MaxAge => "max_age",
            Self::Slow => "slow",
            Self::Revoked => "revoked",
            Self::Client => "client",
        }
    }
}

/// Why no further stream can be opened here; another instance may have room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The cap on streams is reached.
    #[error("this instance has as many streams open as it may")]
    Full,
    /// The instance is stopping.
    #[error("this instance is stopping")]
    Draining,
}

/// How a stream is told to end.
#[derive(Default)]
struct EndSignal {
    reason: Mutex<Option<EndReason>>,
    wake: Notify,
}

impl EndSignal {
    /// The first reason stands, unless the token is revoked: that ends a stream at once, whatever it still owes.
    fn send(&self, reason: EndReason) {
        let mut standing = self.reason.lock();
        if standing.is_none() || reason == EndReason::Revoked {
            *standing = Some(reason);
        }
        drop(standing);
        self.wake.notify_one();
    }
}

struct Open {
    token: Option<TokenId>,
    end: Arc<EndSignal>,
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Open>,
    /// Keys of the streams that a token opened.
    by_token: HashMap<TokenId, Vec<u64>>,
    next: u64,
    draining: bool,
}

/// All open streams.
pub(super) struct Registry {
    cap: usize,
    state: Mutex<State>,
    /// Notified when the last stream has left.
    empty: Notify,
}

impl Registry {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, state: Mutex::default(), empty: Notify::new() }
    }

    /// Takes a place for a stream opened with `token`, or with a principal credential.
    pub(super) fn enter(self: &Arc<Self>, token: Option<TokenId>) -> Result<Place, OpenError> {
        let mut state = self.state.lock();
        if state.draining {
            return Err(OpenError::Draining);
        }
        if state.open.len() >= self.cap {
            return Err(OpenError::Full);
        }
        let key = state.next;
        state.next += 1;
        let end = Arc::new(EndSignal::default());
        state.open.insert(key, Open { token, end: Arc::clone(&end) });
        if let Some(token) = token {
            state.by_token.entry(token).or_default().push(key);
        }
        Ok(Place { registry: Arc::clone(self), key, end })
    }

    /// Ends every stream that `token` opened; says how many.
    pub(super) fn end_token(&self, token: TokenId) -> usize {
        let state = self.state.lock();
        let opened = state.by_token.get(&token).into_iter().flatten();
        opened.filter_map(|key| state.open.get(key)).map(|open| open.end.send(EndReason::Revoked)).count()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state.lock().draining
    }

    /// Lets no further stream in and ends the open ones spread evenly over `window`. Returns when all have left.
    pub(super) async fn drain(&self, window: Duration) {
        let signals: Vec<_> = {
            let mut state = self.state.lock();
            state.draining = true;
            state.open.values().map(|open| Arc::clone(&open.end)).collect()
        };
        let start = Instant::now();
        let share = window / u32::try_from(signals.len()).unwrap_or(u32::MAX).max(1);
        for (place, signal) in (0..).zip(&signals) {
            tokio::time::sleep_until(start + share * place).await;
            signal.send(EndReason::Drain);
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

/// A stream's place among the open ones; given back when dropped.
pub(super) struct Place {
    registry: Arc<Registry>,
    key: u64,
    end: Arc<EndSignal>,
}

impl Place {
    /// Why the stream should end, if it was told to.
    pub(super) fn told_to_end(&self) -> Option<EndReason> {
        *self.end.reason.lock()
    }

    /// Waits until the stream is told to end.
    pub(super) async fn ended(&self) -> EndReason {
        loop {
            if let Some(reason) = self.told_to_end() {
                return reason;
            }
            self.end.wake.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        let token = state.open.remove(&self.key).and_then(|open| open.token);
        if let Some(token) = token
            && let Entry::Occupied(mut keys) = state.by_token.entry(token)
        {
            keys.get_mut().retain(|key| *key != self.key);
            if keys.get().is_empty() {
                keys.remove();
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

    #[test]
    fn the_cap_holds_and_a_stream_that_leaves_makes_room() {
        let registry = Arc::new(Registry::new(2));
        let (first, _second) = (registry.enter(None).unwrap(), registry.enter(None).unwrap());
        assert_eq!(registry.enter(None).err(), Some(OpenError::Full));
        drop(first);
        assert!(registry.enter(None).is_ok());
    }

    #[tokio::test]
    async fn revoking_ends_the_tokens_own_streams_only() {
        let registry = Arc::new(Registry::new(10));
        let (mine, other) = (id("00000000000000aa"), id("00000000000000bb"));
        let (a, b) = (registry.enter(Some(mine)).unwrap(), registry.enter(Some(mine)).unwrap());
        let c = registry.enter(Some(other)).unwrap();
        let d = registry.enter(None).unwrap();
        assert_eq!(registry.end_token(mine), 2);
        assert_eq!((a.ended().await, b.ended().await), (EndReason::Revoked, EndReason::Revoked));
        for untouched in [&c, &d] {
            assert!(untouched.told_to_end().is_none());
        }
        drop((a, b));
        assert_eq!(registry.end_token(mine), 0);
        assert_eq!(registry.state.lock().by_token.len(), 1, "nothing is kept of a token without streams");
    }

    #[tokio::test]
    async fn a_revocation_outranks_a_drain_and_nothing_outranks_a_revocation() {
        let registry = Arc::new(Registry::new(1));
        let token = id("00000000000000aa");
        let place = registry.enter(Some(token)).unwrap();
        place.end.send(EndReason::Drain);
        assert_eq!(place.told_to_end(), Some(EndReason::Drain));
        registry.end_token(token);
        place.end.send(EndReason::Drain);
        assert_eq!(place.told_to_end(), Some(EndReason::Revoked));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_spreads_the_ends_evenly_and_lets_nobody_in() {
        let registry = Arc::new(Registry::new(10));
        let places: Vec<_> = (0..5).map(|_| registry.enter(None).unwrap()).collect();
        let start = Instant::now();
        let streams = places.into_iter().map(|place| {
            tokio::spawn(async move {
                assert_eq!(place.ended().await, EndReason::Drain);
                start.elapsed().as_secs()
            })
        });
        let streams: Vec<_> = streams.collect();
        registry.drain(Duration::from_secs(10)).await;
        assert_eq!(registry.enter(None).err(), Some(OpenError::Draining));
        let mut ended = Vec::new();
        for stream in streams {
            ended.push(stream.await.unwrap());
        }
        ended.sort_unstable();
        assert_eq!(ended, [0, 2, 4, 6, 8]);
    }
}
