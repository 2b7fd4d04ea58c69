//! The claim: which deployment the data in Redis belongs to.
//!
//! The instances of a deployment have a signing key in common. Redis holds the fingerprints of
//! their keys for as long as an instance names them. An instance that knows none of these
//! fingerprints belongs to another deployment: it neither reads nor writes, and asks again until
//! the others have left (docs/adr/0027). The health check of the store asks. The event log and the
//! reader of revocations start when the claim is held and stop when it is refused.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, RedisError, Value, from_redis_value};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::Fault;
use super::namespace::Namespace;
use super::script::Script;

/// Script that claims the data, or finds that it belongs to another deployment.
static CLAIM: Script = Script::new(&[include_str!("claim.lua")]);
/// Schema number of the data in Redis. A release whose data earlier releases would damage increases
/// it; those then do not use Redis.
pub(crate) const SCHEMA: u64 = 1;
/// Time without a sign of any instance after which a deployment has left.
const LEFT_AFTER: Duration = Duration::from_secs(10);
/// Lifetime of the claim after the last instance has stopped.
const KEPT: Duration = Duration::from_hours(24 * 7);

/// Arguments of [`CLAIM`].
#[derive(Serialize)]
struct Arguments<'a> {
    schema: u64,
    left_after: u64,
    seconds: u64,
    may_take: bool,
    fingerprints: &'a [String],
}

/// The claim of an instance, shared by its health check, event log and reader of revocations.
pub struct Claim {
    key: String,
    /// Of all accepted signing keys, sorted; a reload replaces them.
    fingerprints: Mutex<Arc<[String]>>,
    state: watch::Sender<ClaimState>,
    /// Set while another deployment holds the claim.
    waiting: Mutex<Option<Waiting>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClaimState {
    /// Redis was not asked yet.
    Unknown,
    Held,
    Refused,
}

/// Observation of another deployment. After a loss of data Redis has no fingerprint of the
/// deployment that used it, but that deployment has priority. A waiting instance therefore claims
/// the data only after it has seen no change for [`LEFT_AFTER`].
struct Waiting {
    /// Time of its last fingerprint, by the clock of Redis.
    named_at: u64,
    /// Time since which that is unchanged while Redis answers.
    since: Instant,
}

impl Claim {
    /// Creates a claim that was not asked yet, with the fingerprints of all accepted signing keys.
    #[must_use]
    pub fn new(namespace: &Namespace, fingerprints: Vec<String>) -> Self {
        Self {
            key: namespace.together("deployment"),
            fingerprints: Mutex::new(sorted(fingerprints)),
            state: watch::Sender::new(ClaimState::Unknown),
            waiting: Mutex::default(),
        }
    }

    /// Fingerprints of all accepted signing keys, sorted.
    pub(crate) fn fingerprints(&self) -> Arc<[String]> {
        Arc::clone(&self.fingerprints.lock())
    }

    /// Names other fingerprints from the next question on. Until its answer the claim stays as it
    /// is.
    pub(crate) fn replace_fingerprints(&self, fingerprints: Vec<String>) {
        *self.fingerprints.lock() = sorted(fingerprints);
    }

    /// Whether the data belonged to this deployment at the last question.
    pub(crate) fn is_held(&self) -> bool {
        *self.state.borrow() == ClaimState::Held
    }

    /// Waits until the claim is held.
    pub(crate) async fn held(&self) {
        self.becomes(|state| state == ClaimState::Held).await;
    }

    /// Waits until the claim is refused.
    pub(crate) async fn refused(&self) {
        self.becomes(|state| state == ClaimState::Refused).await;
    }

    /// Waits while the claim is refused.
    pub(crate) async fn not_refused(&self) {
        self.becomes(|state| state != ClaimState::Refused).await;
    }

    async fn becomes(&self, wanted: impl Fn(ClaimState) -> bool) {
        // The sender is part of `self` and outlives this future.
        let _ = self.state.subscribe().wait_for(|state| wanted(*state)).await;
    }

    /// Command that claims the data or renews the claim; pass its answer to [`Self::learn`].
    pub(crate) fn question(&self) -> Cmd {
        CLAIM.call(&[&self.key], &self.arguments(&self.fingerprints()))
    }

    fn arguments<'a>(&self, fingerprints: &'a [String]) -> Arguments<'a> {
        let may_take =
            self.waiting.lock().as_ref().is_none_or(|waiting| waiting.since.elapsed() >= LEFT_AFTER);
        Arguments {
            schema: SCHEMA,
            left_after: u64::try_from(LEFT_AFTER.as_millis()).unwrap_or(u64::MAX),
            seconds: KEPT.as_secs(),
            may_take,
            fingerprints,
        }
    }

    /// Stores the answer.
    ///
    /// # Errors
    /// [`Fault::OtherDeployment`] or [`Fault::NewerSchema`] if this instance must not use the data,
    /// or the fault because of which there was no answer.
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
                self.set(ClaimState::Held);
                Ok(())
            }
            "newer" => {
                self.set(ClaimState::Refused);
                Err(Fault::NewerSchema(number))
            }
            _ => {
                if waiting.as_ref().is_none_or(|waiting| waiting.named_at != number) {
                    *waiting = Some(Waiting { named_at: number, since: Instant::now() });
                }
                self.set(ClaimState::Refused);
                Err(Fault::OtherDeployment)
            }
        }
    }

    fn set(&self, new: ClaimState) {
        self.state.send_if_modified(|state| std::mem::replace(state, new) != new);
    }
}

/// Without repetitions: instances compare lists.
fn sorted(mut fingerprints: Vec<String>) -> Arc<[String]> {
    fingerprints.sort_unstable();
    fingerprints.dedup();
    fingerprints.into()
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
        claim.arguments(&[]).may_take
    }

    #[test]
    fn an_instance_that_comes_first_may_take_the_data_and_so_may_one_that_held_it() {
        let claim = claim();
        assert_eq!(*claim.fingerprints(), ["a", "b"]);
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
    fn fingerprints_that_a_reload_replaces_are_named_from_the_next_question_on() {
        let claim = claim();
        claim.learn(answer("held", 0)).unwrap();
        claim.replace_fingerprints(vec!["d".to_owned(), "c".to_owned(), "d".to_owned()]);
        assert_eq!(*claim.fingerprints(), ["c", "d"]);
        let question = claim.question().get_packed_command();
        let names = |fingerprint: &[u8]| question.windows(2).any(|bytes| bytes == fingerprint);
        // A text of one character in msgpack.
        assert!(names(b"\xa1c") && names(b"\xa1d") && !names(b"\xa1a") && !names(b"\xa1b"));
        assert!(claim.is_held() && may_take(&claim), "nothing has changed yet");
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_a_fault_and_changes_nothing() {
        let claim = claim();
        claim.learn(answer("held", 0)).unwrap();
        assert!(matches!(claim.learn(Ok(Value::Nil)), Err(Fault::Unexpected(_))));
        assert!(claim.is_held());
    }
}
