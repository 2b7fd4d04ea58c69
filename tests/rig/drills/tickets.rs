//! Tickets, each opened by three clients at once. Of some, one client is an `EventSource` or loses
//! its answer. Others are used through `authorise`.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::Length;
use super::drilling::Drilling;
use super::faults::Fault;
use crate::checker::STREAMS_PER_USE;
use crate::history::{Endpoint, HistoryRecorder, StreamEnd, TicketAttempt, TicketOutcome};
use crate::load::{Pass, Stage, Wish};

/// Tickets, and how many are issued a second.
const TICKETS: u16 = 10_000;
const TICKETS_IN_BRIEF: u16 = 400;
const A_SECOND: u32 = 70;
/// Rounds at full length.
const ROUNDS: u16 = 10;
/// Clients of a ticket, or requests.
const CLIENTS: u8 = 3;
/// Of a hundred tickets, one of the three clients is an `EventSource` for so many, and loses its
/// answer for so many.
const OF_EVENT_SOURCES: u8 = 20;
const OF_LOST_ANSWERS: u8 = 30;
const LOSE_BELOW: u8 = OF_EVENT_SOURCES + OF_LOST_ANSWERS;
/// Requests are repeated within so many milliseconds.
const REPEATED_WITHIN: u64 = 4500;
/// Of a hundred tickets, so many are tried again when it is too late.
const BELATED: u8 = 10;
const TOO_LATE: Duration = Duration::from_secs(6);
/// A client that loses its answer leaves within so many microseconds, and comes back within so many
/// milliseconds.
const LEAVES_WITHIN: u64 = 4000;
const BACK_WITHIN: u64 = 1500;
/// The longest time, in ms, for which a client keeps its stream. An `EventSource` keeps it for the
/// second.
const LONGEST_STAY: u64 = 1500;
const LONG_STAY: Duration = Duration::from_secs(4);
/// Attempts of a client that gets no answer, and the wait between them.
const ATTEMPTS: usize = 4;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(300);
/// Wait of an `EventSource` before it connects again (`retry:` of a stream).
const RETRY: Duration = Duration::from_millis(1500);
/// Bound of an attempt: an instance may wait five seconds for another one.
const ATTEMPT: Duration = Duration::from_secs(8);
/// Time before the first fault, in which an instance is dead, and between two faults.
const CALM: Duration = Duration::from_secs(1);
const DEAD: Duration = Duration::from_millis(1200);

/// Length of the drill.
pub(super) fn length(length: Length) -> Length {
    Length { rounds: if length.is_full { ROUNDS.into() } else { 1 }, fault: length.part(1.0 / 5.0), ..length }
}

/// Number of tickets that have to be opened by three clients at once.
pub(super) fn judged(length: Length) -> u16 {
    if length.is_full { TICKETS } else { TICKETS_IN_BRIEF }
}

pub(super) async fn opened_by_three(drilling: &mut Drilling, _round: usize) {
    let stage = Arc::clone(drilling.fault_run.stage());
    let number = if drilling.length.is_full { TICKETS / ROUNDS } else { TICKETS_IN_BRIEF };
    let opening = tokio::spawn(open_tickets(stage, number, drilling.fault_run.rng().fork()));
    let instances = drilling.cluster.instances.len();
    sleep(CALM).await;
    drilling.begin_fault().await;
    let killed = Fault::Killed(drilling.fault_run.rng().usize(..instances));
    killed.strike(drilling).await;
    sleep(DEAD).await;
    killed.repair(drilling).await;
    let failing = [
        Fault::RedisKilled,
        Fault::RedisStopped,
        Fault::AllCut,
        Fault::OneCut(drilling.fault_run.rng().usize(..instances)),
    ];
    let failing = failing[drilling.fault_run.rng().usize(..failing.len())];
    failing.strike(drilling).await;
    drilling.last(1.0).await;
    failing.repair(drilling).await;
    drilling.fault_run.note(format!("{killed:?}, then {failing:?}"));
    drilling.recover().await;
    opening.await.expect("a ticket is no reason to panic");
}

/// Has so many tickets opened at a fixed rate, and a part of that used through `authorise`.
async fn open_tickets(stage: Arc<Stage>, number: u16, mut rng: Rng) {
    let (mut clock, mut tickets) = (interval(Duration::from_secs(1) / A_SECOND), JoinSet::new());
    for number in 0..usize::from(number) {
        clock.tick().await;
        tickets.spawn(open(Arc::clone(&stage), rng.fork()));
        if number.is_multiple_of(STREAMS_PER_USE) {
            tickets.spawn(use_for_requests(Arc::clone(&stage), rng.fork()));
        }
    }
    tickets.join_all().await;
}

/// A ticket. A request to issue it may fail with the instance that got it.
async fn issue(stage: &Arc<Stage>, rng: &mut Rng) -> Pass {
    loop {
        if let Some(pass) = stage.issue_for(rng.usize(..1000), Endpoint::Balancer, Wish::Ticket).await {
            return pass;
        }
        sleep(BETWEEN_ATTEMPTS).await;
    }
}

