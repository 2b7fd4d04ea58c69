//! What Redis says about itself (INFO), as far as it matters here.

use sha2::{Digest, Sha256};

use crate::store::RedisFigures;
use crate::store::fault::Fault;

/// The masters of a deployment, as they describe themselves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deployment {
    /// Names the data that is there: changes when a master restarts, is replaced or is promoted.
    pub(super) epoch: String,
    /// Why records may leave before their time, if they may.
    pub(super) evicts: Option<String>,
    pub(super) figures: RedisFigures,
}

impl Deployment {
    /// Reads the answers of all masters.
    ///
    /// # Errors
    /// [`Fault::ReadOnly`] and [`Fault::Loading`], when one of them says so.
    pub(super) fn read(answers: &[String]) -> Result<Self, Fault> {
        let mut epochs = Vec::with_capacity(answers.len());
        let mut evicts = None;
        let mut figures = RedisFigures::default();
        for answer in answers {
            let field = |name: &str| {
                answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
            };
            let number = |name: &str| field(name).parse::<u64>().unwrap_or(0);
            if field("loading") == "1" {
                return Err(Fault::Loading);
            }
            if field("role") != "master" {
                return Err(Fault::ReadOnly);
            }
            // The run id alone would not tell a master that was replaced and is back without having been restarted;
            // its replication id changes with each promotion.
            epochs.push(format!("{}:{}", field("run_id"), field("master_replid")));
            figures.memory_bytes += number("used_memory");
            figures.ops_per_second += number("instantaneous_ops_per_sec");
            let policy = field("maxmemory_policy");
            if number("maxmemory") > 0 && policy != "noeviction" {
                evicts = Some(policy.to_owned());
            }
        }
        let epoch = match epochs.as_mut_slice() {
            [one] => std::mem::take(one),
            many => {
                many.sort_unstable();
                hex::encode(&Sha256::digest(many.join(","))[..16])
            }
        };
        Ok(Self { epoch, evicts, figures })
    }
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

    fn epoch(answers: &[String]) -> String {
        Deployment::read(answers).unwrap().epoch
    }

    #[test]
    fn figures_of_a_cluster_are_those_of_all_masters_together() {
        let deployment = Deployment::read(&[answer("a", "x"), answer("b", "y")]).unwrap();
        assert_eq!(deployment.figures, RedisFigures { memory_bytes: 2000, ops_per_second: 14 });
        assert_eq!(deployment.evicts, None);
    }

    #[test]
    fn a_restart_or_a_promotion_of_any_master_names_a_new_epoch_and_their_order_does_not() {
        let (a, b) = (answer("a", "x"), answer("b", "y"));
        assert_eq!(epoch(std::slice::from_ref(&a)), "a:x");
        assert_ne!(epoch(std::slice::from_ref(&a)), epoch(&[answer("a", "z")]));
        let both = epoch(&[a.clone(), b.clone()]);
        assert_eq!(both, epoch(&[b, a.clone()]));
        assert_ne!(both, epoch(&[a, answer("b", "z")]));
    }

    #[test]
    fn a_replica_and_a_loading_master_are_told_apart_from_one_that_is_well() {
        let well = answer("a", "x");
        assert_eq!(Deployment::read(&[well.replace("role:master", "role:slave")]), Err(Fault::ReadOnly));
        assert_eq!(Deployment::read(&[well.replace("loading:0", "loading:1")]), Err(Fault::Loading));
    }

    #[test]
    fn a_memory_limit_with_a_policy_that_evicts_is_noticed_and_a_limit_alone_is_not() {
        let limited = answer("a", "x").replace("maxmemory:0", "maxmemory:9");
        assert_eq!(Deployment::read(std::slice::from_ref(&limited)).unwrap().evicts, None);
        let evicting = limited.replace("noeviction", "allkeys-lru");
        assert_eq!(Deployment::read(&[evicting]).unwrap().evicts.as_deref(), Some("allkeys-lru"));
    }
}
