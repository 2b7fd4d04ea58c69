//! Revoked tokens are refused until they end.

use std::sync::Arc;
use std::time::Duration;

use vx11_operator::clock::{Clock, ManualClock};
use vx11_operator::metrics::Metrics;
use vx11_operator::service::Refusal;
use vx11_operator::store::MemoryStore;

use crate::support::{ACTIVE, Answers, NOW, grant, granted, memory, service, token};

/// The holder of a credential can sign a token that is refused at first because its end is too far
/// ahead. Its revocation must still be known when the end has come near enough, and no longer than
/// that.
#[tokio::test]
async fn a_post_dated_token_revoked_by_its_id_stays_revoked_until_its_end() {
    const SKEW: i64 = 2;
    /// Horizon of the expiry, skew, and a margin of a few seconds.
    const FORGOTTEN_AFTER: i64 = 2048 + SKEW + 5;
    let metrics = Arc::new(Metrics::new().unwrap());
    for life in [60, 900, 1000, 1500, 2047] {
        let clock = Arc::new(ManualClock::at(NOW));
        let store = memory(&clock);
        let service =
            service(Arc::<MemoryStore>::clone(&store), Arc::clone(&clock) as Arc<dyn Clock>, &metrics);
        let token = token(life, true);
        service.revoke(service.revocation_of_id(token.digest().id())).await.unwrap();
        let mut verified_times = 0;
        for second in 0..FORGOTTEN_AFTER {
            if let Ok(verified) = service.verify(&token.reveal()) {
                let judged = service.authorise(&verified).await.map(|_| ());
                assert_eq!(judged, Err(Refusal::Revoked), "a life of {life} s, after {second} s");
                verified_times += 1;
            }
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(verified_times, life.min(902) + SKEW, "a life of {life} s");
        store.sweep();
        assert_eq!(store.entries(), 0, "the tombstone of a life of {life} s is forgotten");
    }
}

#[tokio::test]
async fn a_token_revoked_by_itself_stays_revoked_until_its_end() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let store = memory(&clock);
    let service = service(store, Arc::clone(&clock) as Arc<dyn Clock>, &metrics);
    let token = token(60, true);
    service.revoke(service.revocation_of_token(&token.reveal()).unwrap()).await.unwrap();
    // Its tag is accepted for two seconds more.
    for _ in 0..62 {
        let verified = service.verify(&token.reveal()).unwrap();
        assert_eq!(service.authorise(&verified).await.map(|_| ()), Err(Refusal::Revoked));
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(service.verify(&token.reveal()).map(|_| ()), Err(Refusal::Expired));
}

/// The UUID alone cannot be verified, because its tag covers the grant.
/// Its streams may still be open.
#[tokio::test]
async fn a_token_that_has_expired_is_revoked_like_its_id() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let service = service(Arc::new(Answers(Ok(ACTIVE))), Arc::clone(&clock) as Arc<dyn Clock>, &metrics);
    let token = token(60, false);
    clock.advance(Duration::from_mins(2));
    assert_eq!(service.verify(&token.reveal()).map(|_| ()), Err(Refusal::Expired));
    assert_eq!(service.revocation_of_token(&token.reveal()).map(|it| it.id), Some(token.digest().id()));
}

#[tokio::test]
async fn a_token_is_revoked_by_its_uuid_without_its_grant() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let store = memory(&clock);
    let service = service(store, clock, &metrics);
    let text = granted(&grant());
    let (uuid, grant) = text.split_once('.').unwrap();
    for nothing in ["", "nonsense", grant, &format!("{uuid}."), &format!("{uuid}.{grant}A")] {
        assert!(service.revocation_of_token(nothing).is_none(), "{nothing}");
    }
    service.revoke(service.revocation_of_token(uuid).unwrap()).await.unwrap();
    let verified = service.verify(&text).unwrap();
    assert_eq!(service.authorise(&verified).await.map(|_| ()), Err(Refusal::Revoked));
}
