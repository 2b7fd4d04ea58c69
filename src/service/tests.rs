//! Tokens of subjects while this instance may not know all orders.

use async_trait::async_trait;

use super::*;
use crate::clock::ManualClock;
use crate::control::tests::control_with_redis;
use crate::principal::Rights;
use crate::token::{SigningKeys, TokenDigest};

const NOW: UnixMillis = UnixMillis(1_767_470_400_000);

/// A store that takes and has every record.
struct Complete;

#[async_trait]
impl TokenStore for Complete {
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError> {
        Ok(Recorded { token: draft.mint(), backend: Backend::Redis })
    }

    async fn lookup(&self, _: TokenDigest, _: UnixMillis) -> Result<Lookup, StoreError> {
        Ok(Lookup::Active(Record { issued_at: NOW, expires_at: NOW.plus(Duration::from_mins(1)) }))
    }

    async fn revoke(&self, _: TokenId, _: UnixMillis) -> Result<RevocationScope, StoreError> {
        Ok(RevocationScope::Cluster)
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        Ok(StoreStatistics::default())
    }

    fn backend(&self) -> Backend {
        Backend::Redis
    }
}

fn principal() -> Principal {
    Principal::new(PrincipalId::parse("operator").unwrap(), Rights::all(), Patterns::all())
}

fn service(when_lost: WhenLost) -> TokenService {
    let keys = SigningKeys::from_hex(["5a".repeat(32).as_str()]).unwrap();
    TokenService::new(TokenServiceDeps {
        access: Access { principals: Principals::new([(principal(), "operator")]), codec: Codec::new(keys) },
        store: Arc::new(Complete),
        nonces: NonceSource::new("1", 1),
        ttl: Duration::from_mins(1),
        when_lost,
        clock: Arc::new(ManualClock::at(NOW)),
        control: Arc::new(control_with_redis()),
        metrics: Arc::new(Metrics::new().unwrap()),
    })
}

fn subject() -> Subject {
    Subject::parse("user-7").unwrap()
}

/// Issues a token, for a subject or for none.
async fn issue(service: &TokenService, subject: Option<Subject>) -> Result<String, IssueError> {
    let request = IssueRequest { subject, ..IssueRequest::default() };
    service.issue(&principal(), Some(request)).await.map(|issued| issued.text)
}

async fn authorise(service: &TokenService, token: &str) -> Result<(), Refusal> {
    service.authorise(&service.verify(token)?).await.map(|_| ())
}

/// All orders that are in Redis are read at this moment.
fn reads_all_orders(service: &TokenService) {
    service.control.became_current(tokio::time::Instant::now());
}

#[tokio::test(start_paused = true)]
async fn with_refuse_a_token_of_a_subject_is_unproven_until_all_orders_are_read() {
    let service = service(WhenLost::Refuse);
    let unavailable = IssueError::Store(StoreError::Unavailable);
    assert_eq!(issue(&service, Some(subject())).await, Err(unavailable));
    let plain = issue(&service, None).await.unwrap();
    reads_all_orders(&service);
    let token = issue(&service, Some(subject())).await.unwrap();
    assert_eq!(authorise(&service, &token).await, Ok(()));
    // The orders cannot be read any more.
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(authorise(&service, &token).await, Err(Refusal::Unproven));
    assert_eq!(service.introspect(&token).await.err(), Some(StoreError::Unavailable));
    assert_eq!(issue(&service, Some(subject())).await, Err(unavailable));
    assert_eq!(authorise(&service, &plain).await, Ok(()), "no order is about it");
    reads_all_orders(&service);
    assert_eq!(authorise(&service, &token).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn with_refuse_a_subject_that_is_known_to_be_blocked_is_refused_for_good() {
    let service = service(WhenLost::Refuse);
    reads_all_orders(&service);
    let token = issue(&service, Some(subject())).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    service.control.block(subject(), Duration::from_mins(1)).await.unwrap();
    assert_eq!(authorise(&service, &token).await, Err(Refusal::Blocked));
    assert_eq!(issue(&service, Some(subject())).await, Err(IssueError::SubjectBlocked));
}

#[tokio::test(start_paused = true)]
async fn with_accept_a_token_of_a_subject_is_accepted_although_orders_may_be_unread() {
    let service = service(WhenLost::Accept);
    let token = issue(&service, Some(subject())).await.unwrap();
    assert_eq!(authorise(&service, &token).await, Ok(()));
}
