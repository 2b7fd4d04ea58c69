//! Test kit: real processes of Redis, alone ([`RedisServer`]), under Sentinel ([`SentinelSet`]) and
//! as a cluster ([`RedisCluster`]), and a network to them that tests can break ([`FaultProxy`]).
//!
//! On top of it: instances of the service ([`Operator`]), nginx in front of them ([`Nginx`]), a
//! [`Prometheus`], and a [`FaultRun`]: a steady load while a test breaks something, a
//! [`HistoryRecorder`] of every operation, and a [`check`] for violations.
//!
//! All processes listen on loopback, on free ports, and end when their value is dropped. Their logs
//! are kept with the artefacts of the test run. A failure of the kit ends the test.
#![expect(
    clippy::missing_panics_doc,
    reason = "every function of a test's stand panics when it cannot do its work"
)]

mod artefacts;
mod chart;
mod checker;
mod cluster;
mod commands;
mod drills;
mod endpoint;
mod fault_run;
mod history;
mod leaks;
mod load;
mod nginx;
mod operator;
mod patience;
mod port;
mod process;
mod prometheus;
mod proxy;
mod redis_cluster;
mod reset;
mod sentinel;
mod server;
mod summary;

pub use artefacts::remember_secret;
pub use checker::{Resumption, Since, Targets, Times, Verdict, check};
pub use commands::Command;
pub use drills::{DRILLS, Drill, Length, run as drill};
pub use fault_run::{FaultRun, Report};
pub use history::{
    Answer, Attempt, Delivered, Deliveries, EventId, Heard, History, HistoryRecorder, IN_ORDER,
    InstanceFigures, Kind, Moment, Observation, Operation, Outage, Outcome, Place, Publication, Round,
    StarvedTime, StreamMoment, StreamTurn,
};
pub use leaks::Secrets;
pub use load::{Chunks, Frame, Frames, Malformed, Measure, Member};
pub use nginx::{ClientLimits, Nginx, Site, StockNginx, shipped as shipped_nginx, test_configuration};
pub use operator::{Api, Issued, Operator, Standing, new_principal};
pub use patience::{PATIENCE, eventually, until};
pub use port::Port;
pub use prometheus::{Prometheus, Rule, Sample, hurried};
pub use proxy::FaultProxy;
pub use redis_cluster::RedisCluster;
pub use sentinel::SentinelSet;
pub use server::{Monitor, RedisServer};
pub use summary::Summary;
