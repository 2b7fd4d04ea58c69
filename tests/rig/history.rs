//! The operation log: everything the load asked for and was answered, what was broken when, and how
//! the instances stood meanwhile. It knows no secret: tokens have numbers here.

mod control;
mod deliveries;
mod logs;
mod operations;
mod publications;
mod topics;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use vx11_kit::{Answer, InstanceFigures, Standing, StreamList};

pub use control::{
    ClientStream, Command, CommandKind, Listed, Listing, LoggedStream, Partition, StreamEnd, Subject,
    TicketAttempt, TicketOutcome, TicketUse,
};
pub use deliveries::{Delivered, Deliveries, Message};
pub(crate) use deliveries::{DeliveryRecorder, Stamp};
pub use logs::logged_streams;
pub use operations::{
    Endpoint, History, IN_ORDER, Kind, Moment, Observation, Operation, Outage, Outcome, Round, StarvedTime,
    StreamMoment, StreamTurn, Trespass,
};
pub use publications::{Attempt, Publication};
pub use topics::{DEFAULT, Patterns, matches};

/// Between two looks at what is not answered yet.
const POLL: Duration = Duration::from_millis(10);

/// Written by all parts of a load at once.
pub struct HistoryRecorder {
    begun: Instant,
    /// The same by the clock of the machine, by which instances date their log lines.
    begun_by_clock: SystemTime,
    history: Mutex<History>,
    /// Apart, because it is written far more often than anything else.
    delivery_recorder: Mutex<DeliveryRecorder>,
    /// Marks events of this history.
    publisher: u32,
    /// Pending requests.
    pending: Mutex<HashMap<u64, Pending>>,
    asked: AtomicU64,
    /// Numbers of the tokens, by their ids.
    tokens: Mutex<HashMap<String, u64>>,
}

/// A request that is not answered yet.
#[derive(Clone, Copy)]
struct Pending {
    kind: Kind,
    token: u64,
    endpoint: Endpoint,
    due: Moment,
    sent: Moment,
}

/// Keeps a request among those that are not answered yet, until it is dropped.
struct Open<'a> {
    recorder: &'a HistoryRecorder,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.recorder.pending().remove(&self.number);
    }
}

impl Default for HistoryRecorder {
    #[expect(clippy::disallowed_methods, reason = "instances date their log lines by this clock")]
    fn default() -> Self {
        let publisher = fastrand::u32(..);
        Self {
            begun: Instant::now(),
            begun_by_clock: SystemTime::now(),
            history: Mutex::default(),
            delivery_recorder: Mutex::new(DeliveryRecorder::new(publisher)),
            publisher,
            pending: Mutex::default(),
            asked: AtomicU64::new(0),
            tokens: Mutex::default(),
        }
    }
}

impl HistoryRecorder {
    /// The present time.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    /// The same of another clock's reading.
    #[must_use]
    pub fn moment(&self, instant: Instant) -> Moment {
        instant.saturating_duration_since(self.begun)
    }

    /// The same of a reading of the machine's clock; `None`: it was before the start.
    #[must_use]
    pub fn moment_by_clock(&self, time: SystemTime) -> Option<Moment> {
        time.duration_since(self.begun_by_clock).ok()
    }

    /// Notes a request that was due at `due`, is sent now and ends with `request`. A refusal is the
    /// answer `false`.
    pub async fn note(
        &self,
        (kind, token, endpoint): (Kind, u64, Endpoint),
        due: Moment,
        request: impl Future<Output = Result<bool, String>>,
    ) -> Outcome {
        let sent = self.now();
        let _open = self.open(Pending { kind, token, endpoint, due, sent });
        let outcome = match request.await {
            Ok(true) => Outcome::Yes,
            Ok(false) => Outcome::No,
            Err(words) => Outcome::Unanswered(words),
        };
        let answered = self.now();
        let operation = Operation { kind, token, endpoint, due, sent, answered, outcome: outcome.clone() };
        self.history().operations.push(operation);
        outcome
    }

