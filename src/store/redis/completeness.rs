//! Since when Redis certainly holds every record: noted in Redis itself, under a name that changes
//! whenever data may have been lost, and proven anew whenever a token is to be refused for being
//! unknown (docs/adr/0009).

use std::sync::Arc;
use std::time::Duration;

use futures_util::try_join;
use parking_lot::Mutex;
use redis::{Cmd, RedisResult, Value, from_redis_value};

use super::keys::Keys;
use crate::clock::UnixMillis;
use crate::redis::{Connection, Deployment, Fault, Topology, pipeline};

/// The note stays for so long after the last instance has gone.
const NOTE_KEPT: Duration = Duration::from_hours(24 * 7);

/// Under Sentinel, an instance may go on writing to the old one for about a second and a half after
/// another has moved to the new one: it asks the sentinels once a second, and the old master takes
/// writes until they get to it. What was recorded in this time may be missing.
const ALL_HAVE_MOVED: Duration = Duration::from_secs(5);

/// What the last beat of the pulse found out.
pub(super) struct Completeness {
    keys: Arc<Keys>,
    known: Mutex<Option<Known>>,
    /// From the first sight of data until all instances write to it.
    settling: Duration,
}

struct Known {
    /// Names the data, as [`Deployment::epoch`] does.
    epoch: String,
    complete_since: UnixMillis,
    /// The policy by which Redis may drop records before their time.
    evicts: Option<String>,
}

/// What Redis just said.
pub(super) struct Confirmed {
    pub(super) deployment: Deployment,
    complete_since: UnixMillis,
    settled: UnixMillis,
    /// To the other commands.
    pub(super) answers: Vec<Value>,
}

impl Confirmed {
    /// Whether every record made since `moment` is there.
    pub(super) fn proves(&self, moment: UnixMillis) -> bool {
        self.deployment.evicts.is_none() && moment >= self.settled
    }
}

impl Completeness {
    /// Nothing is known yet.
    pub(super) fn new(topology: &Topology, keys: Arc<Keys>) -> Self {
        let settling = match topology {
            Topology::Single(_) | Topology::Cluster { .. } => Duration::ZERO,
            Topology::Sentinel { .. } => ALL_HAVE_MOVED,
        };
        Self { keys, known: Mutex::new(None), settling }
    }

    /// Keeps the note for another while.
    pub(super) fn keep(&self, Confirmed { deployment, .. }: &Confirmed) -> Cmd {
        let mut command = redis::cmd("EXPIRE");
        command.arg(self.keys.epoch(&deployment.epoch)).arg(NOTE_KEPT.as_secs());
        command
    }

    /// Notes that the data of this name is complete from `now` on, unless an earlier moment is
    /// noted, which is the answer.
    fn begin_note(&self, epoch: &str, now: UnixMillis) -> Cmd {
        let mut command = redis::cmd("SET");
        command
            .arg(self.keys.epoch(epoch))
            .arg(now.0)
            .arg("NX")
            .arg("GET")
            .arg("EX")
            .arg(NOTE_KEPT.as_secs());
        command
    }

    /// Asks for the data's name and since when it is complete, and notes that it is complete from
    /// `now` on where no note is there: after a restart, a failover or a FLUSHALL. The answers to
    /// `others` come with it.
    pub(super) async fn confirm(
        &self,
        mut connection: Connection,
        now: UnixMillis,
        others: &[Cmd],
    ) -> RedisResult<Result<Confirmed, Fault>> {
        let expected = self.known.lock().as_ref().map(|known| known.epoch.clone());
        // Most often the name is still the same, and one round trip is enough.
        let note_as_expected = expected.as_ref().map(|epoch| self.begin_note(epoch, now));
        let commands = pipeline(others.iter().cloned().chain(note_as_expected));
        let mut for_info = connection.clone();
        let (info, mut answers) = try_join!(for_info.info(), connection.ask_all(&commands))?;
        let deployment = match Deployment::read(&info) {
            Ok(deployment) => deployment,
            Err(fault) => return Ok(Err(fault)),
        };
        let noted = answers.split_off(others.len()).pop();
        let noted = match noted.filter(|_| expected.as_ref() == Some(&deployment.epoch)) {
            Some(noted) => noted,
            None => connection.ask(&self.begin_note(&deployment.epoch, now)).await?,
        };
        let since: Option<u64> = from_redis_value(noted)?;
        let complete_since = since.map_or(now, UnixMillis);
        let settled = complete_since.plus(self.settling);
        Ok(Ok(Confirmed { deployment, complete_since, settled, answers }))
    }

