//! What the operation log says in the end, piece by piece.

use std::fmt;
use std::time::Duration;

use super::{Deliveries, InstanceFigures, Publication};
use crate::operator::Standing;

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

/// A time in which an instance, or the balancer, could not be expected to answer: it was killed,
/// hung or ending.
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
/// What is said of a stream that nginx asked to come back later, because no instance took it.
pub(crate) const COME_BACK: &str = "no instance takes streams";

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

/// A time in which the machine was busy with something else: what was slow then says nothing about
/// an instance.
#[derive(Debug, Clone, Copy)]
pub struct StarvedTime {
    /// From when.
    pub from: Moment,
    /// Until when.
    pub until: Moment,
}

/// All that is known at the end.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In the order of their answers.
    pub operations: Vec<Operation>,
    /// In their order.
    pub rounds: Vec<Round>,
    /// In their order.
    pub observations: Vec<Observation>,
    /// Times without a processor, of either instance, in the order of their ends.
    pub starvation: Vec<StarvedTime>,
    /// Of all subscribers, in their order.
    pub streams: Vec<StreamMoment>,
    /// In the order of their beginnings.
    pub outages: Vec<Outage>,
    /// By their numbers.
    pub publications: Vec<Publication>,
    /// What subscribers got.
    pub deliveries: Deliveries,
    /// What each instance counted itself, by its index.
    pub instances: Vec<InstanceFigures>,
    /// From when on all was in its stride, so that what was slow before says nothing.
    pub calm_from: Moment,
    /// How long it was written.
    pub length: Moment,
}
