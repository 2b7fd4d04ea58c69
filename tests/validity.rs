//! When a token is valid: each row of the table in `docs/architecture.md`, with a store that answers as the row says. What
//! real stores answer is held by `store_contract`.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use vx11_operator::ambient::{Clock, ManualClock, UnixMillis};
use vx11_operator::metrics::Metrics;
use vx11_operator::principal::{PrincipalId, Principals};
use vx11_operator::service::{Parts, Refusal, TokenService};
use vx11_operator::store::{Backend, Lookup, Reach, StoreError, StoreStatistics, TokenStore};
use vx11_operator::token::{Claims, Codec, Nonce, NonceSource, Record, SigningKeys, TokenDigest, TokenId};

const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
const TTL: Duration = Duration::from_mins(1);

/// A store that gives one answer to every look-up.
struct Answers(Result<Lookup, StoreError>);

#[async_trait]
impl TokenStore for Answers {
    async fn record(&self, _: TokenDigest, _: Record) -> Result<Backend, StoreError> {
        Ok(Backend::Redis)
    }

    async fn lookup(&self, _: TokenDigest, _: UnixMillis) -> Result<Lookup, StoreError> {
        self.0
    }

    async fn revoke(&self, _: TokenId, _: UnixMillis) -> Result<Reach, StoreError> {
        Ok(Reach::Cluster)
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

/// What a service says about a token that ends `life` seconds from now, and whether it accepted it on its signature alone.
async fn judge(answer: Result<Lookup, StoreError>, offline: bool, life: i64) -> (Result<(), Refusal>, bool) {
    let principal = PrincipalId::parse("operator").unwrap();
    let expires_at = NOW.seconds().checked_add_signed(life).unwrap();
    let claims = Claims { expires_at, offline, nonce: Nonce::from_bits(1) };
    let token = Codec::new(keys()).mint(&principal, claims).reveal();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let metrics = Arc::new(Metrics::new().unwrap());
    let service = TokenService::new(Parts {
        codec: Codec::new(keys()),
        principals: Principals::new([(principal, "secret")]),
        store: Arc::new(Answers(answer)),
        nonces: NonceSource::new("1", 1),
        ttl: TTL,
        clock,
        metrics: Arc::clone(&metrics),
    });
    let verified = service.verify(&token).unwrap();
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
