//! Subscribers with the rules of the browser client (`clients/browser/vx11-events.js`): issue a
//! token and open a stream. When it ends, wait with full jitter, or as long as the instance said,
//! and resume. Those with a grant also leave their streams ([`roaming`]).

mod roaming;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use vx11_kit::{Block, EventId, Frame};

use super::connection::{Connection, Request};
use super::grants::Share;
use super::subjects::FIRST_NUMBER as FIRST_OF_SUBJECTS;
use super::{Measure, Stage};
use crate::history::{DeliveryRecorder, Endpoint, IN_ORDER, Kind, Moment, Outcome, StreamTurn};
use roaming::may_leave;

/// Bounds of the backoff.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A connection that ends sooner counts as short-lived; so many of them in a row slow a subscriber
/// down.
const STABLE: Duration = Duration::from_secs(2);
const MOST_FLAPS: u32 = 2;
/// For each attempt.
const ATTEMPT: Duration = Duration::from_secs(15);
/// The same of subscribers with a grant, which also open streams on an instance that hangs: nginx
/// leaves it after 20 s.
const PATIENT_ATTEMPT: Duration = Duration::from_secs(30);
/// So many open their first stream at a time.
const AT_ONCE: usize = 32;
/// Their tokens have numbers from here on, to tell them from those that are issued at a fixed rate.
const FIRST_NUMBER: u64 = 1 << 40;
/// Each has so many of them, as a power of two.
const TOKENS_BITS: u32 = 16;

/// Number of the subscriber with this token; `None`: it is no subscriber's.
pub(crate) fn subscriber_of(token: u64) -> Option<usize> {
    let is_own = (FIRST_NUMBER..FIRST_OF_SUBJECTS).contains(&token);
    is_own.then(|| usize::try_from((token - FIRST_NUMBER) >> TOKENS_BITS).ok()).flatten()
}

/// Opens streams, and keeps them open until the tasks are aborted.
pub(super) async fn subscribe(
    stage: &Arc<Stage>,
    measure: Measure,
    (pauses, roaming): (&watch::Receiver<bool>, &watch::Receiver<bool>),
    rng: &mut Rng,
) -> Vec<JoinHandle<()>> {
    let (doors, greeted) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(0)));
    let mut tasks = Vec::new();
    for number in 0..measure.subscribers {
        let mut rng = rng.fork();
        let subscriber = Subscriber {
            stage: Arc::clone(stage),
            number,
            issuer: stage.entrance(number + 1),
            endpoint: stage.entrance(number),
            pauses: (number < measure.pausing).then(|| pauses.clone()),
            roaming: roaming.clone(),
            share: stage.topics.as_ref().map(|space| Share::draw(space, number, &mut rng)),
            rng,
            tokens: FIRST_NUMBER + (u64::try_from(number).unwrap_or(0) << TOKENS_BITS),
            failures: 0,
            flaps: 0,
            position: None,
            since: Moment::ZERO,
            greeted: false,
        };
        tasks.push(tokio::spawn(subscriber.live(Arc::clone(&doors), Arc::clone(&greeted))));
    }
    let all = greeted.acquire_many(u32::try_from(measure.subscribers).expect("not too many")).await;
    all.expect("the semaphore is never closed").forget();
    tasks
}

struct Subscriber {
    stage: Arc<Stage>,
    number: usize,
    issuer: Endpoint,
    endpoint: Endpoint,
    /// Of one that stops reading while this is true.
    pauses: Option<watch::Receiver<bool>>,
    /// Whether it may leave its stream.
    roaming: watch::Receiver<bool>,
    /// Its share of the topics; `None`: it has plain tokens.
    share: Option<Share>,
    rng: Rng,
    /// The number of its next token.
    tokens: u64,
    failures: u32,
    flaps: u32,
    /// Id from which it resumes.
    position: Option<EventId>,
    /// Start of what it reads: earlier events were due before it wanted them.
    since: Moment,
    /// The first frame of the present stream has come.
    greeted: bool,
}

