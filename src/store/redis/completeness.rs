//! The completeness marker: the time since which no record can be missing from Redis.
//!
//! A token without a record may be refused only if its record cannot have been lost. The marker is
//! a key in Redis whose name contains the data id, which changes whenever data may have been lost:
//! a restart, a failover, an administrator who loads another copy. `FLUSHALL` removes the marker.
//!
//! - An instance that finds no marker for the present data id writes one with the present time
//!   (`SET NX GET`, so that the first instance wins).
//! - A record is certainly there if the token was issued at least `settling` after the marker's
//!   time: under Sentinel, the time in which all instances have moved to a new master.
//! - Before an absent token is refused, the marker and the data id are read again from the master:
//!   a cached value would miss a loss since then.
//! - With an eviction policy Redis may drop records, so nothing is ever complete.
//!
//! See docs/adr/0009.

use std::sync::Arc;
use std::time::Duration;

use futures_util::join;
use parking_lot::Mutex;
use redis::{Cmd, RedisResult, Value, from_redis_value};

use super::keys::Keys;
use crate::clock::UnixMillis;
use crate::redis::{Connection, Fault, MastersState, Topology, pipeline};

/// Lifetime of the marker after the last instance has stopped.
const MARKER_KEPT: Duration = Duration::from_hours(24 * 7);

/// Time until all instances have moved to a new master under Sentinel. Until then an instance may
/// write to the old master, and its records are lost. The health check asks the sentinels once a
/// second which server to dial, and then dials, which takes 1.5 s; the rest is for a slow sentinel,
/// a slow dial and a busy machine. (Its question who is master, every 250 ms, is for the monitor.)
/// An instance that reaches only a minority of the sentinels may take longer (docs/adr/0009).
const ALL_HAVE_MOVED: Duration = Duration::from_secs(5);

/// Completeness of the data, according to the last health check.
pub(super) struct Completeness {
    keys: Arc<Keys>,
    known: Mutex<Option<Known>>,
    /// Time after that of the marker from which on all instances write to the data set.
    settling: Duration,
}

struct Known {
    /// Data id ([`MastersState::data_id`]).
    data_id: String,
    complete_since: UnixMillis,
    /// Eviction policy by which Redis may drop records early.
    evicts: Option<String>,
}

/// A confirmation by Redis.
pub(super) struct Confirmed {
    pub(super) masters: MastersState,
    complete_since: UnixMillis,
    settled: UnixMillis,
    /// Answers to the other commands.
    pub(super) answers: Vec<Value>,
}

impl Confirmed {
    /// Whether no record since `moment` can be missing.
    pub(super) fn proves(&self, moment: UnixMillis) -> bool {
        self.masters.evicts.is_none() && moment >= self.settled
    }
}

impl Completeness {
    /// Creates the state without any knowledge.
    pub(super) fn new(topology: &Topology, keys: Arc<Keys>) -> Self {
        let settling = match topology {
            Topology::Single(_) | Topology::Cluster { .. } => Duration::ZERO,
            Topology::Sentinel { .. } => ALL_HAVE_MOVED,
        };
        Self { keys, known: Mutex::new(None), settling }
    }

    /// Command that extends the lifetime of the marker.
    pub(super) fn keep(&self, Confirmed { masters, .. }: &Confirmed) -> Cmd {
        let mut command = redis::cmd("EXPIRE");
        command.arg(self.keys.completeness(&masters.data_id)).arg(MARKER_KEPT.as_secs());
        command
    }

    /// Command that writes the marker with `now`, or answers the time of an existing one.
    fn begin_marker(&self, data_id: &str, now: UnixMillis) -> Cmd {
        let mut command = redis::cmd("SET");
        command
            .arg(self.keys.completeness(data_id))
            .arg(now.0)
            .arg("NX")
            .arg("GET")
            .arg("EX")
            .arg(MARKER_KEPT.as_secs());
        command
    }

