//! Promises of the service about Redis, tried: two real instances under a steady load, real Redis
//! servers, and each fault repeatedly at random moments. No valid token is refused, no request is
//! lost, and all instances use Redis again afterwards. Durations are noted and not judged;
//! `make drill` judges them. The load, the history and its checker are in `tests/rig`. `ROUNDS` in
//! the environment is the number of rounds of each fault.

mod cluster;
mod instances;
mod network;
mod redis;
mod sentinel;

use vx11_rig::{Targets, Times};

/// Times each fault is tried, if nobody wants it otherwise.
const ROUNDS: u64 = 10;

fn rounds() -> u64 {
    std::env::var("ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("ROUNDS is a number"))
}

fn targets() -> Targets {
    Targets { times: Times::AreReported, ..Targets::of_rounds(rounds()) }
}
