//! Trying out, before Redis is used again, every command that requests will need: a right that is
//! missing, or a server that takes some writes and not others, shows here and not in somebody's
//! request.

use redis::Cmd;

use super::keys::Keys;

/// Seconds after which nothing is left of a trial.
const KEPT: u64 = 10;

/// One of each, on a key that belongs to `instance` alone.
pub(super) fn commands(keys: &Keys, instance: &str) -> [Cmd; 4] {
    let key = keys.trial(instance);
    let mut record = redis::cmd("SETEX");
    record.arg(&key).arg(KEPT).arg(1);
    let mut extend = redis::cmd("EXPIRE");
    extend.arg(&key).arg(KEPT).arg("GT");
    let mut lookup = redis::cmd("MGET");
    lookup.arg(&key);
    // Adds nothing to a stream that is not there.
    let mut announce = redis::cmd("XADD");
    announce.arg(&keys.no_stream).arg("NOMKSTREAM").arg("*").arg("id").arg("");
    [record, extend, lookup, announce]
}