    /// Waits until whatever was asked before this moment is answered, but no longer than that; what
    /// is not answered by then is noted as such.
    pub async fn await_answers(&self, at_most: Duration) {
        let until = self.now();
        let is_waiting = |recorder: &Self| recorder.pending().values().any(|pending| pending.sent < until);
        while is_waiting(self) && self.now() < until + at_most {
            tokio::time::sleep(POLL).await;
        }
        let answered = self.now();
        let left: Vec<_> = self.pending().values().filter(|pending| pending.sent < until).copied().collect();
        for Pending { kind, token, endpoint, due, sent } in left {
            let outcome = Outcome::Unanswered("no answer until the end".to_owned());
            self.history().operations.push(Operation { kind, token, endpoint, due, sent, answered, outcome });
        }
    }

    fn open(&self, pending: Pending) -> Open<'_> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        self.pending().insert(number, pending);
        Open { recorder: self, number }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a failed query of an instance's state; the many that succeed are left out.
    pub async fn look_at(&self, endpoint: Endpoint, look: impl Future<Output = Result<bool, String>>) {
        let sent = self.now();
        if let Err(words) = look.await {
            let (answered, outcome) = (self.now(), Outcome::Unanswered(words));
            let operation =
                Operation { kind: Kind::Look, token: 0, endpoint, due: sent, sent, answered, outcome };
            self.history().operations.push(operation);
        }
    }

    /// Records the state of an instance.
    pub fn observe(&self, instance: usize, standing: Standing) {
        let at = self.now();
        self.history().observations.push(Observation { at, instance, standing });
    }

    /// Notes that the machine has been busy with something else since `from`.
    pub fn starved(&self, from: Moment) {
        let until = self.now();
        self.history().starvation.push(StarvedTime { from, until });
    }

    /// Notes what became of a subscriber's stream.
    pub fn stream(&self, subscriber: usize, endpoint: Endpoint, turn: StreamTurn) {
        let at = self.now();
        self.history().streams.push(StreamMoment { at, subscriber, endpoint, turn });
    }

    /// Records an attempt to reach beyond a grant.
    pub(crate) fn trespass(&self, trespass: Trespass) {
        self.history().trespasses.push(trespass);
    }

    /// Records the id of a token that was issued.
    pub(crate) fn token(&self, number: u64, id: &str) {
        self.tokens().insert(id.to_owned(), number);
    }

    /// Records the subject of a token.
    pub(crate) fn subject_of(&self, number: u64, subject: Subject) {
        self.history().subjects.insert(number, subject);
    }

    /// Number of the token with this id; `None`: it is no token of the load.
    pub(crate) fn number_of(&self, id: &str) -> Option<u64> {
        self.tokens().get(id).copied()
    }

    /// Records a command.
    pub(crate) fn command(&self, command: Command) {
        self.history().commands.push(command);
    }

    /// Records a stream that was opened now, and returns its index.
    pub(crate) fn stream_opened(&self, token: u64, endpoint: Endpoint, sent: Moment) -> usize {
        let opened = self.now();
        let mut history = self.history();
        history.client_streams.push(ClientStream { token, endpoint, sent, opened, end: None });
        history.client_streams.len() - 1
    }

    /// Records that a stream ended, for this reason, or is being closed by its client.
    pub(crate) fn stream_ended(&self, index: usize, reason: Option<String>) {
        let at = self.now();
        self.history().client_streams[index].end = Some(StreamEnd { at, reason });
    }

    /// Records a list of streams.
    pub(crate) fn listing(&self, endpoint: Endpoint, sent: Moment, list: StreamList) {
        // The instances have the ids 1, 2, …
        let index = |id: &String| id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
        let streams = list.streams.into_iter().map(|stream| Listed {
            token: stream.token_id.as_deref().and_then(|id| self.number_of(id)),
            instance: index(&stream.instance_id).unwrap_or(usize::MAX),
            stream_id: stream.stream_id,
        });
        let streams = streams.collect();
        let missing = list.missing.iter().map(|id| index(id).unwrap_or(usize::MAX)).collect();
        let listing = Listing { endpoint, sent, answered: self.now(), streams, missing, more: list.more };
        self.history().listings.push(listing);
    }

