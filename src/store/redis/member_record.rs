//! Member record: the entry of an instance in Redis.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;

/// Age after which a member record without live tokens is removed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Member record of an instance, JSON in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberRecord {
    /// Time of writing, in ms, by the clock of Redis.
    pub(super) at: u64,
    pub(super) active: u64,
    pub(super) streams: u64,
    /// Unix second of the first element of `lives`, by the instance's clock.
    pub(super) first: u64,
    /// Live tokens that the instance recorded, by second of expiry.
    pub(super) lives: Vec<i64>,
    /// Ids of a few of them.
    pub(super) sample: Vec<String>,
    /// Configuration that all instances have to agree on; `None` for earlier versions.
    pub(super) about: Option<About>,
    /// Whether the instance has ended, after its streams.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_ended: bool,
}

/// Configuration that the instances of a deployment have to agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// Fingerprints of the accepted signing keys, sorted.
    pub(super) keys: Vec<String>,
    /// Lifetime of a token in seconds.
    pub(super) token_ttl: u64,
    /// Version of the release.
    pub(super) version: String,
    /// Schema number of the data in Redis.
    pub(super) schema: u64,
}

impl MemberRecord {
    /// Live tokens at `now`, which is after the time of writing.
    pub(super) fn live(&self, now: UnixMillis) -> i64 {
        let over = usize::try_from((now.seconds() + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.lives.iter().skip(over).sum()
    }

    pub(super) fn age(&self, redis_now: u64) -> Duration {
        Duration::from_millis(redis_now.saturating_sub(self.at))
    }

    /// Whether the instance ran within `time`.
    pub(super) fn ran_within(&self, time: Duration, redis_now: u64) -> bool {
        !self.has_ended && self.age(redis_now) < time
    }

    pub(super) fn is_spent(&self, redis_now: u64, now: UnixMillis) -> bool {
        self.age(redis_now) > FORGOTTEN_AFTER && self.live(now) <= 0
    }
}

/// Field name of a member record: the instance's name and the number of its start. Tokens from
/// before a restart are therefore still counted.
pub(super) fn field(instance_id: &str, start: u64) -> String {
    format!("{instance_id} {start:016x}")
}

/// The instance's name in the field name of a member record.
pub(super) fn instance_id(field: &str) -> &str {
    field.split(' ').next().unwrap_or_default()
}
