//! Commands about subjects, the streams that clients have open, and what instances say about them:
//! lists of streams, and lines of their logs.

use std::time::Duration;

use super::{Endpoint, Moment, Outcome};

/// A subject, by its number.
pub type Subject = usize;

/// Kind of a command about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// Refuse every token issued until now, and end the streams.
    Revoke,
    /// Refuse every token for this time, and end the streams.
    Block(Duration),
    /// End a block.
    Unblock,
    /// End the streams, by the subject.
    End,
    /// End the streams, by a topic that no other subject reads.
    EndTopic,
}

impl CommandKind {
    /// Reason for the end of a stream, in its last frame; `None`: it ends no streams.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Revoke => Some("revoked"),
            Self::Block(_) => Some("blocked"),
            Self::Unblock => None,
            Self::End | Self::EndTopic => Some("ended"),
        }
    }
}

/// A command about a subject.
#[derive(Debug, Clone)]
pub struct Command {
    /// The kind.
    pub kind: CommandKind,
    /// The subject.
    pub subject: Subject,
    /// Target of the request.
    pub endpoint: Endpoint,
    /// Time at which it was sent.
    pub sent: Moment,
    /// Time of the answer.
    pub answered: Moment,
    /// The outcome.
    pub outcome: Outcome,
}

/// A stream as its client knows it.
#[derive(Debug, Clone)]
pub struct ClientStream {
    /// Number of the token.
    pub token: u64,
    /// Target of the request.
    pub endpoint: Endpoint,
    /// Time of the request.
    pub sent: Moment,
    /// Time at which the answer began.
    pub opened: Moment,
    /// Its end; `None` while it is open.
    pub end: Option<StreamEnd>,
}

/// End of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Time at which the client knew, or at which it began to close the stream.
    pub at: Moment,
    /// Reason why the stream ended; `None`: the client closed it.
    pub reason: Option<String>,
}

/// A list of the open streams.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Target of the request.
    pub endpoint: Endpoint,
    /// Time of the request.
    pub sent: Moment,
    /// Time of the answer.
    pub answered: Moment,
    /// The streams.
    pub streams: Vec<Listed>,
    /// Indices of the instances that did not answer.
    pub missing: Vec<usize>,
    /// Whether there are more streams than the list has.
    pub more: bool,
}

/// A stream in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub stream_id: String,
    /// Number of its token; `None`: it is no token of the load.
    pub token: Option<u64>,
    /// Index of its instance.
    pub instance: usize,
}

/// A period in which some instances cannot use Redis.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Time from which they certainly cannot.
    pub from: Moment,
    /// Time until which they certainly cannot; `None` while it lasts.
    pub until: Option<Moment>,
    /// Indices of these instances. Each of them is alone, and the others have Redis.
    pub cut: Vec<usize>,
}

/// A stream in the log of its instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedStream {
    /// Index of the instance.
    pub instance: usize,
    /// Number of its token.
    pub token: u64,
    /// Time of the line that says it is open.
    pub opened: Moment,
    /// Time of the line that says it ended; `None`: there is none.
    pub ended: Option<Moment>,
    /// Reason in that line.
    pub reason: Option<String>,
}

/// An attempt of a client to open the stream of a ticket.
#[derive(Debug, Clone)]
pub struct TicketAttempt {
    /// Number of the token.
    pub ticket: u64,
    /// Number of the client among those of the ticket.
    pub client: u8,
    /// Time of the request.
    pub sent: Moment,
    /// Time of the answer, or at which none could come any more.
    pub answered: Moment,
    /// The outcome.
    pub outcome: TicketOutcome,
}

/// Outcome of an attempt to open the stream of a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketOutcome {
    /// A stream, which ended so.
    Opened(StreamEnd),
    /// A refusal.
    Refused,
    /// No answer, or one that asks to come back: why.
    Lost(String),
}

/// A request for which a ticket is used through `authorise`.
#[derive(Debug, Clone)]
pub struct TicketUse {
    /// Number of the token.
    pub ticket: u64,
    /// Number of the request among those of the ticket. A repetition has the same.
    pub request: u8,
    /// Target.
    pub endpoint: Endpoint,
    /// Time of the request.
    pub sent: Moment,
    /// Time of the answer.
    pub answered: Moment,
    /// The outcome.
    pub outcome: Outcome,
}
