//! Drills: a whole deployment, a [`FaultRun`] on it (a steady load while something is broken), a
//! [`HistoryRecorder`] of every operation, and a [`check`] for violations. The processes, and the
//! proxies between them, are those of the test kit (`vx11_kit`).
#![expect(
    clippy::missing_panics_doc,
    reason = "every function of a test's stand panics when it cannot do its work"
)]

mod chart;
mod checker;
mod cluster;
mod commands;
mod drills;
mod fault_run;
mod history;
mod load;
mod summary;

pub use checker::{Caps, Control, Resumption, Since, Targets, Times, Verdict, check};
pub use commands::{Command, results_page};
pub use drills::{DRILLS, Drill, Length, run as drill};
pub use fault_run::{FaultRun, Report};
pub use history::{
    Attempt, ClientStream, Command as SubjectCommand, CommandKind, DEFAULT, Delivered, Deliveries, Endpoint,
    History, HistoryRecorder, IN_ORDER, Kind, Listed, Listing, LoggedStream, Message, Moment, Observation,
    Operation, Outage, Outcome, Partition, Patterns, Publication, Round, StarvedTime, StreamEnd,
    StreamMoment, StreamTurn, Subject, TicketAttempt, TicketOutcome, TicketUse, Trespass, logged_streams,
    matches,
};
pub use load::{Grant, Measure, Member, TopicLoad, TopicSpace};
pub use summary::{ControlFigures, Summary};
