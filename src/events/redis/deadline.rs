//! Deadlines for Redis that survive a suspended process.
//!
//! A process that was suspended (SIGSTOP, a frozen VM) finds every deadline expired when it
//! resumes, although the answer has been in its socket all the time. Such a deadline is granted a
//! second time instead of ending a sound session.

use std::pin::pin;
use std::time::Duration;

use redis::RedisResult;
use tokio::time::{Instant, timeout, timeout_at};

use crate::redis::Fault;

/// Deadline of an answer that no request waits for.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_millis(500);
/// A deadline noticed later than this expired while the process did not run.
const SUSPENDED: Duration = Duration::from_millis(250);

/// The answer, within [`ANSWER_DEADLINE`].
pub(super) async fn in_time<T>(answer: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
    within(ANSWER_DEADLINE, answer).await
}

/// The answer, within `patience` of running time.
pub(super) async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = RedisResult<T>>,
) -> Result<T, Fault> {
    let mut answer = pin!(answer);
    let due = Instant::now() + patience;
    if let Ok(answer) = timeout_at(due, &mut answer).await {
        return answer.map_err(Into::into);
    }
    if due.elapsed() <= SUSPENDED {
        return Err(Fault::Timeout);
    }
    timeout(patience, answer).await.map_err(|_elapsed| Fault::Timeout)?.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::sync::oneshot;
    use tokio::time::advance;

    use super::*;

    async fn answer_from(sender: oneshot::Receiver<u8>) -> RedisResult<u8> {
        Ok(sender.await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_expired_while_the_process_was_suspended_is_granted_a_second_time() {
        let (sender, receiver) = oneshot::channel();
        let mut answer = pin!(in_time(answer_from(receiver)));
        assert!(futures_util::poll!(&mut answer).is_pending());
        advance(Duration::from_secs(20)).await;
        assert!(
            futures_util::poll!(&mut answer).is_pending(),
            "the connection's task has yet to read the socket"
        );
        sender.send(7).unwrap();
        assert!(matches!(futures_util::poll!(&mut answer), Poll::Ready(Ok(7))));
    }

    #[tokio::test(start_paused = true)]
    async fn redis_that_does_not_answer_is_given_up_at_the_deadline() {
        let (_sender, receiver) = oneshot::channel();
        let started = Instant::now();
        assert!(matches!(in_time(answer_from(receiver)).await, Err(Fault::Timeout)));
        assert_eq!(started.elapsed().as_millis(), ANSWER_DEADLINE.as_millis());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_suspended_again_and_again_gives_up_all_the_same() {
        let (_sender, receiver) = oneshot::channel();
        let mut answer = pin!(in_time(answer_from(receiver)));
        for _ in 0..2 {
            assert!(futures_util::poll!(&mut answer).is_pending());
            advance(Duration::from_secs(20)).await;
        }
        assert!(matches!(futures_util::poll!(&mut answer), Poll::Ready(Err(Fault::Timeout))));
    }
}
