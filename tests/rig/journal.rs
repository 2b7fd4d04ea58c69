//! The operation log: everything the load asked for and was answered, what was broken when, and how the instances stood
//! meanwhile. It knows no secret: tokens have numbers here.

mod figures;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use figures::InstanceFigures;

use crate::operator::Standing;

/// Between two looks at what is not answered yet.
const POLL: Duration = Duration::from_millis(10);

/// Time since the journal was begun.
pub type Moment = Duration;

/// Who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// An instance itself, by its index.
    Instance(usize),
    /// Whichever instance the balancer chose.
    Balancer,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(index) => write!(f, "instance {index}"),
            Self::Balancer => f.write_str("the balancer"),
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A token that lives so long.
    Issue {
        /// Its life.
        life: Duration,
    },
    /// Whether a token is active.
    Introspect,
    /// A stream.
    OpenStream,
    /// That a token be taken back.
    Revoke,
    /// How the instance stands.
    Look,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or accepted.
    Yes,
    /// Refused.
    No,
    /// Neither: a status of 5xx, a broken connection, no answer in time.
    Unanswered(String),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Operation {
    /// What was asked for.
    pub kind: Kind,
    /// The number of the token it is about.
    pub token: u64,
    /// Who was asked.
    pub place: Place,
    /// When it was to be sent.
    pub due: Moment,
    /// When it was.
    pub sent: Moment,
    /// When the answer was there.
    pub answered: Moment,
    /// What the answer was.
    pub outcome: Outcome,
}

impl Operation {
    /// From when it was sent until the answer was there.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.answered.saturating_sub(self.sent)
    }
}

impl Operation {
    /// From when it was to be sent until the answer was there.
    #[must_use]
    pub fn from_due(&self) -> Duration {
        self.answered.saturating_sub(self.due)
    }
}

/// One time that something was broken.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// When it broke.
    pub from: Moment,
    /// When it worked again; unknown while it does not.
    pub back: Option<Moment>,
    /// When nobody waited any longer for the instances to be well again.
    pub over: Option<Moment>,
}

/// How an instance stood; noted when that changes.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// When.
    pub at: Moment,
    /// Its index.
    pub instance: usize,
    /// How it stood from then on.
    pub standing: Standing,
}

/// A time in which an instance, or the balancer, could not be expected to answer: it was killed, hung or ending.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Whose.
    pub place: Place,
    /// From when.
    pub from: Moment,
    /// Until when; unknown while it lasts.
    pub until: Option<Moment>,
}

/// How the words begin of a stream that its instance ended in order.
pub const IN_ORDER: &str = "the instance asked for it";

/// What became of a subscriber's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamTurn {
    /// It was opened, for the first time or again.
    Opened,
    /// It ended, in these words. The subscriber opens it again.
    Lost(String),
}

/// A moment in the life of a subscriber.
#[derive(Debug, Clone)]
pub struct StreamMoment {
    /// When.
    pub at: Moment,
    /// Its number.
    pub subscriber: usize,
    /// Where it opens its stream.
    pub place: Place,
    /// What happened.
    pub turn: StreamTurn,
}

/// A time in which the machine was busy with something else: what was slow then says nothing about an instance.
#[derive(Debug, Clone, Copy)]
pub struct Famine {
    /// From when.
    pub from: Moment,
    /// Until when.
    pub until: Moment,
}

/// All that is known at the end.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// In the order of their answers.
    pub operations: Vec<Operation>,
    /// In their order.
    pub rounds: Vec<Round>,
    /// In their order.
    pub observations: Vec<Observation>,
    /// Times without a processor, of either instance, in the order of their ends.
    pub famines: Vec<Famine>,
    /// Of all subscribers, in their order.
    pub streams: Vec<StreamMoment>,
    /// In the order of their beginnings.
    pub outages: Vec<Outage>,
    /// What each instance counted itself, by its index.
    pub instances: Vec<InstanceFigures>,
    /// From when on all was in its stride, so that what was slow before says nothing.
    pub calm_from: Moment,
    /// How long it was written.
    pub length: Moment,
}

/// Written by all parts of a load at once.
pub struct Journal {
    begun: Instant,
    account: Mutex<Account>,
    /// What is not answered yet.
    pending: Mutex<HashMap<u64, Pending>>,
    asked: AtomicU64,
}

/// A request that is not answered yet.
#[derive(Clone, Copy)]
struct Pending {
    kind: Kind,
    token: u64,
    place: Place,
    due: Moment,
    sent: Moment,
}