/// Reason for the end of a stream.
struct End {
    words: String,
    /// The wait that the instance asked for.
    retry: Option<Duration>,
}

impl Subscriber {
    async fn live(mut self, doors: Arc<Semaphore>, greeted: Arc<Semaphore>) {
        let mut door = Some(doors.acquire().await.expect("the semaphore is never closed"));
        self.begin();
        loop {
            let Some((stream, index)) = self.attempt().await else {
                let wait = self.backoff();
                sleep(wait).await;
                continue;
            };
            self.stage.recorder.stream(self.number, self.endpoint, StreamTurn::Opened);
            if door.take().is_some() {
                greeted.add_permits(1);
            }
            let since = Instant::now();
            let Some(end) = self.read(stream, index).await else {
                self.stage.recorder.stream(self.number, self.endpoint, StreamTurn::Left);
                self.move_on().await;
                continue;
            };
            self.stage.recorder.stream(self.number, self.endpoint, StreamTurn::Lost(end.words));
            self.settle(since.elapsed());
            let wait = end.retry.unwrap_or_else(|| self.backoff());
            sleep(wait).await;
        }
    }

    /// A new token.
    async fn issue(&mut self) -> Option<String> {
        self.tokens += 1;
        let (recorder, at) = (&self.stage.recorder, self.stage.at(self.issuer));
        let grant = self.share.as_ref().and_then(|share| share.grant.request());
        let (mut issued, kind) = (None, Kind::Issue { life: at.life() });
        let request = async {
            issued = Some(at.issue_with(grant.as_ref()).await?);
            Ok(true)
        };
        recorder.note((kind, self.tokens, self.issuer), recorder.now(), request).await;
        let issued = issued?;
        recorder.token(self.tokens, &issued.id);
        Some(issued.token)
    }

    /// A new token and a stream with it, greeted, and its index in the history.
    async fn attempt(&mut self) -> Option<(Connection, usize)> {
        let token = self.issue().await?;
        let recorder = &self.stage.recorder;
        let bound = if self.share.is_some() { PATIENT_ATTEMPT } else { ATTEMPT };
        let (mut stream, sent) = (None, recorder.now());
        let request = async {
            let with = Request {
                token: &token,
                after: self.position,
                topics: self.share.as_ref().map(Share::named).unwrap_or_default(),
                small_buffer: self.pauses.is_some(),
            };
            let open = Connection::open(self.stage.at(self.endpoint), with);
            stream = timeout(bound, open).await.map_err(|_| "no stream in time".to_owned())??;
            Ok(stream.is_some())
        };
        let outcome =
            recorder.note((Kind::OpenStream, self.tokens, self.endpoint), recorder.now(), request).await;
        (outcome == Outcome::Yes).then_some(())?;
        let mut stream = stream?;
        let index = recorder.stream_opened(self.tokens, self.endpoint, sent);
        self.greeted = false;
        if timeout(bound, self.greeting(&mut stream)).await.ok().flatten().is_none() {
            self.stage.recorder.stream_ended(index, None);
            return None;
        }
        Some((stream, index))
    }

    async fn greeting(&mut self, stream: &mut Connection) -> Option<()> {
        loop {
            if self.take(stream).is_some() {
                return None;
            }
            if self.greeted {
                return Some(());
            }
            stream.more().await.ok()?;
        }
    }

    /// Reads until the stream ends; `None` if the subscriber leaves it.
    async fn read(&mut self, mut stream: Connection, index: usize) -> Option<End> {
        let end = self.read_on(&mut stream).await;
        self.stage.recorder.stream_ended(index, end.as_ref().map(|end| end.words.clone()));
        end
    }

    async fn read_on(&mut self, stream: &mut Connection) -> Option<End> {
        let leaves_at = self.leaves_at();
        loop {
            let more = tokio::select! {
                more = more(stream, self.pauses.as_mut()) => more,
                () = may_leave(leaves_at, &mut self.roaming) => return None,
            };
            if let Err(words) = more {
                return Some(End { words: words.to_owned(), retry: None });
            }
            if let Some(end) = self.take(stream) {
                return Some(end);
            }
        }
    }

