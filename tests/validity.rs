//! Validity of tokens: each row of the table in `docs/architecture.md`, with a store that answers
//! as the row says. `store_contract` tests the answers of real stores.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use vx11_operator::clock::{Clock, ManualClock, UnixMillis};
use vx11_operator::metrics::Metrics;
use vx11_operator::principal::{PrincipalId, Principals};
use vx11_operator::service::{Refusal, TokenService, TokenServiceDeps};
use vx11_operator::store::{
    Backend, Lookup, MemoryLimits, MemoryStore, Recorded, RevocationScope, StoreError, StoreStatistics,
    TokenStore,
};
use vx11_operator::token::{
    Claims, Codec, Draft, Nonce, NonceSource, Record, SigningKeys, Token, TokenDigest, TokenId,
};

const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
const TTL: Duration = Duration::from_mins(1);

/// A store that gives one answer to every lookup.
struct Answers(Result<Lookup, StoreError>);

#[async_trait]
impl TokenStore for Answers {
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError> {
        Ok(Recorded { token: draft.mint(), backend: Backend::Redis })
    }

    async fn lookup(&self, _: TokenDigest, _: UnixMillis) -> Result<Lookup, StoreError> {
        self.0
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

/// A store that takes records. While its primary is away, it mints as `failover` does.
#[derive(Default)]
struct Takes {
    is_away: bool,
    records: Mutex<Vec<(TokenDigest, Record)>>,
}

#[async_trait]
impl TokenStore for Takes {
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError> {
        let (token, backend) = if self.is_away {
            (draft.mint_offline(), Backend::FallbackMemory)
        } else {
            (draft.mint(), Backend::Redis)
        };
        self.records.lock().unwrap().push((token.digest(), draft.record));
        Ok(Recorded { token, backend })
    }

    async fn lookup(&self, _: TokenDigest, _: UnixMillis) -> Result<Lookup, StoreError> {
        Err(StoreError::Unavailable)
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

fn keys() -> SigningKeys {
    SigningKeys::from_hex(["5a".repeat(32).as_str()]).unwrap()
}

fn principal() -> PrincipalId {
    PrincipalId::parse("operator").unwrap()
}

/// A token that ends `life` seconds from `NOW`.
fn token(life: i64, offline: bool) -> Token {
    let expires_at = NOW.seconds().checked_add_signed(life).unwrap();
    Codec::new(keys()).mint(&principal(), Claims { expires_at, offline, nonce: Nonce::from_bits(1) })
}

fn service(store: Arc<dyn TokenStore>, clock: Arc<dyn Clock>, metrics: &Arc<Metrics>) -> TokenService {
    TokenService::new(TokenServiceDeps {
        codec: Codec::new(keys()),
        principals: Principals::new([(principal(), "secret")]),
        store,
        nonces: NonceSource::new("1", 1),
        ttl: TTL,
        clock,
        metrics: Arc::clone(metrics),
    })
}

/// Answer of a service about a token that ends in `life` seconds, and whether it was accepted by
/// its tag alone.
async fn judge(answer: Result<Lookup, StoreError>, offline: bool, life: i64) -> (Result<(), Refusal>, bool) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let service = service(Arc::new(Answers(answer)), Arc::new(ManualClock::at(NOW)), &metrics);
    let verified = service.verify(&token(life, offline).reveal()).unwrap();
    let judged = service.authorise(&verified).await.map(|_| ());
    let page = String::from_utf8(metrics.render().unwrap()).unwrap();
    let by_signature = page.contains("degraded_accepts_total{service=\"operator-backend\"} 1\n");
    (judged, by_signature)
}

const ACTIVE: Lookup = Lookup::Active(Record { issued_at: NOW, expires_at: UnixMillis(NOW.0 + 60_000) });
const SURELY_ABSENT: Lookup = Lookup::Absent { complete: true };
const PERHAPS_LOST: Lookup = Lookup::Absent { complete: false };

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
        let limits = MemoryLimits { entries: 100, bytes: u64::MAX };
        let store = Arc::new(MemoryStore::new(limits, Arc::clone(&clock) as Arc<dyn Clock>));
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
    let limits = MemoryLimits { entries: 100, bytes: u64::MAX };
    let store = Arc::new(MemoryStore::new(limits, Arc::clone(&clock) as Arc<dyn Clock>));
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

#[tokio::test]
async fn a_token_has_the_offline_bit_exactly_if_its_store_mints_it_offline() {
    let metrics = Arc::new(Metrics::new().unwrap());
    for is_away in [false, true] {
        let store = Arc::new(Takes { is_away, ..Takes::default() });
        let service =
            service(Arc::<Takes>::clone(&store), Arc::new(ManualClock::at(UnixMillis(NOW.0 + 1))), &metrics);
        let issued = service.issue(&principal()).await.unwrap();
        let backend = if is_away { Backend::FallbackMemory } else { Backend::Redis };
        assert_eq!((issued.backend, issued.ttl), (backend, TTL));
        let verified = service.verify(&issued.token.reveal()).unwrap();
        assert_eq!(verified.claims.offline, is_away);
        // The whole second that is not before the end of the record.
        assert_eq!(verified.claims.expires_at, NOW.seconds() + TTL.as_secs() + 1);
        let record = Record { issued_at: UnixMillis(NOW.0 + 1), expires_at: issued.expires_at };
        assert_eq!(*store.records.lock().unwrap(), [(issued.token.digest(), record)]);
        assert_eq!(issued.id, issued.token.digest().id());
    }
}

/// The longest life is 900 s. Rounding adds up to 1 s to the end of a token, and the clock of the
/// instance that issued it up to 2 s.
#[tokio::test]
async fn a_token_without_a_record_is_refused_only_if_no_instance_can_have_issued_it_before_the_store_began() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let limits = MemoryLimits { entries: 100, bytes: u64::MAX };
    let store = Arc::new(MemoryStore::new(limits, Arc::clone(&clock) as Arc<dyn Clock>));
    let service = service(store, Arc::clone(&clock) as Arc<dyn Clock>, &metrics);
    clock.advance(Duration::from_secs(10));
    for (life, expected) in [(902, Ok(())), (903, Err(Refusal::Unknown))] {
        let verified = service.verify(&token(life, false).reveal()).unwrap();
        assert_eq!(service.authorise(&verified).await.map(|_| ()), expected, "{life}");
    }
}

#[tokio::test]
async fn introspection_tells_about_valid_tokens_only() {
    for (answer, is_told) in [(Ok(ACTIVE), true), (Ok(Lookup::Revoked), false), (Ok(SURELY_ABSENT), false)] {
        let metrics = Arc::new(Metrics::new().unwrap());
        let service = service(Arc::new(Answers(answer)), Arc::new(ManualClock::at(NOW)), &metrics);
        let token = token(60, false);
        let told = service
            .introspect(&token.reveal())
            .await
            .map(|about| (about.id, about.principal, about.issued_at, about.expires_at));
        let expected = (token.digest().id(), principal(), NOW, UnixMillis(NOW.0 + 60_000));
        assert_eq!(told, is_told.then_some(expected), "{answer:?}");
        assert_eq!(service.introspect("no token").await, None);
    }
}
