//! Commands for leases and alive entries, and their answers.

use std::time::Duration;

use redis::{Cmd, Value, from_redis_value};
use serde::Serialize;

use super::keys::Keys;
use crate::redis::Script;
use crate::store::{ALIVE, LeaseAnswer, Renewal, Renewed, StoreError, SubjectKey, WantedLeases};

static RENEW: Script = Script::new(&[include_str!("alive.lua")]);
static TAKE: Script = Script::new(&[include_str!("leases.lua")]);

/// Time without renewal after which an alive entry is removed. Longer than an instance may hang: it
/// then learns from its own entry that its leases are void.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// Lifetime of all alive entries after the last renewal.
pub(super) const ALIVE_KEPT: Duration = Duration::from_hours(1);
/// Lifetime of leases beyond that of their streams.
const LEASE_MARGIN: Duration = Duration::from_mins(1);

/// Milliseconds, for scripts.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct RenewArguments<'a> {
    field: &'a str,
    fresh: u64,
    gives_up: bool,
    settled: u64,
    ended: &'a [String],
    forgotten: u64,
    seconds: u64,
}

/// Command that renews the alive entry `field`.
pub(super) fn alive_command(keys: &Keys, field: &str, renewal: &Renewal) -> Cmd {
    let arguments = RenewArguments {
        field,
        fresh: millis(ALIVE),
        gives_up: renewal.gives_up,
        settled: renewal.settled,
        ended: &renewal.ended,
        forgotten: millis(FORGOTTEN),
        seconds: ALIVE_KEPT.as_secs(),
    };
    RENEW.call(&[&keys.alive], &arguments)
}

/// Answer to [`alive_command`].
pub(super) fn renewed(answer: Value) -> Result<Renewed, StoreError> {
    let (at, session, replaced): (u64, u64, Vec<String>) =
        from_redis_value(answer).map_err(|_| StoreError::Unavailable)?;
    Ok(Renewed { at, session, replaced })
}

#[derive(Serialize)]
struct TakeArguments<'a> {
    field: &'a str,
    fresh: u64,
    renewed: u64,
    limit: usize,
    replaces: bool,
    seconds: u64,
    streams: Vec<(&'a str, u64)>,
}

/// Command that takes leases for the instance `field`.
pub(super) fn leases_command(keys: &Keys, field: &str, wanted: &WantedLeases) -> Cmd {
    let streams = wanted.streams.iter().map(|(id, age)| (id.as_str(), millis(*age)));
    let arguments = TakeArguments {
        field,
        fresh: millis(ALIVE),
        renewed: wanted.renewed,
        limit: wanted.limit,
        replaces: wanted.replaces,
        seconds: (wanted.kept + LEASE_MARGIN).as_secs(),
        streams: streams.collect(),
    };
    TAKE.call(&[&keys.leases(wanted.subject), &keys.alive], &arguments)
}

/// Answer to [`leases_command`].
pub(super) fn lease_answer(answer: Value) -> Result<LeaseAnswer, StoreError> {
    let lists: Option<(Vec<String>, Vec<String>)> =
        from_redis_value(answer).map_err(|_| StoreError::Unavailable)?;
    Ok(lists.map_or(LeaseAnswer::RenewFirst, |(refused, replaced)| LeaseAnswer::Taken { refused, replaced }))
}

/// Command that releases a lease.
pub(super) fn release_command(keys: &Keys, subject: SubjectKey, id: &str) -> Cmd {
    let mut command = redis::cmd("HDEL");
    command.arg(keys.leases(subject)).arg(id);
    command
}
