//! Batches: commands of one worker's requests are sent together. One message to the connection's
//! driver, one deadline and one check of the breaker serve all of them.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::store::StoreError;

/// Answer to one command.
pub(super) type Answer = Result<Value, StoreError>;

/// Commands that wait for the next flush.
#[derive(Default)]
pub(super) struct Batch(Mutex<Waiting>);

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) commands: Pipeline,
    /// Time at which the first one was added.
    since: Option<Instant>,
    /// Callers, in the order of the commands.
    callers: Vec<oneshot::Sender<Answer>>,
}

impl Batch {
    /// Adds a command. Returns the channel for its answer, and whether it is the first of its
    /// batch: the caller then has to flush it. A batch older than `patience` counts as new, because
    /// the task that should have flushed it is gone.
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

    /// Takes the batch and starts the next one.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut self.0.lock())
    }
}

impl Waiting {
    /// Sends each caller its answer, or all of them the same error.
    pub(super) fn answer(self, answers: Result<Vec<Value>, StoreError>) {
        // A caller whose client has left no longer receives.
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
