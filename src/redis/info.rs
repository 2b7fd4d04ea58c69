//! Parsing of INFO: state and figures of the masters.

use sha2::{Digest, Sha256};

use super::error::Fault;

/// Bound of the lag, in seconds, of a replica in step.
const MOST_LAG: u64 = 2;

/// Figures of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedisFigures {
    /// Memory in use, in bytes; of a cluster, of all masters together.
    pub memory_bytes: u64,
    /// Commands per second; of a cluster, of all masters together.
    pub ops_per_second: u64,
}

/// State of the masters, according to their INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MastersState {
    /// Data id: changes when a master restarts, is replaced or is promoted.
    pub(crate) data_id: String,
    /// Eviction policy by which records may be dropped early.
    pub(crate) evicts: Option<String>,
    /// Lowest `maxmemory` of the masters; 0 if none has a limit.
    pub(crate) memory_limit: u64,
    /// Whether a master has reached its `maxmemory`.
    pub(crate) is_full: bool,
    /// Number of replicas in step.
    pub(crate) replicas_in_step: usize,
    pub(crate) figures: RedisFigures,
}

impl MastersState {
    /// Parses the answers of all masters.
    ///
    /// # Errors
    /// [`Fault::ReadOnly`] or [`Fault::Loading`] if a master reports it; [`Fault::Unexpected`]
    /// without a run id or replication id, as from servers that imitate Redis.
    pub(crate) fn read(answers: &[String]) -> Result<Self, Fault> {
        let mut ids = Vec::with_capacity(answers.len());
        let mut evicts = None;
        let mut figures = RedisFigures::default();
        let mut replicas_in_step = 0;
        let (mut memory_limit, mut is_full) = (0, false);
        for answer in answers {
            let field = |name: &str| {
                answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
            };
            let number = |name: &str| field(name).parse::<u64>().unwrap_or(0);
            let named = |name: &str| match field(name) {
                "" => Err(Fault::Unexpected(format!("INFO lacks {name}, which shows a loss of data"))),
                value => Ok(value),
            };
            if field("loading") == "1" {
                return Err(Fault::Loading);
            }
            if field("role") != "master" {
                return Err(Fault::ReadOnly);
            }
            // The run id alone does not change if a master was replaced and returns without a
            // restart. The replication id changes with each promotion.
            ids.push(format!("{}:{}", named("run_id")?, named("master_replid")?));
            figures.memory_bytes += number("used_memory");
            figures.ops_per_second += number("instantaneous_ops_per_sec");
            replicas_in_step += answer.lines().filter(|line| is_replica_in_step(line)).count();
            let (policy, limit) = (field("maxmemory_policy"), number("maxmemory"));
            if limit > 0 {
                memory_limit = if memory_limit == 0 { limit } else { memory_limit.min(limit) };
                is_full |= number("used_memory") >= limit;
                if policy != "noeviction" {
                    evicts = Some(policy.to_owned());
                }
            }
        }
        let data_id = match ids.as_mut_slice() {
            [] => return Err(Fault::ClusterDown("no master answers".to_owned())),
            [one] => std::mem::take(one),
            many => {
                many.sort_unstable();
                hex::encode(&Sha256::digest(many.join(","))[..16])
            }
        };
        Ok(Self { data_id, evicts, memory_limit, is_full, replicas_in_step, figures })
    }
}

