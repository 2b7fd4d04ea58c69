//! The table: what the store answers about a token, and whether it is accepted.

use std::sync::Arc;
use std::time::Duration;

use vx11_operator::clock::{Clock, ManualClock, UnixMillis};
use vx11_operator::metrics::Metrics;
use vx11_operator::service::Refusal;
use vx11_operator::store::{Lookup, StoreError, WhenLost};

use crate::support::{
    ACTIVE, Answers, NOW, PERHAPS_LOST, SURELY_ABSENT, memory, principal, service, service_with, token,
};

/// Answer of a service about a token that ends in `life` seconds, and whether it was accepted by
/// its tag alone.
async fn judge(answer: Result<Lookup, StoreError>, offline: bool, life: i64) -> (Result<(), Refusal>, bool) {
    judge_with(WhenLost::Accept, answer, offline, life).await
}

async fn judge_with(
    when_lost: WhenLost,
    answer: Result<Lookup, StoreError>,
    offline: bool,
    life: i64,
) -> (Result<(), Refusal>, bool) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let (store, clock) = (Arc::new(Answers(answer)), Arc::new(ManualClock::at(NOW)));
    let service = service_with(when_lost, store, clock, &metrics);
    let verified = service.verify(&token(life, offline).reveal()).unwrap();
    let judged = service.authorise(&verified).await.map(|_| ());
    let page = String::from_utf8(metrics.render().unwrap()).unwrap();
    let by_signature = page.contains("degraded_accepts_total{service=\"operator-backend\"} 1\n");
    (judged, by_signature)
}

#[tokio::test]
async fn the_store_decides_where_it_knows_and_the_signature_where_it_does_not() {
    for (answer, offline, expected, by_signature) in [
        (Ok(ACTIVE), false, Ok(()), false),
        (Ok(ACTIVE), true, Ok(()), false),
        (Ok(Lookup::Revoked), false, Err(Refusal::Revoked), false),
        (Ok(Lookup::Revoked), true, Err(Refusal::Revoked), false),
        (Ok(SURELY_ABSENT), false, Err(Refusal::Unknown), false),
        (Ok(SURELY_ABSENT), true, Ok(()), false),
        (Ok(PERHAPS_LOST), false, Ok(()), true),
        (Ok(PERHAPS_LOST), true, Ok(()), false),
        (Err(StoreError::Unavailable), false, Ok(()), true),
        (Err(StoreError::Unavailable), true, Ok(()), true),
    ] {
        let judged = judge(answer, offline, 60).await;
        assert_eq!(judged, (expected, by_signature), "{answer:?}, offline {offline}");
    }
}

/// Nothing is accepted by its tag alone, and nothing is refused for good that may be valid.
#[tokio::test]
async fn with_refuse_a_token_is_accepted_if_its_record_is_there_and_refused_for_good_if_none_can_be() {
    for (answer, offline, expected) in [
        (Ok(ACTIVE), false, Ok(())),
        (Ok(ACTIVE), true, Ok(())),
        (Ok(Lookup::Revoked), false, Err(Refusal::Revoked)),
        (Ok(Lookup::Revoked), true, Err(Refusal::Revoked)),
        (Ok(SURELY_ABSENT), false, Err(Refusal::Unknown)),
        // Another instance issued it without Redis, and may not have brought the record yet.
        (Ok(SURELY_ABSENT), true, Err(Refusal::Unproven)),
        (Ok(PERHAPS_LOST), false, Err(Refusal::Unproven)),
        (Ok(PERHAPS_LOST), true, Err(Refusal::Unproven)),
        (Err(StoreError::Unavailable), false, Err(Refusal::Unproven)),
        (Err(StoreError::Unavailable), true, Err(Refusal::Unproven)),
    ] {
        let judged = judge_with(WhenLost::Refuse, answer, offline, 60).await;
        assert_eq!(judged, (expected, false), "{answer:?}, offline {offline}");
        // Only where no store can be asked, nothing is known about a token whose time is over.
        let over = judge_with(WhenLost::Refuse, answer, offline, 0).await.0;
        let expected = match answer {
            Ok(Lookup::Absent { .. }) => Err(Refusal::Expired),
            _ => expected,
        };
        assert_eq!(over, expected, "{answer:?}, offline {offline}");
    }
}

#[tokio::test]
async fn with_refuse_introspection_tells_nothing_about_a_token_that_may_be_valid() {
    for (answer, expected) in [
        (Ok(ACTIVE), Ok(true)),
        (Ok(Lookup::Revoked), Ok(false)),
        (Ok(SURELY_ABSENT), Ok(false)),
        (Ok(PERHAPS_LOST), Err(StoreError::Unavailable)),
        (Err(StoreError::Unavailable), Err(StoreError::Unavailable)),
    ] {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (store, clock) = (Arc::new(Answers(answer)), Arc::new(ManualClock::at(NOW)));
        let service = service_with(WhenLost::Refuse, store, clock, &metrics);
        let described = service.introspect(&token(60, false).reveal()).await;
        assert_eq!(described.map(|described| described.is_some()), expected, "{answer:?}");
        assert_eq!(service.introspect("no token").await, Ok(None));
    }
}

/// Two seconds of skew count only where no store can be asked.
#[tokio::test]
async fn a_token_whose_time_is_over_is_refused_wherever_a_store_answers() {
    for (answer, expected) in [
        (Ok(SURELY_ABSENT), Err(Refusal::Expired)),
        (Ok(PERHAPS_LOST), Err(Refusal::Expired)),
        (Ok(Lookup::Revoked), Err(Refusal::Revoked)),
        (Err(StoreError::Unavailable), Ok(())),
    ] {
        for offline in [false, true] {
            assert_eq!(judge(answer, offline, 0).await.0, expected, "{answer:?}, offline {offline}");
            assert_eq!(judge(answer, offline, -1).await.0, expected, "{answer:?}, offline {offline}");
        }
    }
}

/// The longest life is 900 s. Rounding adds up to 1 s to the end of a token, and the clock of the
/// instance that issued it up to 2 s.
#[tokio::test]
async fn a_token_without_a_record_is_refused_only_if_no_instance_can_have_issued_it_before_the_store_began() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let store = memory(&clock);
    let service = service(store, Arc::clone(&clock) as Arc<dyn Clock>, &metrics);
    clock.advance(Duration::from_secs(10));
    for (life, expected) in [(902, Ok(())), (903, Err(Refusal::Unknown))] {
        let verified = service.verify(&token(life, false).reveal()).unwrap();
        assert_eq!(service.authorise(&verified).await.map(|_| ()), expected, "{life}");
    }
}

#[tokio::test]
async fn introspection_tells_about_valid_tokens_only() {
    for (answer, is_active) in [(Ok(ACTIVE), true), (Ok(Lookup::Revoked), false), (Ok(SURELY_ABSENT), false)]
    {
        let metrics = Arc::new(Metrics::new().unwrap());
        let service = service(Arc::new(Answers(answer)), Arc::new(ManualClock::at(NOW)), &metrics);
        let token = token(60, false);
        let described = service
            .introspect(&token.reveal())
            .await
            .unwrap()
            .map(|about| (about.id, about.principal, about.issued_at, about.expires_at));
        let expected = (token.digest().id(), principal(), NOW, UnixMillis(NOW.0 + 60_000));
        assert_eq!(described, is_active.then_some(expected), "{answer:?}");
        assert_eq!(service.introspect("no token").await, Ok(None));
    }
}
