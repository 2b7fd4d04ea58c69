//! Whose data this is. Instances of one deployment accept a signing key in common, and its
//! fingerprint stands in Redis as long as one of them names it. An instance that knows none of the
//! fingerprints there is of another deployment: it neither writes nor reads, and asks again until
//! the others have left.
//!
//! The store's pulse asks; the event log begins when the claim is held, and ends when it is
//! refused.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, RedisError, Value, from_redis_value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::Fault;
use super::namespace::Namespace;

/// Claims the data, or finds that it is another deployment's.
const CLAIM: &str = include_str!("claim.lua");
/// Version of what instances keep in Redis. Raised by a release whose data its predecessor would
/// damage: earlier ones then stay away.
pub(crate) const SCHEMA: u64 = 1;
/// A deployment of which no instance was heard for so long has left.
const LEFT_AFTER: Duration = Duration::from_secs(10);
/// The claim stays for so long after the last instance has gone.
const KEPT: Duration = Duration::from_hours(24 * 7);

/// The claim of one instance. Its pulse and its event log share it.
pub struct Claim {
    key: String,
    fingerprints: Vec<String>,
    standing: watch::Sender<Standing>,
    /// While another deployment is there.
    waiting: Mutex<Option<Waiting>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Redis has yet to be asked.
    Unknown,
    Held,
    Refused,
}

/// What an instance sees of another deployment.
///
/// Redis may have lost its data, or come back with old data, and then it holds no fingerprint of
/// the deployment that is there. So an instance that waits does not take it before it has seen
/// nothing change for a while: the deployment that was there comes first.
struct Waiting {
    /// When one of its instances last named a fingerprint, by the clock of Redis.
    named_at: u64,
    /// Since when that is the same, and Redis has been answering.
    since: Instant,
}

impl Claim {
    /// Nothing is asked yet. `fingerprints` are those of all signing keys that the instance
    /// accepts.
    #[must_use]
    pub fn new(namespace: &Namespace, mut fingerprints: Vec<String>) -> Self {
        fingerprints.sort_unstable();
        fingerprints.dedup();
        Self {
            key: namespace.together("deployment"),
            fingerprints,
            standing: watch::Sender::new(Standing::Unknown),
            waiting: Mutex::default(),
        }
    }

    /// Those of all signing keys that this instance accepts, sorted.
    pub(crate) fn fingerprints(&self) -> &[String] {
        &self.fingerprints
    }

    /// Whether Redis said, when it was last asked, that the data belongs to this deployment.
    pub(crate) fn is_held(&self) -> bool {
        *self.standing.borrow() == Standing::Held
    }

    /// Waits until the data belongs to this deployment.
    pub(crate) async fn held(&self) {
        self.becomes(|standing| standing == Standing::Held).await;
    }

    /// Waits until the data is found to be another's.
    pub(crate) async fn refused(&self) {
        self.becomes(|standing| standing == Standing::Refused).await;
    }

    /// Waits while the data is known to be another's.
    pub(crate) async fn not_refused(&self) {
        self.becomes(|standing| standing != Standing::Refused).await;
    }

    async fn becomes(&self, wanted: impl Fn(Standing) -> bool) {
        // The sender lives as long as this future.
        let _ = self.standing.subscribe().wait_for(|standing| wanted(*standing)).await;
    }

    /// Claims the data, or renews the claim. What Redis answers is to be given to [`Self::learn`].
    pub(crate) fn question(&self) -> Cmd {
        let may_take =
            self.waiting.lock().as_ref().is_none_or(|waiting| waiting.since.elapsed() >= LEFT_AFTER);
        let mut command = redis::cmd("EVAL");
        command.arg(CLAIM).arg(1).arg(&self.key).arg(SCHEMA);
        command.arg(LEFT_AFTER.as_millis().to_string()).arg(KEPT.as_secs()).arg(u8::from(may_take));
        command.arg(&self.fingerprints);
        command
    }

