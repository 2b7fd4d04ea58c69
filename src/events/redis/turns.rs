//! Turns: of the streams of one token, one reads the log at a time. A token with many streams
//! therefore gets no more of Redis than one stream does.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Line, MutexGuard};

use crate::token::TokenId;

/// A queue for each token that has streams in catch-up; removed with the last of them.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<TokenId, Arc<Line<()>>>>);

/// Place of a stream in the queue of its token; dropping it leaves the queue.
pub(super) struct InLine<'a> {
    turns: &'a Turns,
    token: TokenId,
    line: Arc<Line<()>>,
}

impl Turns {
    /// Enters the queue of `token`.
    pub(super) fn join(&self, token: TokenId) -> InLine<'_> {
        let line = Arc::clone(self.0.lock().entry(token).or_default());
        InLine { turns: self, token, line }
    }
}

impl InLine<'_> {
    /// Waits for the turn, which ends when the guard is dropped.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.line.lock().await
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.0.lock();
        // References are made under the lock only: 2 are this one and the map's.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn token(text: &str) -> TokenId {
        TokenId::parse(text).unwrap()
    }

    #[tokio::test]
    async fn streams_of_one_token_catch_up_one_after_the_other() {
        let turns = Turns::default();
        let (mine, other) = (token("00000000000000aa"), token("00000000000000bb"));
        let [first, second, third] = [mine; 3].map(|token| turns.join(token));
        let stranger = turns.join(other);
        let turn = first.turn().await;
        let mut second_turn = Box::pin(second.turn());
        let mut third_turn = Box::pin(third.turn());
        assert!(poll!(&mut second_turn).is_pending());
        assert!(poll!(&mut third_turn).is_pending());
        let _others = stranger.turn().await;
        drop(turn);
        assert!(poll!(&mut third_turn).is_pending(), "the second was first");
        let turn = second_turn.await;
        drop(turn);
        assert!(poll!(&mut third_turn).is_ready());
    }

    #[tokio::test]
    async fn a_stream_that_leaves_before_its_turn_holds_nobody_up_and_nothing_is_kept() {
        let turns = Turns::default();
        let mine = token("00000000000000aa");
        let [first, second, third] = [mine; 3].map(|token| turns.join(token));
        let turn = first.turn().await;
        let mut leaves = Box::pin(second.turn());
        assert!(poll!(&mut leaves).is_pending());
        drop(leaves);
        drop(second);
        drop(turn);
        drop(first);
        assert_eq!(turns.0.lock().len(), 1);
        drop(third.turn().await);
        drop(third);
        assert!(turns.0.lock().is_empty());
    }
}
