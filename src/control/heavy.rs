//! Work of milliseconds, such as writing a list of 10,000 streams. It is done off the worker
//! threads, because it would delay their streams and requests, and one piece at a time, so that it
//! takes one processor core at most.

use std::future::pending;
use std::panic::resume_unwind;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Number of streams above which a list takes about a millisecond.
pub(crate) const MANY_STREAMS: usize = 500;

/// The turn to do such work.
static TURN: Semaphore = Semaphore::const_new(1);

/// Does work: on another thread if it is heavy, otherwise here.
pub(crate) async fn run<T: Send + 'static>(is_heavy: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if !is_heavy {
        return work();
    }
    let turn = TURN.acquire().await;
    // The turn ends with the work, also if the caller leaves meanwhile.
    let in_turn = move || {
        let _turn = turn;
        work()
    };
    match spawn_blocking(in_turn).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_cancelled) => pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn heavy_work_is_done_on_another_thread_and_light_work_at_once() {
        let here = thread::current().id();
        assert_ne!(run(true, || thread::current().id()).await, here);
        assert_eq!(run(false, || thread::current().id()).now_or_never(), Some(here));
    }

    #[tokio::test]
    async fn heavy_work_is_done_one_piece_at_a_time() {
        let running = Arc::new(AtomicUsize::new(0));
        let pieces = (0..20).map(|_| {
            let running = Arc::clone(&running);
            run(true, move || {
                let others = running.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                others
            })
        });
        assert_eq!(futures_util::future::join_all(pieces).await, [0; 20]);
    }

    #[tokio::test]
    async fn work_that_panics_ends_its_caller_and_leaves_the_turn_to_others() {
        let caller = tokio::spawn(run::<()>(true, || panic!("a defect")));
        assert!(caller.await.unwrap_err().is_panic());
        assert_eq!(run(true, || 1).await, 1);
    }
}
