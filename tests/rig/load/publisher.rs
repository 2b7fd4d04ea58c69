//! A publisher of numbered events: at a fixed rate, and each of them again and again under the same
//! key until it is acknowledged. Many at once, so that one that takes long does not hold up the
//! others.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use vx11_kit::Answer;

use super::{Measure, Stage};
use crate::history::Stamp;

/// So many are on their way; the others wait for one of them to be acknowledged.
const AT_ONCE: usize = 128;
/// Bounds of the wait before an event is sent again, beyond what the answer asks for.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Time after which an event without an acknowledgement is given up.
const GIVE_UP: Duration = Duration::from_mins(2);
/// Of a hundred acknowledged events, so many are sent once more, at some moment within so long.
const REPEATED: u8 = 2;
const REPEATED_WITHIN: Duration = Duration::from_secs(3);
/// Bound of the wait for the last events.
const LAST: Duration = Duration::from_secs(30);

/// Publishes until stopped, then waits for pending events.
pub(super) async fn publish(
    stage: Arc<Stage>,
    measure: Measure,
    mut rng: Rng,
    mut stop: oneshot::Receiver<()>,
) {
    let (mut events, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut clock = interval(Duration::from_secs(1) / measure.events);
    loop {
        let due = tokio::select! {
            due = clock.tick() => due,
            _ = &mut stop => break,
        };
        let topics = stage.topics.as_ref().map(|space| space.of_event(&mut rng)).unwrap_or_default();
        let stamp = stage.recorder.publication(stage.recorder.moment(due.into_std()), topics.clone());
        let event = Event {
            stage: Arc::clone(&stage),
            places: Arc::clone(&places),
            stamp,
            topics,
            bytes: measure.event_bytes,
            attempts: 0,
            rng: rng.fork(),
        };
        events.spawn(event.live());
        while let Some(ended) = events.try_join_next() {
            ended.expect("an event is no reason to panic");
        }
    }
    let _ = timeout(LAST, async { while events.join_next().await.is_some() {} }).await;
}

/// An event that is to be published.
struct Event {
    stage: Arc<Stage>,
    places: Arc<Semaphore>,
    stamp: Stamp,
    topics: Vec<String>,
    bytes: usize,
    attempts: usize,
    rng: Rng,
}

impl Event {
    async fn live(mut self) {
        let places = Arc::clone(&self.places);
        let permit = places.acquire().await.expect("the semaphore is never closed");
        let give_up = Instant::now() + GIVE_UP;
        let mut bound = MIN_BACKOFF;
        loop {
            let (acknowledged, asked) = self.send().await;
            if acknowledged {
                break;
            }
            let wait = asked.unwrap_or_default() + bound.mul_f64(self.rng.f64());
            if Instant::now() + wait > give_up {
                return;
            }
            sleep(wait).await;
            bound = MAX_BACKOFF.min(2 * bound);
        }
        drop(permit);
        if self.rng.u8(..100) < REPEATED {
            sleep(REPEATED_WITHIN.mul_f64(self.rng.f64())).await;
            self.send().await;
        }
    }

    /// Whether it was acknowledged, and how long the answer asks to wait.
    async fn send(&mut self) -> (bool, Option<Duration>) {
        let Stamp { publisher, number, .. } = self.stamp;
        let at = self.stage.entrance(number + self.attempts);
        self.attempts += 1;
        let (recorder, key) = (&self.stage.recorder, format!("{publisher:08x}-{number}"));
        let sent = recorder.now();
        let data = self.stamp.data(self.bytes);
        let (answer, wait) = self.stage.at(at).publish_to(&self.topics, &key, &data).await;
        let acknowledged = matches!(answer, Answer::Acknowledged { .. });
        recorder.attempt(number, at, sent, answer);
        (acknowledged, wait)
    }
}
