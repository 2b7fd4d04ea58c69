//! Types of the operation log.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use vx11_kit::{InstanceFigures, Standing};

use super::control::{
    ClientStream, Command, Listing, LoggedStream, Partition, Subject, TicketAttempt, TicketUse,
};
use super::{Deliveries, Publication};

/// Time since the start of the history.
pub type Moment = Duration;

/// Target of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An instance, by index.
    Instance(usize),
    /// The instance that the load balancer chose.
    Balancer,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(index) => write!(f, "instance {index}"),
            Self::Balancer => f.write_str("the balancer"),
        }
    }
}

/// Kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Issue a token with this lifetime.
    Issue {
        /// Lifetime of the token.
        life: Duration,
    },
    /// Introspect a token.
    Introspect,
    /// Open a stream.
    OpenStream,
    /// Revoke a token.
    Revoke,
    /// Query the state of an instance.
    Look,
    /// Give a command about a subject.
    Command,
    /// List the open streams.
    List,
}

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or accepted.
    Yes,
    /// Refused.
    No,
    /// Neither: a status 5xx, a broken connection, no answer in time.
    Unanswered(String),
}

/// A request.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Kind of the request.
    pub kind: Kind,
    /// Number of the token.
    pub token: u64,
    /// Target.
    pub endpoint: Endpoint,
    /// Time at which it was due.
    pub due: Moment,
    /// Time at which it was sent.
    pub sent: Moment,
    /// Time of the answer.
    pub answered: Moment,
    /// The outcome.
    pub outcome: Outcome,
}

impl Operation {
    /// Time from sending to the answer.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.answered.saturating_sub(self.sent)
    }
}

impl Operation {
    /// Whether it asks for a decision about a token.
    #[must_use]
    pub fn is_validation(&self) -> bool {
        matches!(self.kind, Kind::Introspect | Kind::OpenStream)
    }

    /// Time from due to the answer.
    #[must_use]
    pub fn from_due(&self) -> Duration {
        self.answered.saturating_sub(self.due)
    }
}

/// A round: one fault.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Start of the fault.
    pub from: Moment,
    /// Time of the repair; `None` before it.
    pub back: Option<Moment>,
    /// End of the wait for recovery.
    pub over: Option<Moment>,
}

/// State of an instance, recorded at changes.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// Time.
    pub at: Moment,
    /// Index of the instance.
    pub instance: usize,
    /// State from then on.
    pub standing: Standing,
}

/// A period in which a target cannot be expected to answer: it was killed, hung or ending.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// The target.
    pub endpoint: Endpoint,
    /// Start.
    pub from: Moment,
    /// End; `None` while it lasts.
    pub until: Option<Moment>,
}

/// Beginning of the reason for a stream that its instance ended in order.
pub const IN_ORDER: &str = "the instance asked for it";

/// Change of a subscriber's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamTurn {
    /// The stream was opened, for the first time or again.
    Opened,
    /// The stream ended, with this reason. The subscriber opens it again.
    Lost(String),
    /// The subscriber closed the stream, and opens another one.
    Left,
}

/// A change of a subscriber's stream with its time.
#[derive(Debug, Clone)]
pub struct StreamMoment {
    /// Time.
    pub at: Moment,
    /// Number of the subscriber.
    pub subscriber: usize,
    /// Target of its stream.
    pub endpoint: Endpoint,
    /// The change.
    pub turn: StreamTurn,
}

/// An attempt of a subscriber to reach beyond its grant.
#[derive(Debug, Clone)]
pub struct Trespass {
    /// Time.
    pub at: Moment,
    /// Number of the subscriber.
    pub subscriber: usize,
    /// Way in which it was tried.
    pub way: &'static str,
    /// Whether a stream was opened.
    pub outcome: Outcome,
}

/// A period in which the machine gave no processor to a process: slowness then says nothing about
/// an instance.
#[derive(Debug, Clone, Copy)]
pub struct StarvedTime {
    /// From when.
    pub from: Moment,
    /// End.
    pub until: Moment,
}

/// The history of a fault run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Requests, in order of their answers.
    pub operations: Vec<Operation>,
    /// In their order.
    pub rounds: Vec<Round>,
    /// In their order.
    pub observations: Vec<Observation>,
    /// Periods without a processor, of all instances, in order of their ends.
    pub starvation: Vec<StarvedTime>,
    /// Changes of streams of all subscribers, in order.
    pub streams: Vec<StreamMoment>,
    /// Attempts to reach beyond a grant, in order.
    pub trespasses: Vec<Trespass>,
    /// In order of their start.
    pub outages: Vec<Outage>,
    /// Publications by number.
    pub publications: Vec<Publication>,
    /// Deliveries to subscribers.
    pub deliveries: Deliveries,
    /// Subjects of tokens that have one, by the number of the token.
    pub subjects: HashMap<u64, Subject>,
    /// Commands about subjects, in order of their answers.
    pub commands: Vec<Command>,
    /// Streams of clients, in order of their answers.
    pub client_streams: Vec<ClientStream>,
    /// Lists of streams, in order of their answers.
    pub listings: Vec<Listing>,
    /// Periods in which instances cannot use Redis, in order of their start.
    pub partitions: Vec<Partition>,
    /// Streams in the logs of the instances.
    pub logged_streams: Vec<LoggedStream>,
    /// Attempts to open streams of tickets, in order of their ends.
    pub tickets: Vec<TicketAttempt>,
    /// Requests for which tickets are used, in order of their ends.
    pub ticket_uses: Vec<TicketUse>,
    /// Figures of each instance, by index.
    pub instances: Vec<InstanceFigures>,
    /// End of the warm-up; slowness before it is not judged.
    pub calm_from: Moment,
    /// Duration of the recording.
    pub length: Moment,
}