/// Parses `slave0:ip=10.0.0.1,port=6379,state=online,offset=42,lag=0`. A replica reports its offset
/// every second.
fn is_replica_in_step(line: &str) -> bool {
    let Some((name, about)) = line.split_once(':') else { return false };
    let number = name.strip_prefix("slave").unwrap_or_default();
    let is_replica = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let field = |name: &str| {
        about.trim_end().split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let lag = field("lag").and_then(|lag| lag.parse::<u64>().ok());
    is_replica && field("state") == Some("online") && lag.is_some_and(|lag| lag <= MOST_LAG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(run_id: &str, replication_id: &str) -> String {
        format!(
            "# Server\r\nrun_id:{run_id}\r\n# Memory\r\nused_memory:1000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n\
             # Persistence\r\nloading:0\r\n# Stats\r\ninstantaneous_ops_per_sec:7\r\n\
             # Replication\r\nrole:master\r\nmaster_replid:{replication_id}\r\n"
        )
    }

    fn data_id(answers: &[String]) -> String {
        MastersState::read(answers).unwrap().data_id
    }

    #[test]
    fn figures_of_a_cluster_are_those_of_all_masters_together() {
        let masters = MastersState::read(&[answer("a", "x"), answer("b", "y")]).unwrap();
        assert_eq!(masters.figures, RedisFigures { memory_bytes: 2000, ops_per_second: 14 });
        assert_eq!(masters.evicts, None);
    }

    #[test]
    fn a_restart_or_a_promotion_of_any_master_gives_a_new_data_id_and_their_order_does_not() {
        let (a, b) = (answer("a", "x"), answer("b", "y"));
        assert_eq!(data_id(std::slice::from_ref(&a)), "a:x");
        assert_ne!(data_id(std::slice::from_ref(&a)), data_id(&[answer("a", "z")]));
        let both = data_id(&[a.clone(), b.clone()]);
        assert_eq!(both, data_id(&[b, a.clone()]));
        assert_ne!(both, data_id(&[a, answer("b", "z")]));
    }

    #[test]
    fn a_replica_and_a_loading_master_are_no_healthy_master() {
        let well = answer("a", "x");
        assert_eq!(MastersState::read(&[well.replace("role:master", "role:slave")]), Err(Fault::ReadOnly));
        assert_eq!(MastersState::read(&[well.replace("loading:0", "loading:1")]), Err(Fault::Loading));
    }

    #[test]
    fn a_server_that_does_not_name_its_data_is_not_taken_for_one_that_never_loses_any() {
        let named = answer("a", "x");
        for (missing, empty) in [("run_id", answer("", "x")), ("master_replid", answer("a", ""))] {
            let absent = named.replace(&format!("{missing}:"), "other:");
            for without in [absent, empty] {
                let Err(Fault::Unexpected(words)) = MastersState::read(&[named.clone(), without]) else {
                    panic!("{missing} is not missed");
                };
                assert!(words.contains(missing), "{words}");
            }
        }
        assert!(matches!(MastersState::read(&[]), Err(Fault::ClusterDown(_))));
    }

    #[test]
    fn a_memory_limit_with_a_policy_that_evicts_is_noticed_and_a_limit_alone_is_not() {
        let limited = answer("a", "x").replace("maxmemory:0", "maxmemory:9");
        assert_eq!(MastersState::read(std::slice::from_ref(&limited)).unwrap().evicts, None);
        let evicting = limited.replace("noeviction", "allkeys-lru");
        assert_eq!(MastersState::read(&[evicting]).unwrap().evicts.as_deref(), Some("allkeys-lru"));
    }

    #[test]
    fn a_full_master_is_noticed_and_the_lowest_limit_of_memory_counts() {
        let read = |limits: &[u64]| {
            let limit = |limit: &u64| answer("a", "x").replace("maxmemory:0", &format!("maxmemory:{limit}"));
            let answers: Vec<_> = limits.iter().map(limit).collect();
            let found = MastersState::read(&answers).unwrap();
            (found.memory_limit, found.is_full)
        };
        assert_eq!(read(&[0]), (0, false));
        assert_eq!(read(&[0, 5000, 2000]), (2000, false));
        assert_eq!(read(&[5000, 1000]), (1000, true));
    }

    #[test]
    fn a_replica_is_in_step_while_it_is_online_and_reports() {
        let with = |line: &str| format!("{}{line}\r\n", answer("a", "x"));
        let in_step = |line: &str| MastersState::read(&[with(line)]).unwrap().replicas_in_step;
        assert_eq!(in_step("slave0:ip=10.0.0.1,port=6379,state=online,offset=42,lag=0"), 1);
        assert_eq!(in_step("slave0:ip=10.0.0.1,port=6379,state=online,offset=42,lag=3"), 0);
        assert_eq!(in_step("slave0:ip=10.0.0.1,port=6379,state=wait_bgsave,offset=0,lag=0"), 0);
        assert_eq!(in_step("slave_repl_offset:ip=,state=online,lag=0"), 0);
    }
}