    /// Takes note of what was confirmed; says whether data was lost since the last time.
    pub(super) fn note(&self, Confirmed { deployment, complete_since, .. }: &Confirmed) -> bool {
        let new = Known {
            epoch: deployment.epoch.clone(),
            complete_since: *complete_since,
            evicts: deployment.evicts.clone(),
        };
        let old = self.known.lock().replace(new);
        let evicted = old.as_ref().and_then(|old| old.evicts.as_ref());
        match (evicted, &deployment.evicts) {
            (None, Some(policy)) => tracing::warn!(
                policy,
                "Redis may drop records before their time; tokens it does not know are accepted by their signature. Set maxmemory-policy noeviction"
            ),
            (Some(_), None) => tracing::info!("Redis keeps records until their time"),
            _ => {}
        }
        old.is_some_and(|old| old.complete_since != *complete_since)
    }

    /// Whether this is the data that the pulse found last.
    pub(super) fn is_of(&self, Confirmed { deployment, .. }: &Confirmed) -> bool {
        self.known.lock().as_ref().is_some_and(|known| known.epoch == deployment.epoch)
    }

    /// Whether, as far as is known without asking, every record made since `moment` is there.
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

    fn confirmed(epoch: &str, complete_since: UnixMillis, evicts: Option<&str>) -> Confirmed {
        let deployment = Deployment {
            epoch: epoch.to_owned(),
            evicts: evicts.map(str::to_owned),
            memory_limit: 0,
            is_full: false,
            replicas_in_step: 0,
            figures: RedisFigures::default(),
        };
        let settled = complete_since.plus(SETTLING);
        Confirmed { deployment, complete_since, settled, answers: Vec::new() }
    }

    #[test]
    fn absence_counts_only_from_the_moment_on_at_which_all_instances_write_to_the_data() {
        let settled = START.plus(SETTLING);
        let before = settled.minus(Duration::from_millis(1));
        let data = completeness();
        assert!(!data.is_known_since(settled), "nothing is known yet");
        data.note(&confirmed("a", START, None));
        for (moment, counts) in [(START, false), (before, false), (settled, true)] {
            assert_eq!(data.is_known_since(moment), counts);
            assert_eq!(confirmed("a", START, None).proves(moment), counts);
        }
    }

    #[test]
    fn absence_counts_never_where_redis_may_drop_records() {
        let evicting = confirmed("a", START, Some("allkeys-lru"));
        let data = completeness();
        data.note(&evicting);
        for moment in [START, START.plus(SETTLING), START.plus(SETTLING * 2)] {
            assert!(!data.is_known_since(moment) && !evicting.proves(moment));
        }
        data.note(&confirmed("a", START, None));
        assert!(data.is_known_since(START.plus(SETTLING)));
    }

    #[test]
    fn data_that_is_complete_since_another_moment_has_lost_records() {
        let data = completeness();
        let later = START.plus(Duration::from_secs(1));
        assert!(!data.note(&confirmed("a", START, None)), "what was there before is not known");
        assert!(!data.note(&confirmed("a", START, None)));
        assert!(data.note(&confirmed("a", later, None)));
        assert!(!data.note(&confirmed("b", later, None)), "a promotion that lost nothing");
        assert!(data.is_of(&confirmed("b", START, None)) && !data.is_of(&confirmed("a", later, None)));
    }
}
