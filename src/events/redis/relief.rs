//! Room in Redis: warns if the log cannot fit into `maxmemory`, and trims the older half of the log
//! if Redis is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redis::{RedisError, from_redis_value};
use serde::Serialize;

use super::in_time;
use super::keys::Keys;
use crate::metrics::Metrics;
use crate::redis::{Connection, Fault, MastersState, Script};

/// Script that trims the older half of the log if Redis is full.
static RELIEVE: Script = Script::new(&[include_str!("relieve.lua")]);
/// Arguments of [`RELIEVE`].
#[derive(Serialize)]
struct Arguments {
    kept: usize,
}

/// Entries that are never trimmed. They take a few megabytes at most, so something else fills
/// Redis.
const KEPT: usize = 100;

/// Keeps the log from filling Redis.
pub(super) struct Relief {
    keys: Arc<Keys>,
    log_bytes: u64,
    metrics: Arc<Metrics>,
    /// `maxmemory` into which the log did not fit at the last check; 0 if it fitted.
    too_low: AtomicU64,
    /// Whether the present shortage was logged.
    has_warned: AtomicBool,
    /// Whether the Redis user lacked the right to XTRIM at the last check.
    may_not_trim: AtomicBool,
}

impl Relief {
    pub(super) fn new(keys: Arc<Keys>, log_bytes: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            keys,
            log_bytes,
            metrics,
            too_low: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
            may_not_trim: AtomicBool::new(false),
        }
    }

    /// Warns if the Redis user lacks the right to XTRIM, which older lists of rights did not
    /// contain.
    pub(super) async fn check_rights(&self, connection: &mut Connection) -> Result<(), Fault> {
        let mut command = redis::cmd("XTRIM");
        command.arg(&self.keys.no_stream).arg("MAXLEN").arg(0);
        let may_not = match in_time(connection.ask(&command)).await {
            Err(Fault::Permission(_)) => true,
            answer => answer.map(|_| false)?,
        };
        if !self.may_not_trim.swap(may_not, Ordering::Relaxed) && may_not {
            tracing::warn!(
                "the Redis user may not run XTRIM, so the event log is not bounded in bytes and may fill Redis. \
                 Grant this right (ACL SETUSER … +xtrim); docs/redis.md lists all rights that are needed"
            );
        }
        Ok(())
    }

    /// Warns if the log cannot fit into `maxmemory`, and trims it if Redis is full.
    pub(super) async fn check(&self, connection: &mut Connection, found: &MastersState) -> Result<(), Fault> {
        if self.becomes_too_low(found.memory_limit) {
            tracing::warn!(
                events_log_bytes = self.log_bytes,
                maxmemory = found.memory_limit,
                "the event log may fill Redis: with events.log_bytes it needs up to {} bytes, and may take {} of maxmemory. \
                 Lower events.log_bytes or raise maxmemory; docs/redis.md says how much is needed",
                needed(self.log_bytes),
                allowed(found.memory_limit)
            );
        }
        if found.is_full {
            return self.relieve(connection).await;
        }
        self.has_warned.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the log does not fit into `limit`, which was another one at the last check.
    fn becomes_too_low(&self, limit: u64) -> bool {
        let too_low = if limit > 0 && needed(self.log_bytes) > allowed(limit) { limit } else { 0 };
        self.too_low.swap(too_low, Ordering::Relaxed) != too_low && too_low > 0
    }

    /// Trims the older half of the log if Redis is full and the log is not small already. If
    /// several instances call this at once, one of them trims.
    pub(super) async fn relieve(&self, connection: &mut Connection) -> Result<(), Fault> {
        if self.may_not_trim.load(Ordering::Relaxed) {
            return Ok(());
        }
        let command = RELIEVE.call(&[&self.keys.log], &Arguments { kept: KEPT });
        let removed: u64 =
            from_redis_value(in_time(connection.ask(&command)).await?).map_err(RedisError::from)?;
        if removed > 0 {
            self.metrics.events.log_relieved();
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    removed,
                    "Redis is full (maxmemory): the older half of the event log was removed to make room. Streams that resume \
                     there get a reset; docs/redis.md says how much memory is needed"
                );
            }
        }
        Ok(())
    }
}

/// Memory that Redis needs for a log of this size: allocations are up to 30 % larger.
const fn needed(log_bytes: u64) -> u64 {
    log_bytes + log_bytes / 10 * 3
}

/// Share of `maxmemory` that the log may take. Tokens, revocations and output buffers need the
/// rest.
const fn allowed(limit: u64) -> u64 {
    limit / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Namespace;

    const MIB: u64 = 1024 * 1024;

    /// Which of these limits, seen one after the other, cause a warning.
    fn warnings(log_mib: u64, limits_mib: &[u64]) -> Vec<u64> {
        let keys = Arc::new(Keys::new(&Namespace::default()));
        let relief = Relief::new(keys, log_mib * MIB, Arc::new(Metrics::new().unwrap()));
        limits_mib.iter().copied().filter(|limit| relief.becomes_too_low(limit * MIB)).collect()
    }

    #[test]
    fn the_shipped_limits_fit_and_a_log_of_half_the_memory_does_as_well() {
        assert!(warnings(64, &[256, 128]).is_empty());
        assert_eq!(warnings(64, &[100]), [100]);
        assert!(warnings(4000, &[0]).is_empty(), "no limit");
    }

    #[test]
    fn each_limit_that_is_too_low_is_warned_about_once() {
        assert_eq!(warnings(64, &[100, 100, 50, 50, 256, 50]), [100, 50, 50]);
    }
}