    /// Records that these instances cannot use Redis from now on.
    pub(crate) fn cut_off(&self, cut: Vec<usize>) {
        let from = self.now();
        self.history().partitions.push(Partition { from, until: None, cut });
    }

    /// Records that this is about to end.
    pub(crate) fn rejoining(&self) {
        let until = Some(self.now());
        let mut history = self.history();
        let last = history.partitions.last_mut().filter(|partition| partition.until.is_none());
        last.expect("some instance is cut off").until = until;
    }

    /// Records the streams in a log of an instance.
    pub(crate) fn logged(&self, log: &str, instance: usize) {
        let read = logged_streams(log, instance, |id| self.number_of(id), |time| self.moment_by_clock(time));
        self.history().logged_streams.extend(read);
    }

    /// Records an attempt to open the stream of a ticket.
    pub(crate) fn ticket(&self, attempt: TicketAttempt) {
        self.history().tickets.push(attempt);
    }

    /// Records a request for which a ticket is used.
    pub(crate) fn ticket_use(&self, ticket_use: TicketUse) {
        self.history().ticket_uses.push(ticket_use);
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event that is due to be published; what its data has to say of it.
    pub(crate) fn publication(&self, due: Moment, topics: Vec<String>) -> Stamp {
        let publications = &mut self.history().publications;
        publications.push(Publication { due, topics, attempts: Vec::new() });
        Stamp { publisher: self.publisher, number: publications.len() - 1, due }
    }

    /// Notes how an attempt to publish an event ended that was sent at `sent`.
    pub(crate) fn attempt(&self, number: usize, endpoint: Endpoint, sent: Moment, answer: Answer) {
        let answered = self.now();
        let attempt = Attempt { endpoint, sent, answered, answer };
        self.history().publications[number].attempts.push(attempt);
    }

    /// To note what subscribers get.
    pub(crate) fn delivery_recorder(&self) -> MutexGuard<'_, DeliveryRecorder> {
        self.delivery_recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that nothing can be expected of an instance, or of the balancer, from now on.
    pub fn down(&self, endpoint: Endpoint) {
        let from = self.now();
        self.history().outages.push(Outage { endpoint, from, until: None });
    }

    /// Notes that this is over.
    pub fn up(&self, endpoint: Endpoint) {
        let until = Some(self.now());
        let mut history = self.history();
        let outage =
            history.outages.iter_mut().rev().find(|it| it.endpoint == endpoint && it.until.is_none());
        outage.expect("it was down").until = until;
    }

    /// Notes that all is in its stride now.
    pub fn calm(&self) {
        let calm_from = self.now();
        self.history().calm_from = calm_from;
    }

    /// Notes that something is broken now.
    pub fn broken(&self) {
        let from = self.now();
        self.history().rounds.push(Round { from, back: None, over: None });
    }

    /// Notes that it works again.
    pub fn repaired(&self) {
        let back = Some(self.now());
        self.with_round(|round| round.back = back);
    }

    /// Notes that nobody waits any longer.
    pub fn over(&self) {
        let over = Some(self.now());
        self.with_round(|round| round.over = over);
    }

    /// Looks at what is known so far.
    pub fn look<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.history())
    }

    /// The same of what was published and delivered.
    pub(crate) fn look_at_events<T>(&self, look: impl FnOnce(&[Publication], &Deliveries) -> T) -> T {
        let delivery_recorder = self.delivery_recorder();
        look(&self.history().publications, delivery_recorder.deliveries())
    }

    /// Everything, with what the instances counted. Nobody may record a delivery after it.
    #[must_use]
    pub fn close(&self, instances: Vec<InstanceFigures>) -> History {
        let length = self.now();
        let deliveries = self.delivery_recorder().take();
        History { deliveries, instances, length, ..self.history().clone() }
    }

    fn with_round(&self, change: impl FnOnce(&mut Round)) {
        change(self.history().rounds.last_mut().expect("something is broken"));
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
