//! Tokens have what was asked for.

use std::sync::Arc;
use std::time::Duration;

use vx11_operator::clock::{ManualClock, UnixMillis};
use vx11_operator::metrics::Metrics;
use vx11_operator::principal::PrincipalId;
use vx11_operator::service::{IssueError, IssueRequest};
use vx11_operator::store::Backend;
use vx11_operator::token::{Grant, Record};
use vx11_operator::topic::Patterns;

use crate::support::{NOW, TTL, Takes, access, grant, principal, service, unlimited};

#[tokio::test]
async fn a_token_has_the_offline_bit_exactly_if_its_store_mints_it_offline() {
    let metrics = Arc::new(Metrics::new().unwrap());
    for is_away in [false, true] {
        let store = Arc::new(Takes { is_away, ..Takes::default() });
        let service =
            service(Arc::<Takes>::clone(&store), Arc::new(ManualClock::at(UnixMillis(NOW.0 + 1))), &metrics);
        let issued = service.issue(&unlimited(principal()), None).await.unwrap();
        let backend = if is_away { Backend::FallbackMemory } else { Backend::Redis };
        assert_eq!((issued.backend, issued.ttl), (backend, TTL));
        let verified = service.verify(&issued.text).unwrap();
        assert_eq!(verified.claims.offline, is_away);
        // The whole second that is not before the end of the record.
        assert_eq!(verified.claims.expires_at, NOW.seconds() + TTL.as_secs() + 1);
        let record = Record { issued_at: UnixMillis(NOW.0 + 1), expires_at: issued.expires_at };
        assert_eq!(*store.records.lock().unwrap(), [(verified.token.digest(), record)]);
        assert_eq!(issued.id, verified.token.digest().id());
    }
}

/// The record of a token is the same with and without a grant.
#[tokio::test]
async fn a_token_is_issued_with_the_grant_and_the_life_that_are_asked_for() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = Arc::new(Takes::default());
    let service = service(Arc::<Takes>::clone(&store), Arc::new(ManualClock::at(NOW)), &metrics);
    let Grant { subject, topics, .. } = grant();
    let life = Duration::from_mins(5);
    let request = IssueRequest { subject, topics, expires_in: Some(life), ..IssueRequest::default() };
    let issued = service.issue(&unlimited(principal()), Some(request)).await.unwrap();
    assert_eq!(
        (issued.ttl, issued.expires_at, issued.grant.as_ref()),
        (life, NOW.plus(life), Some(&grant()))
    );
    let verified = service.verify(&issued.text).unwrap();
    assert_eq!(verified.grant.as_deref(), Some(&grant()));
    let record = Record { issued_at: NOW, expires_at: NOW.plus(life) };
    assert_eq!(*store.records.lock().unwrap(), [(verified.token.digest(), record)]);
    // The store of this test answers no look-up, so that the token tells about itself.
    let introspection = service.introspect(&issued.text).await.unwrap().unwrap();
    assert_eq!((introspection.issued_at, introspection.grant.as_deref()), (NOW, Some(&grant())));
}

#[tokio::test]
async fn a_principal_that_plain_tokens_are_not_tried_against_gets_a_grant_for_default() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let service = service(Arc::new(Takes::default()), Arc::new(ManualClock::at(NOW)), &metrics);
    let names: Vec<_> = (0..17).map(|n| format!("p{n}")).collect();
    service.replace_access(access(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    for (name, is_plain) in [("p0", true), ("p15", true), ("p16", false)] {
        let id = PrincipalId::parse(name).unwrap();
        let issued = service.issue(&unlimited(id.clone()), None).await.unwrap();
        assert_eq!(issued.grant.is_none(), is_plain, "{name}");
        let verified = service.verify(&issued.text).unwrap();
        assert!(verified.principal == id && verified.patterns().is_default(), "{name}");
        assert_eq!(verified.grant.and_then(|grant| grant.subject), None);
    }
}

#[tokio::test]
async fn nothing_is_issued_with_a_grant_that_is_too_long() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = Arc::new(Takes::default());
    let service = service(Arc::<Takes>::clone(&store), Arc::new(ManualClock::at(NOW)), &metrics);
    let topics: Vec<_> = (0..16).map(|n| format!("{n}/{}", "x".repeat(100))).collect();
    let topics = Patterns::new(topics.iter().map(String::as_str)).unwrap();
    let request = IssueRequest { topics, ..IssueRequest::default() };
    let issued = service.issue(&unlimited(principal()), Some(request)).await;
    assert_eq!(issued.map(|_| ()), Err(IssueError::GrantTooLong));
    assert_eq!(store.records.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_token_has_the_limits_that_were_asked_for() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let service = service(Arc::new(Takes::default()), Arc::new(ManualClock::at(NOW)), &metrics);
    let until = Some(NOW.plus(Duration::from_hours(8)));
    for (stream_until, single_use) in [(None, false), (until, false), (None, true), (until, true)] {
        let request = IssueRequest { stream_until, single_use, ..IssueRequest::default() };
        let issued = service.issue(&unlimited(principal()), Some(request)).await.unwrap();
        let grant = service.verify(&issued.text).unwrap().grant.unwrap();
        assert_eq!((grant.stream_until, grant.single_use), (stream_until, single_use));
        assert_eq!(
            (issued.ttl, issued.expires_at),
            (Duration::from_mins(1), NOW.plus(Duration::from_mins(1)))
        );
    }
}
