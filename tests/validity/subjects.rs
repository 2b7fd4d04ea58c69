//! Blocked and revoked subjects.

use std::sync::Arc;
use std::time::Duration;

use vx11_operator::clock::ManualClock;
use vx11_operator::control::Control;
use vx11_operator::metrics::Metrics;
use vx11_operator::service::{IssueError, IssueRequest, Refusal, TokenService};
use vx11_operator::store::RevocationScope;
use vx11_operator::token::Subject;

use crate::support::{NOW, TTL, Takes, principal, service_deps, unlimited};

/// A service whose store answers no lookup, with its control.
struct Testbed {
    clock: Arc<ManualClock>,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    service: TokenService,
}

impl Testbed {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let clock = Arc::new(ManualClock::at(NOW));
        let deps = service_deps(Arc::new(Takes::default()), Arc::<ManualClock>::clone(&clock), &metrics);
        let control = Arc::clone(&deps.control);
        Self { clock, control, metrics, service: TokenService::new(deps) }
    }

    async fn issue(&self, subject: &str) -> Result<String, IssueError> {
        let request = IssueRequest { subject: Subject::parse(subject), ..IssueRequest::default() };
        self.service.issue(&unlimited(principal()), Some(request)).await.map(|issued| issued.text)
    }

    /// Whether a token opens a stream. Introspection has to agree.
    async fn judge(&self, text: &str) -> Result<(), Refusal> {
        let verified = self.service.verify(text).unwrap();
        let judged = self.service.authorise(&verified).await.map(|_| ());
        assert_eq!(self.service.introspect(text).await.unwrap().is_some(), judged.is_ok());
        judged
    }

    fn blocked_attempts(&self, at: &str) -> bool {
        let page = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        page.contains(&format!(
            "vx11_operator_blocked_attempts_total{{at=\"{at}\",service=\"operator-backend\"}} 1"
        ))
    }
}

#[tokio::test]
async fn a_blocked_subject_gets_no_token_and_its_tokens_are_refused_until_the_end_of_the_block() {
    let testbed = Testbed::new();
    let (mine, other) = (testbed.issue("user-7").await.unwrap(), testbed.issue("user-8").await.unwrap());
    let subject = Subject::parse("user-7").unwrap();
    let length = Duration::from_secs(30);
    let blocked = testbed.control.block(subject.clone(), length).await;
    assert_eq!(blocked, Ok((RevocationScope::Cluster, NOW.plus(length))));
    assert_eq!(testbed.judge(&mine).await, Err(Refusal::Blocked));
    assert_eq!(testbed.issue("user-7").await, Err(IssueError::SubjectBlocked));
    assert!(["issue", "open", "other"].iter().all(|at| testbed.blocked_attempts(at)));
    assert_eq!(testbed.judge(&other).await, Ok(()));
    testbed.clock.advance(length / 2);
    assert_eq!(testbed.judge(&mine).await, Err(Refusal::Blocked));
    testbed.clock.advance(length / 2);
    assert_eq!(testbed.judge(&mine).await, Ok(()));
    testbed.control.block(subject.clone(), length).await.unwrap();
    assert_eq!(testbed.control.unblock(subject).await, Ok(RevocationScope::Cluster));
    assert_eq!(testbed.judge(&mine).await, Ok(()));
    assert!(testbed.issue("user-7").await.is_ok());
}

#[tokio::test]
async fn a_revoked_subjects_tokens_are_refused_and_those_that_it_gets_afterwards_are_not() {
    let testbed = Testbed::new();
    let (mine, other) = (testbed.issue("user-7").await.unwrap(), testbed.issue("user-8").await.unwrap());
    let subject = Subject::parse("user-7").unwrap();
    assert_eq!(testbed.control.revoke_subject(subject).await, Ok(RevocationScope::Cluster));
    // In the same millisecond.
    let next = testbed.issue("user-7").await.unwrap();
    testbed.clock.advance(Duration::from_millis(1));
    assert_eq!(testbed.judge(&mine).await, Err(Refusal::Revoked));
    assert_eq!(testbed.judge(&next).await, Ok(()));
    assert_eq!(testbed.judge(&other).await, Ok(()));
    testbed.clock.advance(TTL / 2);
    assert_eq!(testbed.judge(&mine).await, Err(Refusal::Revoked));
    let plain = testbed.service.issue(&unlimited(principal()), None).await.unwrap().text;
    assert_eq!(testbed.judge(&plain).await, Ok(()), "it has no subject");
}
