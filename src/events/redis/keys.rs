//! Names as they stand in Redis; docs/redis.md lists them. One hash tag, so that a cluster keeps them together.

use crate::events::publication::KeyDigest;

/// The log: a stream.
pub(super) const LOG: &str = "{vx11}:events";
/// A hash: of which data the log is, and which life of it this is.
pub(super) const NOTE: &str = "{vx11}:log";
/// Begins the names of idempotency keys.
pub(super) const PUBLISHED: &str = "{vx11}:published:";

/// Where it stands what was published under a key.
pub(super) fn published(key: KeyDigest) -> String {
    format!("{PUBLISHED}{}", key.to_hex())
}
