//! Names of the keys in Redis, listed in docs/redis.md. They share a hash tag, so that Redis
//! Cluster keeps them in one slot.
//!
//! Fields of the log's state, whose names are older than the glossary:
//!
//! - `data`: data id when the last recovery started
//! - `founding`: log generation
//! - `founded`: start of the last recovery, in Unix milliseconds
//! - `opens`: end of the recovery window, in Unix milliseconds
//! - `awaited`: largest horizon of an instance whose events could not be taken yet
//! - `epoch`: log epoch
//! - `reach`, `marked`, `marks`: size of the log and its checkpoints (`size.lua`)

use crate::events::publication::KeyDigest;
use crate::redis::Namespace;

/// Names of the event log's keys in a namespace.
pub(super) struct Keys {
    /// The log, a stream.
    pub(super) log: String,
    /// State of the log, a hash with the fields above.
    pub(super) state: String,
    /// A stream that is never created: XTRIM on it tests the right to trim.
    pub(super) no_stream: String,
    /// Prefix of the names of idempotency keys.
    pub(super) published: String,
}

impl Keys {
    pub(super) fn new(namespace: &Namespace) -> Self {
        Self {
            log: namespace.together("events"),
            state: namespace.together("log"),
            no_stream: namespace.together("nothing"),
            published: namespace.together("published:"),
        }
    }

    /// Name under which the id of an event with this idempotency key is kept.
    pub(super) fn published_under(&self, key: KeyDigest) -> String {
        format!("{}{}", self.published, key.to_hex())
    }
}
