//! Preflight: before Redis is used, every command that requests need is tried once. A missing
//! right, or a server that refuses some writes, keeps the breaker open instead of failing requests.

use redis::Cmd;

use super::keys::Keys;

/// Lifetime of the test key in seconds.
const KEPT: u64 = 10;

/// One command of each kind, on a key that `instance` alone uses.
pub(super) fn commands(keys: &Keys, instance: &str) -> [Cmd; 4] {
    let key = keys.preflight(instance);
    let mut record = redis::cmd("SETEX");
    record.arg(&key).arg(KEPT).arg(1);
    let mut extend = redis::cmd("EXPIRE");
    extend.arg(&key).arg(KEPT).arg("GT");
    let mut lookup = redis::cmd("MGET");
    lookup.arg(&key);
    // NOMKSTREAM: nothing is added, because the stream does not exist.
    let mut announce = redis::cmd("XADD");
    announce.arg(&keys.no_stream).arg("NOMKSTREAM").arg("*").arg("id").arg("");
    [record, extend, lookup, announce]
}
