//! Names as they stand in Redis; docs/redis.md lists them. One hash tag, so that a cluster keeps them together.

use crate::events::publication::KeyDigest;
use crate::redis::Namespace;

/// The names of a namespace.
pub(super) struct Keys {
    /// The log: a stream.
    pub(super) log: String,
    /// A hash: of which data the log is, and which life of it this is.
    pub(super) note: String,
    /// A stream that is never created: trimming it tests the right to trim.
    pub(super) no_stream: String,
    /// What the names of idempotency keys begin with.
    pub(super) published: String,
}

impl Keys {
    pub(super) fn new(namespace: &Namespace) -> Self {
        Self {
            log: namespace.together("events"),
            note: namespace.together("log"),
            no_stream: namespace.together("nothing"),
            published: namespace.together("published:"),
        }
    }

    /// Key of what was published under an idempotency key.
    pub(super) fn published_under(&self, key: KeyDigest) -> String {
        format!("{}{}", self.published, key.to_hex())
    }
}
