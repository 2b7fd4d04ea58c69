//! The failover drills: a cluster under load, a fault, and a checker that reads the operation log.
//! Redis, instances and nginx are real processes; what is imitated says so where it is.
//!
//! Each drill is a row of [`DRILLS`] and a function of one round: break something, let it last,
//! repair it, wait until all is well. That the checker finds what it looks for is shown in
//! `tests/rig_selftest/violations.rs`.

mod abuse;
mod barred;
mod caps;
mod clock;
mod drilling;
mod faults;
mod grants;
mod instances;
mod limits;
mod listing;
mod network;
mod processors;
mod redis;
mod rotation;
mod sentinel;
mod streams;
mod subjects;
mod table;
mod tickets;
mod traffic;
mod when_lost;

use std::path::Path;
use std::time::Duration;

use crate::checker::Times;
use crate::fault_run::Report;
use drilling::Drilling;
use grants::Series;

pub use table::{DRILLS, Drill};

/// Of each cluster.
const INSTANCES: usize = 3;

/// Length and load of a drill.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Times the fault is tried.
    pub rounds: u64,
    /// Duration of a fault by default.
    pub fault: Duration,
    /// The life of a token, in seconds.
    pub life: u64,
    /// Over which an instance ends its streams, in seconds.
    pub drain: u64,
    /// Tokens issued a second.
    pub rate: u32,
    /// Streams that are kept open.
    pub subscribers: usize,
    /// Events published a second.
    pub events: u32,
    /// Ups and downs of a Redis that flaps.
    pub flaps: u64,
    /// Whether this is the full length: one round is too little to judge some things by.
    pub is_full: bool,
    /// Whether it counts how long things take.
    pub times: Times,
}

impl Length {
    /// Full length, as published in the results.
    #[must_use]
    pub fn full() -> Self {
        let fault = Duration::from_secs(15);
        Self {
            rounds: 5,
            fault,
            life: 60,
            drain: 10,
            rate: 200,
            subscribers: 2000,
            events: 50,
            flaps: 15,
            is_full: true,
            times: Times::Count,
        }
    }

    /// Short enough for `make verify`, which also runs on machines that are busy with something
    /// else.
    #[must_use]
    pub fn brief() -> Self {
        let fault = Duration::from_secs(3);
        Self {
            rounds: 1,
            fault,
            life: 10,
            drain: 2,
            rate: 100,
            subscribers: 60,
            events: 50,
            flaps: 15,
            is_full: false,
            times: Times::AreReported,
        }
    }

    /// A part of the duration of a fault.
    fn part(&self, part: f64) -> Duration {
        self.fault.mul_f64(part)
    }
}

/// Runs one drill with instances of this binary; says which round begins.
pub async fn run(drill: &Drill, length: Length, binary: &Path, mut begins: impl FnMut(u64)) -> Report {
    let length = drill.length(length);
    let mut drilling = Drilling::begin(drill, length, binary).await;
    for number in 0..length.rounds {
        begins(number + 1);
        let number = usize::try_from(number).unwrap_or(0);
        match Series::of(drill.number) {
            Some(series) => series.round(&mut drilling, number).await,
            None => round(&mut drilling, drill.number, number).await,
        }
    }
    drilling.end().await
}

/// One round of a drill.
async fn round(drilling: &mut Drilling, drill: u8, round: usize) {
    match drill {
        1 => redis::killed(drilling).await,
        2 => redis::stopped(drilling).await,
        3 => network::all_cut_off(drilling).await,
        4 => network::one_cut_off(drilling, round).await,
        5 => network::slow(drilling).await,
        6 => redis::flapping(drilling).await,
        7 => redis::emptied(drilling, round).await,
        8 => redis::refusing(drilling, round).await,
        9 => sentinel::master_killed(drilling).await,
        10 => sentinel::master_demoted(drilling).await,
        11 => instances::killed(drilling, round).await,
        12 => instances::restarted_one_by_one(drilling).await,
        13 => instances::stopped(drilling, round).await,
        14 => instances::killed_while_redis_is_down(drilling, round).await,
        15 => instances::booted_while_redis_is_down(drilling, round).await,
        16 => traffic::poisoned(drilling).await,
        17 => traffic::forged(drilling).await,
        18 => streams::some_stop_reading(drilling).await,
        19 => traffic::all_streams_cut(drilling).await,
        20 => rotation::one_instance_late(drilling, round).await,
        21 => clock::ahead(drilling).await,
        22 => streams::spread_by_age(drilling).await,
        23 => streams::all_replaced_while_some_are_away(drilling, round).await,
        24 => limits::log_reader_hangs(drilling, round).await,
        25 => limits::filled_by_events(drilling, round).await,
        26 => limits::narrow_link(drilling, round).await,
        27 => limits::resume_flood(drilling, round).await,
        28 => limits::one_token_for_all_places(drilling, round).await,
        29 => abuse::hang_up(drilling, round).await,
        30 => abuse::half_heads(drilling, round).await,
        31 => abuse::other_deployment(drilling).await,
        32 => abuse::poisoned_revocation(drilling, round).await,
        33 => abuse::two_ring_sizes(drilling, round).await,
        36 => subjects::ended_again_and_again(drilling, round).await,
        37 => barred::during_faults(drilling, round).await,
        38 => listing::during_faults(drilling, round).await,
        39 | 43 => caps::raced_for(drilling, round).await,
        40 => tickets::opened_by_three(drilling, round).await,
        41 => when_lost::refused(drilling, round).await,
        42 => barred::during_failovers(drilling, round).await,
        number => panic!("there is no drill {number}"),
    }
}
