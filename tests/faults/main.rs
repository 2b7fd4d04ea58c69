//! What the service promises about Redis, tried: two real instances under a steady load, real Redis
//! servers, and each fault again and again at random moments. No valid token is refused, no request
//! is lost, and all instances use Redis again afterwards. How long things take is noted and not
//! judged; `make drill` judges it. The load, the operation log and its checker are in `tests/rig`.
//! `ROUNDS` in the environment is the number of times that each fault is tried.

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
    Targets { times: Times::AreTold, ..Targets::of_rounds(rounds()) }
}
