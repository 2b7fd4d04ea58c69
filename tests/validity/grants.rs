//! Grants, and the principals and keys that are in force.

use std::sync::Arc;
use std::time::Duration;

use vx11_operator::clock::ManualClock;
use vx11_operator::metrics::Metrics;
use vx11_operator::service::Refusal;
use vx11_operator::token::{Grant, Resource};

use crate::support::{ACTIVE, Answers, NOW, access, grant, granted, service, token};

/// An instance of a later release has issued it. This release would open more than was granted.
#[tokio::test]
async fn a_token_with_a_limit_that_this_release_cannot_enforce_is_refused_and_can_be_revoked() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let service = service(Arc::new(Answers(Ok(ACTIVE))), Arc::new(ManualClock::at(NOW)), &metrics);
    assert!(service.verify(&granted(&grant())).is_ok());
    let text = granted(&Grant { resource: Resource::parse("/orders"), ..grant() });
    assert_eq!(service.verify(&text).map(|_| ()), Err(Refusal::Unsupported));
    assert_eq!(service.introspect(&text).await, Ok(None));
    assert!(service.revocation_of_token(&text).is_some());
}

#[tokio::test]
async fn a_token_whose_streams_would_have_ended_is_expired_and_can_be_revoked() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let service = service(Arc::new(Answers(Ok(ACTIVE))), Arc::<ManualClock>::clone(&clock), &metrics);
    let end = NOW.plus(Duration::from_secs(1));
    let text = granted(&Grant { stream_until: Some(end), ..grant() });
    clock.advance(Duration::from_millis(999));
    assert!(service.verify(&text).is_ok());
    assert_eq!(service.introspect(&text).await.unwrap().map(|token| token.expires_at), Some(end));
    clock.advance(Duration::from_millis(1));
    assert_eq!(service.verify(&text).map(|_| ()), Err(Refusal::Expired));
    assert_eq!(service.introspect(&text).await, Ok(None));
    assert!(service.revocation_of_token(&text).is_some());
}

#[tokio::test]
async fn the_end_of_the_streams_does_not_lengthen_the_life_of_a_token() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let service = service(Arc::new(Answers(Ok(ACTIVE))), Arc::new(ManualClock::at(NOW)), &metrics);
    let of = |stream_until| granted(&Grant { stream_until, ..grant() });
    let ends = [of(None), of(Some(NOW.plus(Duration::from_hours(1))))];
    let [plain, later] = ends.each_ref().map(|text| service.introspect(text));
    let (plain, later) = (plain.await.unwrap().unwrap(), later.await.unwrap().unwrap());
    assert_eq!(plain.expires_at, later.expires_at);
}

#[tokio::test]
async fn a_token_is_judged_by_the_principals_and_keys_that_are_in_force() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let service = service(Arc::new(Answers(Ok(ACTIVE))), Arc::new(ManualClock::at(NOW)), &metrics);
    let (plain, granted) = (token(60, false).reveal(), granted(&grant()));
    assert!(service.verify(&plain).is_ok() && service.verify(&granted).is_ok());
    assert!(service.authenticate(b"operator").is_some() && service.authenticate(b"billing").is_none());
    service.replace_access(access(&["billing"]));
    assert!(service.authenticate(b"operator").is_none() && service.authenticate(b"billing").is_some());
    for text in [&plain, &granted] {
        assert_eq!(service.verify(text).map(|_| ()), Err(Refusal::Forged));
    }
    service.replace_access(access(&["billing", "operator"]));
    assert!(service.verify(&plain).is_ok() && service.verify(&granted).is_ok());
}
