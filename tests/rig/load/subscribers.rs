//! Subscribers that do what the browser client does (`src/http/panel/assets/vx11-events.js`): issue a token, open a
//! stream, and when it ends wait with full jitter, or for as long as the instance said, and begin anew where they were.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventsource_stream::{Event, EventStream, Eventsource};
use fastrand::Rng;
use futures_util::StreamExt;
use reqwest::Response;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Stage;
use crate::journal::{IN_ORDER, Kind, Outcome, Place, StreamTurn};

/// Bounds of the backoff.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A connection that ends sooner counts as short-lived; so many of them in a row slow a subscriber down.
const STABLE: Duration = Duration::from_secs(2);
const MOST_FLAPS: u32 = 2;
/// For each attempt.
const ATTEMPT: Duration = Duration::from_secs(15);
/// So many open their first stream at a time.
const AT_ONCE: usize = 32;
/// Their tokens have numbers from here on, to tell them from those that are issued at a fixed rate.
const FIRST_NUMBER: u64 = 1 << 40;

/// Opens streams, and keeps them open until the tasks are aborted.
pub(super) async fn subscribe(stage: &Arc<Stage>, count: usize, rng: &mut Rng) -> Vec<JoinHandle<()>> {
    let (doors, greeted) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(0)));
    let mut tasks = Vec::new();
    for number in 0..count {
        let subscriber = Subscriber {
            stage: Arc::clone(stage),
            number,
            issuer: stage.entrance(number + 1),
            place: stage.entrance(number),
            rng: rng.fork(),
            tokens: FIRST_NUMBER + (u64::try_from(number).unwrap_or(0) << 16),
            failures: 0,
            flaps: 0,
            last_event_id: String::new(),
        };
        tasks.push(tokio::spawn(subscriber.live(Arc::clone(&doors), Arc::clone(&greeted))));
    }
    let all = greeted.acquire_many(u32::try_from(count).expect("not too many")).await;
    all.expect("the semaphore is never closed").forget();
    tasks
}

struct Subscriber {
    stage: Arc<Stage>,
    number: usize,
    issuer: Place,
    place: Place,
    rng: Rng,
    /// The number of its next token.
    tokens: u64,
    failures: u32,
    flaps: u32,
    last_event_id: String,
}

/// How a stream ended.
struct End {
    words: String,
    /// How long the instance asked to wait.
    told: Option<Duration>,
}

impl Subscriber {
    async fn live(mut self, doors: Arc<Semaphore>, greeted: Arc<Semaphore>) {
        let mut door = Some(doors.acquire().await.expect("the semaphore is never closed"));
        loop {
            let Some(stream) = self.attempt().await else {
                let wait = self.backoff();
                sleep(wait).await;
                continue;
            };
            self.stage.journal.stream(self.number, self.place, StreamTurn::Opened);
            if door.take().is_some() {
                greeted.add_permits(1);
            }
            let since = Instant::now();
            let end = self.read(stream).await;
            self.stage.journal.stream(self.number, self.place, StreamTurn::Lost(end.words));
            self.settle(since.elapsed());
            let wait = end.told.unwrap_or_else(|| self.backoff());
            sleep(wait).await;
        }
    }

    /// A new token and a stream with it, greeted.
    async fn attempt(&mut self) -> Option<EventStream<BytesStream>> {
        self.tokens += 1;
        let (journal, at) = (&self.stage.journal, self.stage.at(self.issuer));
        let (mut issued, kind) = (None, Kind::Issue { life: at.life() });
        let request = async {
            issued = Some(at.issue().await?);
            Ok(true)
        };
        journal.note((kind, self.tokens, self.issuer), journal.now(), request).await;
        let token = issued?.token;
        let mut stream = None;
        let request = async {
            let open = self.stage.at(self.place).resume_stream(&token, &self.last_event_id);
            stream = timeout(ATTEMPT, open).await.map_err(|_| "no stream in time".to_owned())??;
            Ok(stream.is_some())
        };
        let outcome = journal.note((Kind::OpenStream, self.tokens, self.place), journal.now(), request).await;
        (outcome == Outcome::Yes).then_some(())?;
        let mut events = bytes(stream?).eventsource();
        let greeting = timeout(ATTEMPT, events.next()).await.ok()??.ok()?;
        self.arrived(&greeting);
        Some(events)
    }

    async fn read(&mut self, mut stream: EventStream<BytesStream>) -> End {
        loop {
            match stream.next().await {
                None => return End { words: "it ended".to_owned(), told: None },
                // Not the error's own words: they may contain the address, and so the token.
                Some(Err(_)) => return End { words: "it was cut".to_owned(), told: None },
                Some(Ok(event)) if event.event == "reconnect" => return reconnect(&event),
                Some(Ok(event)) => self.arrived(&event),
            }
        }
    }

    fn arrived(&mut self, event: &Event) {
        if !event.id.is_empty() {
            self.last_event_id.clone_from(&event.id);
        }
    }

    fn settle(&mut self, stayed: Duration) {
        if stayed >= STABLE {
            self.flaps = 0;
        }
        self.failures = self.flaps;
        self.flaps = (self.flaps + 1).min(MOST_FLAPS);
    }

    fn backoff(&mut self) -> Duration {
        let bound = MAX_BACKOFF.min(MIN_BACKOFF * 2_u32.saturating_pow(self.failures));
        self.failures += 1;
        bound.mul_f64(self.rng.f64())
    }
}

fn reconnect(event: &Event) -> End {
    let said: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let reason = said["reason"].as_str().unwrap_or("no reason");
    let told = said["retry_ms"].as_u64().map(Duration::from_millis);
    End { words: format!("{IN_ORDER}: {reason}"), told }
}

/// The body of a stream.
type BytesStream = futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>;

fn bytes(response: Response) -> BytesStream {
    response.bytes_stream().boxed()
}