/// The life of a ticket that opens streams.
async fn open(stage: Arc<Stage>, mut rng: Rng) {
    let pass = issue(&stage, &mut rng).await;
    let client = |number: u8| Client { stage: Arc::clone(&stage), pass: pass.clone(), number };
    let too_late = Instant::now() + TOO_LATE;
    let (is_belated, kind) = (rng.u8(..100) < BELATED, rng.u8(..100));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, stay) = (client(number), Duration::from_millis(rng.u64(..LONGEST_STAY)));
        match (number, kind) {
            (0, ..OF_EVENT_SOURCES) => clients.spawn(client.event_source()),
            (0, OF_EVENT_SOURCES..LOSE_BELOW) => clients.spawn(client.lose_an_answer(rng.fork())),
            _ => clients.spawn(client.race(stay)),
        };
    }
    clients.join_all().await;
    if is_belated {
        sleep_until(too_late).await;
        client(CLIENTS).attempt(Kind::Fetch, Duration::ZERO).await;
    }
}

/// The life of a ticket that is used through `authorise`: by three requests at once, which are
/// repeated in time and too late. Each asks a random instance.
async fn use_for_requests(stage: Arc<Stage>, mut rng: Rng) {
    let pass = issue(&stage, &mut rng).await;
    let too_late = Instant::now() + TOO_LATE;
    let in_time = Instant::now() + Duration::from_millis(rng.u64(..REPEATED_WITHIN));
    for at in [Instant::now(), in_time, too_late] {
        sleep_until(at).await;
        let mut requests = JoinSet::new();
        for request in 0..CLIENTS {
            let (stage, pass) = (Arc::clone(&stage), pass.clone());
            let endpoint = Endpoint::Instance(rng.usize(..stage.members.len()));
            requests.spawn(async move { stage.use_ticket(&pass, request, endpoint).await });
        }
        requests.join_all().await;
    }
}

/// Kind of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fetch,
    EventSource,
}

/// A client that opens the stream of a ticket.
struct Client {
    stage: Arc<Stage>,
    pass: Pass,
    number: u8,
}

impl Client {
    /// Tries until there is an answer.
    async fn race(self, stay: Duration) {
        for _ in 0..ATTEMPTS {
            if !matches!(self.attempt(Kind::Fetch, stay).await, TicketOutcome::Lost(_)) {
                break;
            }
            sleep(BETWEEN_ATTEMPTS).await;
        }
    }

    /// Leaves soon, mostly before the answer is there, and comes back.
    async fn lose_an_answer(self, mut rng: Rng) {
        let sent = self.stage.recorder.now();
        let leaves = Duration::from_micros(rng.u64(..LEAVES_WITHIN));
        if timeout(leaves, self.attempt(Kind::Fetch, Duration::ZERO)).await.is_err() {
            self.record(sent, self.stage.recorder.now(), TicketOutcome::Lost("the client left".to_owned()));
        }
        sleep(Duration::from_millis(rng.u64(20..BACK_WITHIN))).await;
        self.race(Duration::from_millis(rng.u64(..LONGEST_STAY))).await;
    }

    /// Connects again when its stream ends, until it is refused or has stayed for long.
    async fn event_source(self) {
        let until = Instant::now() + LONG_STAY;
        loop {
            let stay = until.saturating_duration_since(Instant::now());
            match self.attempt(Kind::EventSource, stay).await {
                TicketOutcome::Opened(StreamEnd { reason: None, .. }) | TicketOutcome::Refused => break,
                TicketOutcome::Opened(_) | TicketOutcome::Lost(_) if Instant::now() < until => {
                    sleep(RETRY).await;
                }
                TicketOutcome::Opened(_) | TicketOutcome::Lost(_) => break,
            }
        }
    }

    /// One request, and its stream, which is kept for so long.
    async fn attempt(&self, kind: Kind, stay: Duration) -> TicketOutcome {
        let recorder = &self.stage.recorder;
        let sent = recorder.now();
        let open = self.pass.open(self.stage.at(Endpoint::Balancer), kind == Kind::EventSource);
        let opened = timeout(ATTEMPT, open).await;
        let answered = recorder.now();
        let outcome = match opened {
            Err(_) => TicketOutcome::Lost("no answer in time".to_owned()),
            Ok(Err(words)) => TicketOutcome::Lost(words),
            Ok(Ok(None)) => TicketOutcome::Refused,
            Ok(Ok(Some(mut stream))) => {
                let index = recorder.stream_opened(self.pass.number, Endpoint::Balancer, sent);
                let mut noted = Noted { recorder, index, reason: None };
                let reason = timeout(stay, stream.ended()).await.ok();
                noted.reason.clone_from(&reason);
                drop(noted);
                // It is closed after that.
                TicketOutcome::Opened(StreamEnd { at: recorder.now(), reason })
            }
        };
        self.record(sent, answered, outcome.clone());
        outcome
    }

    fn record(&self, sent: Duration, answered: Duration, outcome: TicketOutcome) {
        let (ticket, client) = (self.pass.number, self.number);
        self.stage.recorder.ticket(TicketAttempt { ticket, client, sent, answered, outcome });
    }
}

/// An open stream in the history. It ends there when this is dropped, so that a client may leave at
/// any time.
struct Noted<'a> {
    recorder: &'a HistoryRecorder,
    index: usize,
    reason: Option<String>,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.recorder.stream_ended(self.index, self.reason.take());
    }
}
