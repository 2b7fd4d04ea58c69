//! What the service promises about Redis, tried: two real instances under a steady load, real Redis servers, and each
//! fault again and again at random moments. No valid token is refused, no request takes longer than 250 ms, and within
//! 3 s of Redis being back all instances use it again. Each fault prints a line; the load, the operation log and its
//! checker are in `tests/rig`. `ROUNDS` in the environment says how often each is tried.

mod cluster;
mod instances;
mod network;
mod redis;
mod sentinel;
mod violations;

use vx11_rig::Targets;

/// Times each fault is tried, if nobody wants it otherwise.
const ROUNDS: u64 = 10;

fn rounds() -> u64 {
    std::env::var("ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("ROUNDS is a number"))
}

fn targets() -> Targets {
    Targets::of_rounds(rounds())
}