    /// Notes what has come; how the stream ended, if it did.
    fn take(&mut self, stream: &mut Connection) -> Option<End> {
        let stage = Arc::clone(&self.stage);
        let (now, mut delivery_recorder) = (stage.recorder.now(), stage.recorder.delivery_recorder());
        let mut end = None;
        let taken = stream.take(|block| match block {
            _ if end.is_some() => {}
            Block::Event(frame) => end = self.arrived(frame, now, &mut delivery_recorder),
            Block::Position(id) => end = self.moved(id, &mut delivery_recorder),
        });
        end.or_else(|| taken.err().map(|words| End { words: words.to_owned(), retry: None }))
    }

    /// Notes a frame; how the stream ended, if it is the last.
    fn arrived(
        &mut self,
        frame: &Frame<'_>,
        now: Moment,
        delivery_recorder: &mut DeliveryRecorder,
    ) -> Option<End> {
        let mut id = None;
        if let Some(text) = &frame.id {
            let Ok(known) = text.parse() else { return Some(no_id(text)) };
            id = Some(known);
            self.position = id;
        }
        match &*frame.event {
            _ if !self.greeted => {
                self.greeted = true;
                delivery_recorder.greeting(self.number, id);
            }
            "reset" => delivery_recorder.reset(self.number, id, &reason(frame)),
            "degraded" => delivery_recorder.reachable(self.number, false),
            "recovered" => delivery_recorder.reachable(self.number, true),
            "reconnect" => return Some(reconnect(frame)),
            _ => {
                if let Some(id) = id {
                    // Delays of a client that does not read say nothing about the service.
                    let timed = self.pauses.is_none().then_some(self.since..now);
                    let content = (frame.topic.as_deref(), &*frame.data);
                    delivery_recorder.event(self.number, id, content, timed);
                }
            }
        }
        None
    }

    /// Notes the id of a heartbeat; how the stream ended, if it is none.
    fn moved(&mut self, text: &str, delivery_recorder: &mut DeliveryRecorder) -> Option<End> {
        let Ok(id) = text.parse() else { return Some(no_id(text)) };
        if self.position.replace(id) != Some(id) {
            delivery_recorder.position(self.number, id);
        }
        None
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

fn no_id(text: &str) -> End {
    End { words: format!("{text:?} is no id of an event"), retry: None }
}

/// Waits until more has come, or, of a subscriber that stops reading, until it reads more.
async fn more(
    stream: &mut Connection,
    pauses: Option<&mut watch::Receiver<bool>>,
) -> Result<(), &'static str> {
    match pauses {
        None => stream.more().await,
        Some(pauses) => more_unless_paused(stream, pauses).await,
    }
}

/// Leaves what comes unread while paused.
async fn more_unless_paused(
    stream: &mut Connection,
    pauses: &mut watch::Receiver<bool>,
) -> Result<(), &'static str> {
    loop {
        let going_on = pauses.wait_for(|paused| !paused).await;
        going_on.expect("the load outlives its subscribers");
        tokio::select! {
            more = stream.more() => return more,
            _ = pauses.changed() => {}
        }
    }
}

fn reconnect(frame: &Frame<'_>) -> End {
    let said: Value = serde_json::from_str(&frame.data).unwrap_or_default();
    let retry = said["retry_ms"].as_u64().map(Duration::from_millis);
    End { words: ended_in_order(frame), retry }
}

/// Reason for the end of a stream, from its last frame.
pub(super) fn ended_in_order(frame: &Frame<'_>) -> String {
    format!("{IN_ORDER}: {}", reason(frame))
}

fn reason(frame: &Frame<'_>) -> String {
    let said: Value = serde_json::from_str(&frame.data).unwrap_or_default();
    said["reason"].as_str().unwrap_or("no reason").to_owned()
}
