//! What one instance tells all others about revocations: a stream in Redis that every instance reads on from where it left
//! off. Nobody is subscribed, so nobody misses anything while away.

use redis::Cmd;
use redis::streams::StreamId;

use crate::ambient::UnixMillis;
use crate::token::TokenId;

/// A stream: every revocation of the last quarter of an hour.
pub(crate) const STREAM: &str = "{vx11}:revocations";

/// Announces a revocation, and drops announcements from before `oldest`.
pub(crate) fn announcement(id: TokenId, until: UnixMillis, oldest: UnixMillis) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(STREAM).arg("MINID").arg("~").arg(oldest.0).arg("*");
    command.arg("id").arg(id.to_string()).arg("until").arg(until.0);
    command
}

/// Revoked tokens with the ends of their tombstones.
pub(crate) fn read(entries: &[StreamId]) -> impl Iterator<Item = (TokenId, UnixMillis)> {
    entries.iter().filter_map(|entry| {
        let id = TokenId::parse(&entry.get::<String>("id")?).ok()?;
        Some((id, UnixMillis(entry.get("until")?)))
    })
}