    /// Takes note of the answer.
    ///
    /// # Errors
    /// [`Fault::OtherDeployment`] and [`Fault::NewerSchema`], when this instance must not use the
    /// data; the fault by which there was no answer.
    pub(crate) fn learn(&self, answer: Result<Value, Fault>) -> Result<(), Fault> {
        let mut waiting = self.waiting.lock();
        let read = answer
            .and_then(|answer| from_redis_value(answer).map_err(|error| RedisError::from(error).into()));
        let (answer, number): (String, u64) = match read {
            Ok(read) => read,
            Err(fault) => {
                if let Some(waiting) = waiting.as_mut() {
                    waiting.since = Instant::now();
                }
                return Err(fault);
            }
        };
        match answer.as_str() {
            "held" => {
                *waiting = None;
                self.stand(Standing::Held);
                Ok(())
            }
            "newer" => {
                self.stand(Standing::Refused);
                Err(Fault::NewerSchema(number))
            }
            _ => {
                if waiting.as_ref().is_none_or(|waiting| waiting.named_at != number) {
                    *waiting = Some(Waiting { named_at: number, since: Instant::now() });
                }
                self.stand(Standing::Refused);
                Err(Fault::OtherDeployment)
            }
        }
    }

    fn stand(&self, new: Standing) {
        self.standing.send_if_modified(|standing| std::mem::replace(standing, new) != new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim::new(&Namespace::default(), vec!["b".to_owned(), "a".to_owned(), "b".to_owned()])
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands for an answer of Redis, which may be a fault")]
    fn answer(word: &str, number: i64) -> Result<Value, Fault> {
        Ok(Value::Array(vec![Value::BulkString(word.as_bytes().to_vec()), Value::Int(number)]))
    }

    /// Whether it would take what nobody holds.
    fn may_take(claim: &Claim) -> bool {
        let command = claim.question();
        let place = command.args_iter().len() - 1 - claim.fingerprints.len();
        matches!(command.args_iter().nth(place), Some(redis::Arg::Simple(b"1")))
    }

    #[test]
    fn an_instance_that_comes_first_may_take_the_data_and_so_may_one_that_held_it() {
        let claim = claim();
        assert_eq!(claim.fingerprints(), ["a", "b"]);
        assert!(may_take(&claim) && !claim.is_held());
        claim.learn(answer("held", 0)).unwrap();
        claim.learn(Err(Fault::Timeout)).unwrap_err();
        assert!(may_take(&claim) && claim.is_held(), "an outage takes nothing away");
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_found_another_deployment_takes_the_data_when_nothing_has_changed_for_a_while() {
        let claim = claim();
        let pause = || tokio::time::advance(LEFT_AFTER / 2);
        assert_eq!(claim.learn(answer("other", 7)), Err(Fault::OtherDeployment));
        pause().await;
        // It is still there.
        assert_eq!(claim.learn(answer("other", 8)), Err(Fault::OtherDeployment));
        pause().await;
        assert_eq!(claim.learn(answer("other", 8)), Err(Fault::OtherDeployment));
        assert!(!may_take(&claim));
        pause().await;
        assert!(may_take(&claim));
        claim.learn(answer("held", 0)).unwrap();
        assert!(claim.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_loss_of_data_or_an_outage_the_deployment_that_was_there_comes_first() {
        let claim = claim();
        claim.learn(answer("other", 7)).unwrap_err();
        tokio::time::advance(LEFT_AFTER).await;
        assert!(may_take(&claim));
        claim.learn(answer("other", 0)).unwrap_err();
        assert!(!may_take(&claim), "the data is gone");
        tokio::time::advance(LEFT_AFTER).await;
        assert!(may_take(&claim));
        claim.learn(Err(Fault::Timeout)).unwrap_err();
        assert!(!may_take(&claim), "Redis was away");
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_waits_for_the_claim_and_ends_with_it() {
        let claim = claim();
        claim.not_refused().await;
        assert_eq!(claim.learn(answer("newer", 2)), Err(Fault::NewerSchema(2)));
        claim.refused().await;
        let (held, ()) = tokio::join!(tokio::time::timeout(LEFT_AFTER, claim.held()), async {
            claim.learn(answer("held", 0)).unwrap();
        });
        assert!(held.is_ok() && claim.is_held());
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_a_fault_and_changes_nothing() {
        let claim = claim();
        claim.learn(answer("held", 0)).unwrap();
        assert!(matches!(claim.learn(Ok(Value::Nil)), Err(Fault::Unexpected(_))));
        assert!(claim.is_held());
    }
}
