//! Validity of tokens: each row of the table in `docs/architecture.md`, with a store that answers
//! as the row says. `store_contract` tests the answers of real stores.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use vx11_operator::clock::{Clock, Jitter, ManualClock, UnixMillis};
use vx11_operator::control::{Control, ControlDeps};
use vx11_operator::events::{Epoch, Hub, HubDeps, LogPlace, RingLimits, StreamLimits, StreamSettings};
use vx11_operator::metrics::Metrics;
use vx11_operator::principal::{Principal, PrincipalId, Principals, Rights};
use vx11_operator::service::{Access, IssueError, IssueRequest, Refusal, TokenService, TokenServiceDeps};
use vx11_operator::store::{
    Backend, Lookup, MemoryLimits, MemoryStore, Recorded, RevocationScope, StoreError, StoreStatistics,
    TokenStore, WhenLost,
};
use vx11_operator::token::{
    Claims, Codec, Draft, Grant, Nonce, NonceSource, Record, Resource, SigningKeys, Subject, Token,
    TokenDigest, TokenId, written,
};
use vx11_operator::topic::Patterns;

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

/// A principal that may do everything.
fn unlimited(id: PrincipalId) -> Principal {
    Principal::new(id, Rights::all(), Patterns::all())
}

fn grant() -> Grant {
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
fn token(life: i64, offline: bool) -> Token {
    let expires_at = NOW.seconds().checked_add_signed(life).unwrap();
    Codec::new(keys()).mint(&principal(), Claims { expires_at, offline, nonce: Nonce::from_bits(1) }, None)
}

/// A token with this grant that ends a minute from `NOW`, as text.
fn granted(grant: &Grant) -> String {
    let claims = Claims { expires_at: NOW.seconds() + 60, offline: true, nonce: Nonce::from_bits(1) };
    let grant = grant.encode().unwrap();
    written(&Codec::new(keys()).mint(&principal(), claims, Some(&grant)), Some(&grant))
}

/// Principals with secrets of the same names.
fn access(ids: &[&str]) -> Access {
    let unlimited = |id: &&str| unlimited(PrincipalId::parse(id).unwrap());
    let principals = Principals::new(ids.iter().map(|id| (unlimited(id), *id)));
    Access { principals, codec: Codec::new(keys()) }
}

fn service(store: Arc<dyn TokenStore>, clock: Arc<dyn Clock>, metrics: &Arc<Metrics>) -> TokenService {
    service_with(WhenLost::Accept, store, clock, metrics)
}

fn service_with(
    when_lost: WhenLost,
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> TokenService {
    TokenService::new(TokenServiceDeps { when_lost, ..service_deps(store, clock, metrics) })
}

fn service_deps(
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
            limits: StreamLimits { all: 1, per_token: None, per_principal: None, per_subject: None },
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
        let told = service.introspect(&token(60, false).reveal()).await;
        assert_eq!(told.map(|told| told.is_some()), expected, "{answer:?}");
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
    let limits = MemoryLimits { entries: 100, bytes: u64::MAX };
    let store = Arc::new(MemoryStore::new(limits, Arc::clone(&clock) as Arc<dyn Clock>));
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