/// Keeps a request among those that are not answered yet, until it is dropped.
struct Open<'a> {
    journal: &'a Journal,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.journal.pending().remove(&self.number);
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            account: Mutex::default(),
            pending: Mutex::default(),
            asked: AtomicU64::new(0),
        }
    }
}

impl Journal {
    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    /// The same of another clock's reading.
    #[must_use]
    pub fn moment(&self, instant: Instant) -> Moment {
        instant.saturating_duration_since(self.begun)
    }

    /// Notes a request that was due at `due`, is sent now and ends with `request`. A refusal is the answer `false`.
    pub async fn note(
        &self,
        (kind, token, place): (Kind, u64, Place),
        due: Moment,
        request: impl Future<Output = Result<bool, String>>,
    ) -> Outcome {
        let sent = self.now();
        let _open = self.open(Pending { kind, token, place, due, sent });
        let outcome = match request.await {
            Ok(true) => Outcome::Yes,
            Ok(false) => Outcome::No,
            Err(words) => Outcome::Unanswered(words),
        };
        let answered = self.now();
        let operation = Operation { kind, token, place, due, sent, answered, outcome: outcome.clone() };
        self.account().operations.push(operation);
        outcome
    }

    /// Waits until whatever was asked before this moment is answered, but no longer than that; what is not answered by then
    /// is noted as such.
    pub async fn await_answers(&self, at_most: Duration) {
        let until = self.now();
        let is_waiting = |journal: &Self| journal.pending().values().any(|pending| pending.sent < until);
        while is_waiting(self) && self.now() < until + at_most {
            tokio::time::sleep(POLL).await;
        }
        let answered = self.now();
        let left: Vec<_> = self.pending().values().filter(|pending| pending.sent < until).copied().collect();
        for Pending { kind, token, place, due, sent } in left {
            let outcome = Outcome::Unanswered("no answer until the end".to_owned());
            self.account().operations.push(Operation { kind, token, place, due, sent, answered, outcome });
        }
    }

    fn open(&self, pending: Pending) -> Open<'_> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        self.pending().insert(number, pending);
        Open { journal: self, number }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a look at how someone stands, if it fails: those that succeed are many.
    pub async fn look_at(&self, place: Place, look: impl Future<Output = Result<bool, String>>) {
        let sent = self.now();
        if let Err(words) = look.await {
            let (answered, outcome) = (self.now(), Outcome::Unanswered(words));
            let operation =
                Operation { kind: Kind::Look, token: 0, place, due: sent, sent, answered, outcome };
            self.account().operations.push(operation);
        }
    }

    /// Notes how an instance stands.
    pub fn observe(&self, instance: usize, standing: Standing) {
        let at = self.now();
        self.account().observations.push(Observation { at, instance, standing });
    }

    /// Notes that the machine has been busy with something else since `from`.
    pub fn starved(&self, from: Moment) {
        let until = self.now();
        self.account().famines.push(Famine { from, until });
    }

    /// Notes what became of a subscriber's stream.
    pub fn stream(&self, subscriber: usize, place: Place, turn: StreamTurn) {
        let at = self.now();
        self.account().streams.push(StreamMoment { at, subscriber, place, turn });
    }

    /// Notes that nothing can be expected of an instance, or of the balancer, from now on.
    pub fn down(&self, place: Place) {
        let from = self.now();
        self.account().outages.push(Outage { place, from, until: None });
    }

    /// Notes that this is over.
    pub fn up(&self, place: Place) {
        let until = Some(self.now());
        let mut account = self.account();
        let outage = account.outages.iter_mut().rev().find(|it| it.place == place && it.until.is_none());
        outage.expect("it was down").until = until;
    }

    /// Notes that all is in its stride now.
    pub fn calm(&self) {
        let calm_from = self.now();
        self.account().calm_from = calm_from;
    }

    /// Notes that something is broken now.
    pub fn broken(&self) {
        let from = self.now();
        self.account().rounds.push(Round { from, back: None, over: None });
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
    pub fn look<T>(&self, look: impl FnOnce(&Account) -> T) -> T {
        look(&self.account())
    }

    /// Everything, with what the instances counted.
    #[must_use]
    pub fn close(&self, instances: Vec<InstanceFigures>) -> Account {
        let length = self.now();
        Account { instances, length, ..self.account().clone() }
    }

    fn with_round(&self, change: impl FnOnce(&mut Round)) {
        change(self.account().rounds.last_mut().expect("something is broken"));
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
