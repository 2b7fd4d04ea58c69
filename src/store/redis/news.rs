//! What one instance tells all others about revocations: a stream in Redis that every pulse reads on from where it
//! left off. Nobody is subscribed, so nobody misses anything while away.

use std::time::Duration;

use redis::streams::StreamRangeReply;
use redis::{Cmd, RedisError, RedisResult, Value, from_redis_value};
use tokio::time::Instant;

use super::keys;
use crate::ambient::UnixMillis;
use crate::token::TokenId;

/// Revocations read in one go.
const BATCH: usize = 1000;
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How far an instance has read.
#[derive(Default)]
pub(super) struct News {
    /// The id of the last entry read.
    last: Option<String>,
    last_heartbeat: Option<Instant>,
}

impl News {
    /// What to ask for to learn what is new.
    pub(super) fn question(&self) -> Cmd {
        let after = self.last.as_ref().map_or_else(|| "-".to_owned(), |last| format!("({last}"));
        let mut command = redis::cmd("XRANGE");
        command.arg(keys::REVOCATIONS).arg(after).arg("+").arg("COUNT").arg(BATCH);
        command
    }

    /// What is new was heard, up to the entry with this id.
    pub(super) fn went_on(&mut self, read_to: Option<String>) {
        if read_to.is_some() {
            self.last = read_to;
        }
    }

    /// Reads everything once more.
    pub(super) fn begin_anew(&mut self) {
        self.last = None;
    }

    /// Whether a heartbeat is due; then the next one is due a second later.
    pub(super) fn is_time_for_heartbeat(&mut self) -> bool {
        let now = Instant::now();
        let due = self.last_heartbeat.is_none_or(|last| now - last >= HEARTBEAT);
        if due {
            self.last_heartbeat = Some(now);
        }
        due
    }
}

/// What the answer held.
pub(super) struct Heard {
    /// Revoked tokens with the ends of their tombstones.
    pub(super) revocations: Vec<(TokenId, UnixMillis)>,
    /// The id of the last entry, if there was any.
    pub(super) read_to: Option<String>,
}

/// Reads the answer.
pub(super) fn read(answer: Value) -> RedisResult<Heard> {
    let mut reply: StreamRangeReply = from_redis_value(answer)?;
    let revocations = reply.ids.iter().filter_map(|entry| {
        let id = TokenId::parse(&entry.get::<String>("id")?).ok()?;
        Some((id, UnixMillis(entry.get("until")?)))
    });
    Ok(Heard { revocations: revocations.collect(), read_to: reply.ids.pop().map(|last| last.id) })
}

/// Announces a revocation, and drops announcements from before `oldest`.
pub(super) fn announcement(id: TokenId, until: UnixMillis, oldest: UnixMillis) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(keys::REVOCATIONS).arg("MINID").arg("~").arg(oldest.0).arg("*");
    command.arg("id").arg(id.to_string()).arg("until").arg(until.0);
    command
}

/// The time of day by the clock of Redis, in milliseconds; of a cluster, by that of one node.
pub(super) fn time(answer: Value) -> Result<u64, RedisError> {
    let (seconds, micros): (u64, u64) = from_redis_value(answer)?;
    Ok(seconds * 1000 + micros / 1000)
}