    /// Reads the data id and the marker, and writes the marker if there is none. Sends `others`
    /// along and returns their answers. If Redis refuses one of these commands, `refused` gets what
    /// Redis says about itself.
    pub(super) async fn confirm(
        &self,
        mut connection: Connection,
        now: UnixMillis,
        others: &[Cmd],
        refused: impl FnOnce(&MastersState),
    ) -> RedisResult<Result<Confirmed, Fault>> {
        let expected = self.known.lock().as_ref().map(|known| known.data_id.clone());
        // The data id is usually unchanged, so one round trip is enough.
        let expected_marker = expected.as_ref().map(|data_id| self.begin_marker(data_id, now));
        let commands = pipeline(others.iter().cloned().chain(expected_marker));
        let mut for_info = connection.clone();
        let (info, answers) = join!(for_info.info(), connection.ask_all(&commands));
        let masters = match MastersState::read(&info?) {
            Ok(masters) => masters,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut answers = answers.inspect_err(|_| refused(&masters))?;
        let marker = answers.split_off(others.len()).pop();
        let marker = match marker.filter(|_| expected.as_ref() == Some(&masters.data_id)) {
            Some(marker) => marker,
            None => connection.ask(&self.begin_marker(&masters.data_id, now)).await?,
        };
        let since: Option<u64> = from_redis_value(marker)?;
        let complete_since = since.map_or(now, UnixMillis);
        let settled = complete_since.plus(self.settling);
        Ok(Ok(Confirmed { masters, complete_since, settled, answers }))
    }

    /// Stores a confirmation. Returns whether data may have been lost since the last one: the
    /// marker has another time. A new data id has a new marker, so each restart and each promotion
    /// counts as a loss.
    pub(super) fn learn(&self, Confirmed { masters, complete_since, .. }: &Confirmed) -> bool {
        let new = Known {
            data_id: masters.data_id.clone(),
            complete_since: *complete_since,
            evicts: masters.evicts.clone(),
        };
        let old = self.known.lock().replace(new);
        let evicted = old.as_ref().and_then(|old| old.evicts.as_ref());
        match (evicted, &masters.evicts) {
            (None, Some(policy)) => tracing::warn!(
                policy,
                "Redis may drop records before they expire, so tokens without a record are accepted by their signature. Set maxmemory-policy noeviction"
            ),
            (Some(_), None) => tracing::info!("Redis keeps records until they expire"),
            _ => {}
        }
        old.is_some_and(|old| old.complete_since != *complete_since)
    }

    /// Whether the confirmation is about the data of the last health check.
    pub(super) fn is_of(&self, Confirmed { masters, .. }: &Confirmed) -> bool {
        self.known.lock().as_ref().is_some_and(|known| known.data_id == masters.data_id)
    }

    /// Whether no record since `moment` can be missing, according to the last health check.
    pub(super) fn is_known_since(&self, moment: UnixMillis) -> bool {
        let known = self.known.lock();
        let has_settled = |known: &Known| moment >= known.complete_since.plus(self.settling);
        known.as_ref().is_some_and(|known| known.evicts.is_none() && has_settled(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::{Namespace, RedisFigures};

    const START: UnixMillis = UnixMillis(1_767_470_400_000);
    const SETTLING: Duration = Duration::from_secs(5);

    fn completeness() -> Completeness {
        let keys = Arc::new(Keys::new(&Namespace::default()));
        Completeness { keys, known: Mutex::new(None), settling: SETTLING }
    }

    fn confirmed(data_id: &str, complete_since: UnixMillis, evicts: Option<&str>) -> Confirmed {
        let masters = MastersState {
            data_id: data_id.to_owned(),
            evicts: evicts.map(str::to_owned),
            memory_limit: 0,
            is_full: false,
            replicas_in_step: 0,
            figures: RedisFigures::default(),
        };
        let settled = complete_since.plus(SETTLING);
        Confirmed { masters, complete_since, settled, answers: Vec::new() }
    }

    #[test]
    fn absence_counts_only_from_the_moment_on_at_which_all_instances_write_to_the_data() {
        let settled = START.plus(SETTLING);
        let before = settled.minus(Duration::from_millis(1));
        let data = completeness();
        assert!(!data.is_known_since(settled), "nothing is known yet");
        data.learn(&confirmed("a", START, None));
        for (moment, counts) in [(START, false), (before, false), (settled, true)] {
            assert_eq!(data.is_known_since(moment), counts);
            assert_eq!(confirmed("a", START, None).proves(moment), counts);
        }
    }

    #[test]
    fn absence_counts_never_where_redis_may_drop_records() {
        let evicting = confirmed("a", START, Some("allkeys-lru"));
        let data = completeness();
        data.learn(&evicting);
        for moment in [START, START.plus(SETTLING), START.plus(SETTLING * 2)] {
            assert!(!data.is_known_since(moment) && !evicting.proves(moment));
        }
        data.learn(&confirmed("a", START, None));
        assert!(data.is_known_since(START.plus(SETTLING)));
    }

    #[test]
    fn data_that_is_complete_since_another_moment_has_lost_records() {
        let data = completeness();
        let later = START.plus(Duration::from_secs(1));
        assert!(!data.learn(&confirmed("a", START, None)), "what was there before is not known");
        assert!(!data.learn(&confirmed("a", START, None)));
        assert!(data.learn(&confirmed("a", later, None)));
        assert!(!data.learn(&confirmed("b", later, None)), "the time decides, not the data id");
        assert!(data.is_of(&confirmed("b", START, None)) && !data.is_of(&confirmed("a", later, None)));
    }
}
