//! Effects that outlive their request: they are finished and audited even if the client has left.

use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest};
use futures_util::FutureExt;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::AppState;
use super::error::Problem;
use super::extract::client_address;
use super::jwt::acting_user;
use crate::audit::{Asker, Begun, Effect};
use crate::limits::LONGEST_EFFECT;
use crate::principal::PrincipalId;
use crate::telemetry::RequestId;

/// Bound of the wait at a stop for effects whose clients have left: the longest effect, and the
/// time that a busy machine needs to notice its deadline.
const LAST_EFFECTS: Duration = LONGEST_EFFECT.saturating_add(Duration::from_millis(350));

/// Effects that run independently of their request.
#[derive(Debug, Clone, Default)]
pub struct Effects(TaskTracker);

impl Effects {
    /// Runs an effect to its end, even if the caller is dropped: actix drops a handler when its
    /// client closes the connection.
    ///
    /// # Errors
    /// [`Problem::Internal`] if the effect panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        effect: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let mut effect = Box::pin(effect);
        // An effect that never waits, as without Redis, needs no task.
        if let Some(outcome) = effect.as_mut().now_or_never() {
            return Ok(outcome);
        }
        // On the runtime of this worker. If the runtime ends first, the effect is dropped, with the
        // outcome unknown.
        self.0.spawn(effect.in_current_span()).await.map_err(|_panicked| Problem::Internal)
    }

    /// Waits for running effects, at most `LAST_EFFECTS`.
    pub async fn finish(&self) {
        self.0.close();
        let _ = tokio::time::timeout(LAST_EFFECTS, self.0.wait()).await;
    }
}

/// Runs an effect without work after it, except for its audit line.
pub(super) async fn run_noted<T: Send + 'static>(
    state: &AppState,
    effect: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    if state.audit.is_kept() { state.effects.run(effect).await } else { Ok(effect.await) }
}

/// Begins an effect for `principal`; `None` without an audit trail.
pub(super) fn begin(
    request: &HttpRequest,
    state: &AppState,
    principal: &PrincipalId,
    begun: Begun,
) -> Option<Effect> {
    state.audit.is_kept().then(|| {
        let user = acting_user(request, state);
        let extensions = request.extensions();
        let client = client_address(request, &state.trusted_proxies);
        let asker = Asker { client, request_id: extensions.get::<RequestId>(), user: user.as_deref() };
        Effect::begin(&state.audit, begun, principal, asker)
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;
    use crate::audit::{Act, Audit, AuditSettings, ClientAddress};
    use crate::clock::SystemClock;
    use crate::limits::{QUESTION_DEADLINE, REDIS_DEADLINE};
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn an_effect_whose_client_hangs_up_is_finished() {
        let effects = Effects::default();
        let (answer, answered) = oneshot::channel();
        let (done, mut finishes) = oneshot::channel();
        let effect = async move {
            answered.await.unwrap();
            done.send(()).unwrap();
        };
        // Dropped while it waits, like a handler whose client closes the connection.
        assert!(effects.run(effect).now_or_never().is_none());
        assert!(finishes.try_recv().is_err());
        answer.send(()).unwrap();
        finishes.await.expect("the effect goes on");
    }

    #[tokio::test]
    async fn an_effect_that_waits_for_nothing_is_done_within_its_request() {
        let effects = Effects::default();
        let outcome = effects.run(async { 1 }).now_or_never();
        assert_eq!(outcome.expect("no task is waited for").unwrap(), 1);
    }

    #[tokio::test]
    async fn an_effect_that_panics_is_answered_as_a_defect() {
        let effects = Effects::default();
        let effect = async {
            tokio::task::yield_now().await;
            panic!("a defect");
        };
        let outcome: Result<(), _> = effects.run(effect).await;
        assert_eq!(outcome.unwrap_err().code(), "internal");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_effects_and_not_for_ever() {
        let effects = Effects::default();
        let (answer, answered) = oneshot::channel::<()>();
        assert!(effects.run(async move { answered.await.is_ok() }).now_or_never().is_none());
        assert!(effects.finish().now_or_never().is_none(), "an effect still runs");
        drop(answer);
        effects.finish().await;
        assert!(effects.0.is_empty());
        assert!(effects.run(std::future::pending::<()>()).now_or_never().is_none());
        let began = Instant::now();
        // Ends with the paused clock, after the longest effect would have ended.
        effects.finish().await;
        assert!(began.elapsed() > REDIS_DEADLINE + QUESTION_DEADLINE);
    }

    #[test]
    fn a_token_whose_issuing_never_ends_has_one_line_of_an_unknown_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let settings = AuditSettings { file: file.clone(), client_address: ClientAddress::Full };
        let metrics = Arc::new(Metrics::new().unwrap());
        let audit = Audit::open(Some(&settings), "1".into(), Arc::new(SystemClock), &metrics).unwrap();
        let (audit, principal) = (Arc::new(audit), PrincipalId::parse("billing").unwrap());
        let asker = Asker { client: Ipv4Addr::LOCALHOST.into(), request_id: None, user: None };
        let effect = Effect::begin(&audit, Begun::Issue, &principal, asker);
        let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
        worker.block_on(async {
            let issuing = async move {
                pending::<()>().await;
                effect.ended(Act::Issue {
                    token_id: Some("3f9a1c0b5d7e2f48"),
                    principal: "billing",
                    outcome: None,
                });
            };
            assert!(Effects::default().run(issuing).now_or_never().is_none());
        });
        // The worker ends before the store answers.
        drop(worker);
        audit.flush();
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line] = lines.as_slice() else { panic!("one line, and not {text}") };
        assert_eq!((&line["action"], &line["outcome"]), (&"issue".into(), &"unknown".into()));
        assert_eq!(line.get("token_id"), None);
    }
}
