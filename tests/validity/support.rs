//! Stores that answer as a test wants, and services over them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use vx11_operator::clock::{Clock, Jitter, ManualClock, UnixMillis};
use vx11_operator::control::{Control, ControlDeps};
use vx11_operator::events::{Epoch, Hub, HubDeps, LogPlace, RingLimits, StreamLimits, StreamSettings};
use vx11_operator::metrics::Metrics;
use vx11_operator::principal::{Principal, PrincipalId, Principals, Rights};
use vx11_operator::service::{Access, TokenService, TokenServiceDeps};
use vx11_operator::store::{
    Backend, Lookup, MemoryLimits, MemoryStore, Recorded, RevocationScope, StoreError, StoreStatistics,
    TokenStore, WhenLost,
};
use vx11_operator::token::{
    Claims, Codec, Draft, Grant, Nonce, NonceSource, Record, SigningKeys, Subject, Token, TokenDigest,
    TokenId, written,
};
use vx11_operator::topic::Patterns;

pub(crate) const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
pub(crate) const TTL: Duration = Duration::from_mins(1);

/// A store that gives one answer to every lookup.
pub(crate) struct Answers(pub(crate) Result<Lookup, StoreError>);

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
pub(crate) struct Takes {
    pub(crate) is_away: bool,
    pub(crate) records: Mutex<Vec<(TokenDigest, Record)>>,
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

/// A store in memory, which has room for all records of a test.
pub(crate) fn memory(clock: &Arc<ManualClock>) -> Arc<MemoryStore> {
    let limits = MemoryLimits { entries: 100, bytes: u64::MAX };
    Arc::new(MemoryStore::new(limits, Arc::<ManualClock>::clone(clock)))
}

fn keys() -> SigningKeys {
    SigningKeys::from_hex(["5a".repeat(32).as_str()]).unwrap()
}

pub(crate) fn principal() -> PrincipalId {
    PrincipalId::parse("operator").unwrap()
}

/// A principal that may do everything.
pub(crate) fn unlimited(id: PrincipalId) -> Principal {
    Principal::new(id, Rights::all(), Patterns::all())
}

pub(crate) fn grant() -> Grant {
    Grant {
        principal: principal(),
        issued_at: NOW,
        subject: Subject::parse("user-7"),
        topics: Patterns::new(["orders/*"]).unwrap(),
        stream_until: None,
        single_use: false,
        resource: None,
    }
}

/// A token that ends `life` seconds from `NOW`.
pub(crate) fn token(life: i64, offline: bool) -> Token {
    let expires_at = NOW.seconds().checked_add_signed(life).unwrap();
    Codec::new(keys()).mint(&principal(), Claims { expires_at, offline, nonce: Nonce::from_bits(1) }, None)
}

/// A token with this grant that ends a minute from `NOW`, as text.
pub(crate) fn granted(grant: &Grant) -> String {
    let claims = Claims { expires_at: NOW.seconds() + 60, offline: true, nonce: Nonce::from_bits(1) };
    let grant = grant.encode().unwrap();
    written(&Codec::new(keys()).mint(&principal(), claims, Some(&grant)), Some(&grant))
}

/// Principals with secrets of the same names.
pub(crate) fn access(ids: &[&str]) -> Access {
    let unlimited = |id: &&str| unlimited(PrincipalId::parse(id).unwrap());
    let principals = Principals::new(ids.iter().map(|id| (unlimited(id), *id)));
    Access { principals, codec: Codec::new(keys()) }
}

pub(crate) fn service(
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> TokenService {
    service_with(WhenLost::Accept, store, clock, metrics)
}

pub(crate) fn service_with(
    when_lost: WhenLost,
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> TokenService {
    TokenService::new(TokenServiceDeps { when_lost, ..service_deps(store, clock, metrics) })
}

pub(crate) fn service_deps(
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> TokenServiceDeps {
    TokenServiceDeps {
        access: access(&["operator"]),
        store,
        nonces: NonceSource::new("1", 1),
        ttl: TTL,
        when_lost: WhenLost::Accept,
        control: Arc::new(control(Arc::clone(&clock), metrics)),
        clock,
        metrics: Arc::clone(metrics),
    }
}

/// Control of an instance without streams and without Redis.
fn control(clock: Arc<dyn Clock>, metrics: &Arc<Metrics>) -> Control {
    let hub = Hub::new(HubDeps {
        instance_id: "1".to_owned(),
        log: LogPlace::Own(Epoch(1)),
        ring: RingLimits { entries: 1, bytes: 1000 },
        streams: StreamSettings {
            limits: StreamLimits { all: 1, per_token: None, per_principal: None },
            heartbeat: Duration::from_secs(15),
            coalesce: Duration::ZERO,
            max_age: Duration::from_mins(15),
            retry: Duration::from_secs(3),
        },
        clock: Arc::clone(&clock),
        jitter: Arc::new(Jitter::seeded(1)),
        metrics: Arc::clone(metrics),
        stream_events: None,
    });
    Control::new(ControlDeps {
        instance_id: "1".to_owned(),
        hub: Arc::new(hub),
        clock,
        metrics: Arc::clone(metrics),
        shared: None,
    })
}

pub(crate) const ACTIVE: Lookup =
    Lookup::Active(Record { issued_at: NOW, expires_at: UnixMillis(NOW.0 + 60_000) });
pub(crate) const SURELY_ABSENT: Lookup = Lookup::Absent { complete: true };
pub(crate) const PERHAPS_LOST: Lookup = Lookup::Absent { complete: false };
