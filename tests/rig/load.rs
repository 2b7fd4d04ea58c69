//! A steady load: tokens issued at a fixed rate, each of them validated or revoked later; streams that stay open; and
//! a look at every instance many times a second. Whatever comes of it stands in the journal.

mod courses;
mod streams;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

use crate::journal::Journal;
use crate::operator::Operator;
use courses::{Course, Token};

/// Who is asked, and where it is noted.
pub(crate) struct Stage {
    pub(crate) operators: Vec<Operator>,
    pub(crate) journal: Journal,
}

/// The load; ends when dropped, together with all its requests.
pub(crate) struct Load {
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins, with all streams open when it returns. `rate` is the number of tokens issued a second.
    pub(crate) async fn start(stage: &Arc<Stage>, rate: u32, mut rng: Rng) -> Self {
        let mut tasks = streams::open(stage).await;
        for instance in 0..stage.operators.len() {
            tasks.push(tokio::spawn(watch::watch(Arc::clone(stage), instance)));
        }
        tasks.push(tokio::spawn(issue(Arc::clone(stage), rate, rng.fork())));
        Self { tasks }
    }

    /// Panics if a part of the load did.
    pub(crate) async fn stop(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            if let Err(error) = task.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn issue(stage: Arc<Stage>, rate: u32, mut rng: Rng) {
    let mut lives = JoinSet::new();
    let mut clock = interval(Duration::from_secs(1) / rate);
    for number in 0_u64.. {
        let due = clock.tick().await;
        let issuer = usize::try_from(number).unwrap_or(0) % stage.operators.len();
        let due = stage.journal.moment(due.into_std());
        let course = Course::draw(&mut rng, &stage.operators[issuer]);
        lives.spawn(Token { stage: Arc::clone(&stage), number, issuer, due }.live(course, rng.fork()));
        while let Some(ended) = lives.try_join_next() {
            ended.expect("a token's course is no reason to panic");
        }
    }
}
