//! Names and values as they stand in Redis; docs/redis.md lists them. Nothing here opens a stream.

use crate::ambient::UnixMillis;
use crate::token::{Record, TokenDigest, TokenId};

/// A hash: one heartbeat for each instance.
pub(super) const INSTANCES: &str = "{vx11}:instances";

/// A stream that is never there.
pub(super) const NO_STREAM: &str = "{vx11}:nothing";

/// Where an instance tries whether it can write.
pub(super) fn trial(instance: &str) -> String {
    format!("{{vx11}}:trial {instance}")
}

/// Where a token's record stands.
pub(super) fn record(digest: TokenDigest) -> String {
    format!("token:{digest}")
}

/// Where a token's tombstone stands.
pub(super) fn tombstone(id: TokenId) -> String {
    format!("revoked:{id}")
}

/// Where it stands since when this data is complete.
pub(super) fn epoch(name: &str) -> String {
    format!("epoch:{name}")
}

/// Bits for the life of a token, in milliseconds: 17 minutes.
const LIFE_BITS: u32 = 20;

/// A record as a number: Redis keeps those in 16 bytes, where a text would take 64. The moment of issue, in
/// milliseconds, above the life of the token.
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
    use crate::token::LONGEST_LIFE_SECONDS;

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
