//! What the requests of one worker ask in the same moment goes out together: one message to the
//! connection's driver, one deadline, one look at the breaker, instead of one of each for every
//! request.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::store::StoreError;

/// The answer to one command, or why there is none.
pub(super) type Answer = Result<Value, StoreError>;

/// Commands that wait for the next departure.
#[derive(Default)]
pub(super) struct Batch(Mutex<Waiting>);

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) commands: Pipeline,
    /// When the first of them came.
    since: Option<Instant>,
    /// Who waits for them, in the same order.
    callers: Vec<oneshot::Sender<Answer>>,
}

impl Batch {
    /// Adds a command; says where its answer will come, and whether it is the first of its batch,
    /// so that the caller has to see to its departure. One that has waited for longer than
    /// `patience` was never seen to: the worker it belonged to has died.
    pub(super) fn add(&self, command: Cmd, patience: Duration) -> (oneshot::Receiver<Answer>, bool) {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.0.lock();
        waiting.commands.add_command(command);
        waiting.callers.push(sender);
        let is_first = waiting.since.is_none_or(|since| since.elapsed() > patience);
        if is_first {
            waiting.since = Some(Instant::now());
        }
        (receiver, is_first)
    }

    /// Everything that waits; what is added from now on goes with the next batch.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut self.0.lock())
    }
}

impl Waiting {
    /// Hands each caller its answer, or all of them the same error.
    pub(super) fn answer(self, answers: Result<Vec<Value>, StoreError>) {
        // A caller that is gone, because its client is, needs none.
        match answers {
            Ok(answers) => {
                for (caller, answer) in self.callers.into_iter().zip(answers) {
                    let _ = caller.send(Ok(answer));
                }
            }
            Err(error) => {
                for caller in self.callers {
                    let _ = caller.send(Err(error));
                }
            }
        }
    }
}
