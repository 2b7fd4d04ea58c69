//! Test kit: real processes of Redis, alone ([`RedisServer`]), under Sentinel ([`SentinelSet`]) and
//! as a cluster ([`RedisCluster`]), and a network to them that tests can break ([`FaultProxy`]);
//! instances of the service ([`Operator`]), nginx in front of them ([`Nginx`]), a [`Prometheus`],
//! and clients of streams ([`EventStream`]).
//!
//! All processes listen on loopback, on free ports, and end when their value is dropped. Their logs
//! are kept with the artefacts of the test run. A failure of the kit ends the test.
#![expect(
    clippy::missing_panics_doc,
    reason = "every function of a test kit panics when it cannot do its work"
)]

mod artefacts;
mod endpoint;
mod event_id;
mod leaks;
mod nginx;
mod operator;
mod patience;
mod port;
mod previous;
mod process;
mod prometheus;
mod proxy;
mod redis_cluster;
mod reset;
mod sentinel;
mod server;
mod sse;

pub use artefacts::{
    Traces, artefacts, keep_logs_in, keep_secrets_to_ourselves, new_log, remember_secret, report,
};
pub use event_id::{EventId, NotAnEventId};
pub use leaks::Secrets;
pub use nginx::{ClientLimits, Nginx, Site, StockNginx, shipped as shipped_nginx, test_configuration};
pub use operator::{
    Answer, Api, COME_BACK, InstanceFigures, InstanceProcess, Issued, Launch, ListedStream, Operator,
    Standing, StreamList, new_principal,
};
pub use patience::{PATIENCE, eventually, until};
pub use port::Port;
pub use previous::previous_release;
pub use process::{LogReader, Surroundings, processor_time, starved};
pub use prometheus::{Prometheus, Rule, Sample, hurried};
pub use proxy::FaultProxy;
pub use redis_cluster::RedisCluster;
pub use reset::{RESET, ResetProxy};
pub use sentinel::SentinelSet;
pub use server::{Monitor, RedisServer, write_for_us_alone};
pub use sse::{Block, Chunks, Event, EventStream, Frame, Frames, Head, Malformed, StreamReader};
