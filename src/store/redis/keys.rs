//! Names and values of the store in Redis, listed in docs/redis.md. None of them opens a stream.

use crate::clock::UnixMillis;
use crate::redis::{Namespace, revocations};
use crate::store::SubjectKey;
use crate::token::{Record, TokenDigest, TokenId};

/// Names of the store's keys in a namespace.
pub(super) struct Keys {
    /// Member records, a hash.
    pub(super) instances: String,
    /// Announced revocations, a stream.
    pub(super) revocations: String,
    /// Alive entries, a hash.
    pub(super) alive: String,
    /// A stream that is never created: the preflight sends `XADD … NOMKSTREAM` to it.
    pub(super) no_stream: String,
    /// Prefixes of names.
    leases: String,
    records: String,
    tombstones: String,
    completeness: String,
    preflights: String,
}

impl Keys {
    pub(super) fn new(namespace: &Namespace) -> Self {
        Self {
            instances: namespace.together("instances"),
            revocations: revocations::stream(namespace),
            alive: namespace.together("alive"),
            no_stream: namespace.together("nothing"),
            leases: namespace.together("subject:"),
            records: namespace.apart("token:"),
            tombstones: namespace.apart("revoked:"),
            completeness: namespace.apart("epoch:"),
            preflights: namespace.together("trial "),
        }
    }

    /// Key that an instance writes in the preflight.
    pub(super) fn preflight(&self, instance: &str) -> String {
        format!("{}{instance}", self.preflights)
    }

    /// Key of a token's record.
    pub(super) fn record(&self, digest: TokenDigest) -> String {
        format!("{}{digest}", self.records)
    }

    /// Key of a single-use token's ticket.
    pub(super) fn ticket(&self, digest: TokenDigest) -> String {
        format!("{}{digest}:ticket", self.records)
    }

    /// Key of the leases of a subject.
    pub(super) fn leases(&self, subject: SubjectKey) -> String {
        format!("{}{subject}", self.leases)
    }

    /// Keys of leases, of tickets and of alive entries: each pattern, with a key of it that
    /// `instance` writes in the preflight. All instances share the alive entries.
    pub(super) fn of_admission(&self, instance: &str) -> [(String, String); 3] {
        let (leases, records) = (&self.leases, &self.records);
        [
            (self.alive.clone(), self.alive.clone()),
            (format!("{leases}*"), format!("{leases}trial {instance}")),
            (format!("{records}*:ticket"), format!("{records}trial {instance}:ticket")),
        ]
    }

    /// Key of a token's tombstone.
    pub(super) fn tombstone(&self, id: TokenId) -> String {
        format!("{}{id}", self.tombstones)
    }

    /// Key of the completeness marker for a data id.
    pub(super) fn completeness(&self, data_id: &str) -> String {
        format!("{}{data_id}", self.completeness)
    }
}

/// Bits for the lifetime of a token in ms: 17 minutes.
const LIFE_BITS: u32 = 20;

/// Encodes a record as a number, which Redis keeps in 16 bytes instead of 64 for a text: time of
/// issue in ms, and the lifetime in the low bits (docs/adr/0008).
pub(super) fn encode(record: Record) -> i64 {
    let life = record.expires_at.0.saturating_sub(record.issued_at.0).min((1 << LIFE_BITS) - 1);
    i64::try_from(record.issued_at.0 << LIFE_BITS | life).unwrap_or(i64::MAX)
}

pub(super) fn decode(value: i64) -> Record {
    let value = value.unsigned_abs();
    let issued_at = value >> LIFE_BITS;
    let life = value & ((1 << LIFE_BITS) - 1);
    Record { issued_at: UnixMillis(issued_at), expires_at: UnixMillis(issued_at + life) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::LONGEST_LIFE_SECONDS;

    proptest! {
        #[test]
        fn a_record_reads_back_as_itself(issued_at in 0_u64..8_000_000_000_000, life in 0..=u64::from(LONGEST_LIFE_SECONDS) * 1000) {
            let record = Record { issued_at: UnixMillis(issued_at), expires_at: UnixMillis(issued_at + life) };
            prop_assert_eq!(decode(encode(record)), record);
        }

        #[test]
        fn no_number_makes_reading_panic(value in any::<i64>()) {
            let _ = decode(value);
        }
    }
}
