//! The failover store with a primary that fails on demand, which a real Redis does not do at a
//! chosen moment. Time moves only when a test advances it.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use vx11_operator::clock::{Clock, Jitter, ManualClock, UnixMillis};
use vx11_operator::metrics::Metrics;
use vx11_operator::redis::Fault;
use vx11_operator::store::{
    Backend, BreakerState, Entries, FailoverStore, FailoverStoreDeps, Figures, HealthCheck, HealthCheckDeps,
    HealthReport, Lookup, MemoryLimits, MemoryStore, Primary, Recorded, RevocationScope, SharedBreaker,
    StoreError, StoreStatistics, TokenStore, WhenLost,
};
use vx11_operator::token::{Draft, Record, Token, TokenDigest, TokenId};

const START: UnixMillis = UnixMillis(1_767_470_400_000);

/// Next results of the primary, and its calls.
#[derive(Default)]
struct Script {
    /// Why it cannot be used.
    fault: Option<Fault>,
    /// Number of records that cannot be written although the primary is healthy.
    failing_records: u32,
    /// Number of restorations that fail although the primary is healthy.
    failing_restores: u32,
    /// Number of restorations that succeed before one fails.
    fail_at: Option<u32>,
    /// A tombstone that it refuses whenever it is brought.
    refuses: Option<TokenId>,
    report: HealthReport,
    records: BTreeMap<TokenDigest, Record>,
    /// Tokens that another instance has revoked.
    revoked: BTreeSet<TokenDigest>,
    /// In the order in which they came: ids of tombstones, and of records.
    brought: Vec<(&'static str, TokenId)>,
}

#[derive(Default)]
struct Scripted(Mutex<Script>);

impl Scripted {
    fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.lock().unwrap());
    }

    fn brought(&self) -> Vec<(&'static str, TokenId)> {
        self.0.lock().unwrap().brought.clone()
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.0.lock().unwrap().fault.is_some() { Err(StoreError::Unavailable) } else { Ok(()) }
    }
}

#[async_trait]
impl TokenStore for Scripted {
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError> {
        self.check()?;
        let token = draft.mint();
        let mut script = self.0.lock().unwrap();
        if script.failing_records > 0 {
            script.failing_records -= 1;
            return Err(StoreError::Unavailable);
        }
        script.records.insert(token.digest(), draft.record);
        Ok(Recorded { token, backend: Backend::Redis })
    }

    async fn lookup(&self, digest: TokenDigest, _issued_after: UnixMillis) -> Result<Lookup, StoreError> {
        self.check()?;
        let script = self.0.lock().unwrap();
        if script.revoked.contains(&digest) {
            return Ok(Lookup::Revoked);
        }
        let found = script.records.get(&digest).copied();
        Ok(found.map_or(Lookup::Absent { complete: true }, Lookup::Active))
    }

    async fn revoke(&self, id: TokenId, _until: UnixMillis) -> Result<RevocationScope, StoreError> {
        self.check()?;
        self.set(|script| script.brought.push(("tombstone", id)));
        Ok(RevocationScope::Cluster)
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        Ok(StoreStatistics::default())
    }

    fn backend(&self) -> Backend {
        Backend::Redis
    }
}

#[async_trait]
impl Primary for Scripted {
    async fn check_health(&self, _figures: Figures) -> Result<HealthReport, Fault> {
        let mut script = self.0.lock().unwrap();
        script.fault.clone().map_or_else(|| Ok(std::mem::take(&mut script.report)), Err)
    }

    async fn restore(&self, entries: &Entries) -> Result<u64, Fault> {
        let mut script = self.0.lock().unwrap();
        if script.failing_restores > 0 {
            script.failing_restores -= 1;
            return Err(Fault::Timeout);
        }
        script.fail_at = match script.fail_at {
            Some(0) => {
                script.fail_at = None;
                return Err(Fault::Timeout);
            }
            at => at.map(|at| at - 1),
        };
        let (refused, taken): (Vec<_>, Vec<_>) =
            entries.tombstones.iter().map(|(id, _)| *id).partition(|id| script.refuses == Some(*id));
        script.brought.extend(taken.into_iter().map(|id| ("tombstone", id)));
        script.brought.extend(entries.records.iter().map(|(digest, _)| ("record", digest.id())));
        script.records.extend(entries.records.iter().copied());
        Ok(refused.len() as u64)
    }
}

struct Testbed {
    primary: Arc<Scripted>,
    store: Arc<FailoverStore>,
    breaker: Arc<SharedBreaker>,
    metrics: Arc<Metrics>,
}

impl Testbed {
    /// With a running health check, and the primary in use.
    async fn start() -> Self {
        Self::with(WhenLost::Accept).await
    }

    async fn with(when_lost: WhenLost) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
        let metrics = Arc::new(Metrics::new().unwrap());
        let breaker = Arc::new(SharedBreaker::new(Arc::clone(&clock), Arc::clone(&metrics)));
        let memory = || MemoryStore::new(MemoryLimits { entries: ROOM, bytes: u64::MAX }, Arc::clone(&clock));
        let primary = Arc::new(Scripted::default());
        let store = Arc::new(FailoverStore::new(FailoverStoreDeps {
            primary: Arc::<Scripted>::clone(&primary),
            breaker: Arc::clone(&breaker),
            standby: memory(),
            revoked: memory(),
            when_lost,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        }));
        let mut health_check = HealthCheck::new(HealthCheckDeps {
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
            jitter: Arc::new(Jitter::seeded(7)),
        });
        health_check.begin().await;
        tokio::spawn(health_check.run());
        let testbed = Self { primary, store, breaker, metrics };
        assert_eq!(testbed.store.backend(), Backend::Redis);
        testbed
    }

    async fn break_with(&self, fault: Fault) {
        self.primary.set(|script| script.fault = Some(fault));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            (self.breaker.state(), self.store.backend()),
            (BreakerState::Open, Backend::FallbackMemory)
        );
    }

    async fn heal(&self) {
        self.primary.set(|script| script.fault = None);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    async fn lose_data(&self) {
        self.primary.set(|script| {
            script.brought.clear();
            script.report = HealthReport { lost_data: true, ..HealthReport::default() };
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// The value of a counter.
    fn counted(&self, name: &str) -> u64 {
        let page = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        let line = page.lines().find(|line| line.starts_with(name)).expect("it is counted");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn waiting(&self) -> u64 {
        self.store.statistics().await.unwrap().standby.unwrap().entries
    }

    async fn issue_offline(&self, number: u32) -> TokenDigest {
        let recorded = self.store.record(&draft(number)).await;
        let expected = Recorded { token: offline(number), backend: Backend::FallbackMemory };
        assert_eq!(recorded, Ok(expected));
        expected.token.digest()
    }
}

/// For tokens or revocations, in each memory.
const ROOM: u64 = 5000;

const RECORD: Record = Record { issued_at: START, expires_at: UnixMillis(START.0 + 60_000) };

fn token(number: u32, last: u8) -> Token {
    Token::parse(&format!("{number:08x}-0000-8000-8000-00000000000{last}")).unwrap()
}

/// A token without the offline bit, for the tests of revocations.
fn digest(number: u32) -> TokenDigest {
    token(number, 0).digest()
}

/// The token that is minted for draft `number` with the offline bit.
fn offline(number: u32) -> Token {
    token(number, 1)
}

fn draft(number: u32) -> Draft<'static> {
    Draft::new(RECORD, move |is_offline| token(number, is_offline.into()))
}

#[tokio::test(start_paused = true)]
async fn what_an_outage_left_is_brought_to_the_primary_tombstones_first_before_it_is_used_again() {
    let testbed = Testbed::start().await;
    testbed.break_with(Fault::Loading).await;
    let (kept, revoked) = (testbed.issue_offline(1).await, digest(2));
    assert_eq!(testbed.store.revoke(revoked.id(), RECORD.expires_at).await, Ok(RevocationScope::Instance));
    assert_eq!((testbed.waiting().await, testbed.store.statistics().await.unwrap().live), (2, 1));
    assert_eq!(testbed.store.lookup(kept, START).await, Ok(Lookup::Active(RECORD)));
    assert_eq!(testbed.store.lookup(revoked, START).await, Ok(Lookup::Revoked));
    testbed.heal().await;
    assert_eq!(testbed.primary.brought(), [("tombstone", revoked.id()), ("record", kept.id())]);
    assert_eq!((testbed.waiting().await, testbed.store.backend()), (0, Backend::Redis));
}

#[tokio::test(start_paused = true)]
async fn with_refuse_nothing_is_issued_without_the_primary_and_revocations_wait_for_it() {
    let testbed = Testbed::with(WhenLost::Refuse).await;
    // A single call that fails, and an outage.
    testbed.primary.set(|script| script.failing_records = 1);
    assert_eq!(testbed.store.record(&draft(1)).await, Err(StoreError::Unavailable));
    testbed.break_with(Fault::Loading).await;
    assert_eq!(testbed.store.record(&draft(2)).await, Err(StoreError::Unavailable));
    assert_eq!(testbed.waiting().await, 0);
    let revoked = digest(3);
    assert_eq!(testbed.store.lookup(revoked, START).await, Err(StoreError::Unavailable));
    assert_eq!(testbed.store.revoke(revoked.id(), RECORD.expires_at).await, Ok(RevocationScope::Instance));
    assert_eq!(testbed.store.lookup(revoked, START).await, Ok(Lookup::Revoked));
    testbed.heal().await;
    assert_eq!(testbed.primary.brought(), [("tombstone", revoked.id())]);
    let recorded = testbed.store.record(&draft(4)).await;
    assert_eq!(recorded, Ok(Recorded { token: token(4, 0), backend: Backend::Redis }));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_in_the_primary_outranks_a_record_in_the_standby() {
    let testbed = Testbed::start().await;
    testbed.break_with(Fault::Loading).await;
    let token = testbed.issue_offline(1).await;
    testbed.primary.set(|script| {
        script.failing_restores = u32::MAX;
        script.revoked.insert(token);
    });
    testbed.heal().await;
    assert_eq!(testbed.waiting().await, 1);
    assert_eq!(testbed.store.lookup(token, START).await, Ok(Lookup::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_well_but_does_not_take_what_it_missed_is_not_used() {
    let testbed = Testbed::start().await;
    testbed.break_with(Fault::Loading).await;
    testbed.issue_offline(1).await;
    testbed.primary.set(|script| script.failing_restores = u32::MAX);
    testbed.heal().await;
    assert_eq!((testbed.waiting().await, testbed.store.backend()), (1, Backend::FallbackMemory));
    testbed.primary.set(|script| script.failing_restores = 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((testbed.waiting().await, testbed.store.backend()), (0, Backend::Redis));
}

#[tokio::test(start_paused = true)]
async fn more_than_one_batch_is_brought_over_and_each_token_once() {
    let testbed = Testbed::start().await;
    testbed.break_with(Fault::Timeout).await;
    for number in 0..2500 {
        testbed.issue_offline(number).await;
    }
    testbed.heal().await;
    let mut brought: Vec<_> = testbed.primary.brought().into_iter().map(|(_, id)| id).collect();
    brought.sort_unstable();
    brought.dedup();
    assert_eq!((brought.len(), testbed.primary.brought().len(), testbed.waiting().await), (2500, 2500, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_one_failed_call_left_behind_is_brought_over_without_an_outage() {
    let testbed = Testbed::start().await;
    testbed.primary.set(|script| script.failing_records = 1);
    let token = testbed.issue_offline(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(testbed.primary.brought(), [("record", token.id())]);
    assert_eq!(testbed.waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn revocations_that_a_primary_lost_are_brought_to_it_until_it_has_them() {
    let testbed = Testbed::start().await;
    let (own, others) = (digest(1).id(), digest(2).id());
    testbed.store.revoke(own, RECORD.expires_at).await.unwrap();
    testbed.store.apply_revocation(others, RECORD.expires_at).await;
    testbed.primary.set(|script| {
        script.brought.clear();
        script.failing_restores = 1;
        script.report = HealthReport { lost_data: true, ..HealthReport::default() };
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut brought = testbed.primary.brought();
    brought.sort_unstable();
    let mut expected = [("tombstone", own), ("tombstone", others)];
    expected.sort_unstable();
    assert_eq!(brought, expected);
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_that_the_primary_refuses_is_counted_and_stops_no_other() {
    let testbed = Testbed::start().await;
    let (refused, others) = (digest(1).id(), [digest(2).id(), digest(3).id()]);
    testbed.primary.set(|script| script.refuses = Some(refused));
    for id in [refused, others[0], others[1]] {
        testbed.store.apply_revocation(id, RECORD.expires_at).await;
    }
    testbed.lose_data().await;
    let mut brought = testbed.primary.brought();
    brought.sort_unstable();
    let mut expected = others.map(|id| ("tombstone", id));
    expected.sort_unstable();
    assert_eq!(brought, expected, "each once: it is not tried again");
    assert_eq!(testbed.counted("vx11_operator_revocations_invalid_total"), 1);
    assert_eq!(testbed.store.backend(), Backend::Redis);
}

#[tokio::test(start_paused = true)]
async fn what_the_primary_takes_after_a_loss_is_brought_once_although_a_later_part_fails() {
    let testbed = Testbed::start().await;
    for number in 0..2500 {
        testbed.store.apply_revocation(digest(number).id(), RECORD.expires_at).await;
    }
    testbed.primary.set(|script| script.fail_at = Some(2));
    testbed.lose_data().await;
    let mut brought: Vec<_> = testbed.primary.brought().into_iter().map(|(_, id)| id).collect();
    brought.sort_unstable();
    brought.dedup();
    assert_eq!((brought.len(), testbed.primary.brought().len()), (2500, 2500));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_the_primary_did_not_take_waits_to_be_announced_until_it_is_received() {
    let testbed = Testbed::start().await;
    let (taken, missed) = (digest(1).id(), digest(2).id());
    testbed.store.revoke(taken, RECORD.expires_at).await.unwrap();
    assert_eq!(testbed.store.unannounced(9), []);
    testbed.break_with(Fault::Loading).await;
    testbed.store.revoke(missed, RECORD.expires_at).await.unwrap();
    testbed.heal().await;
    assert_eq!(testbed.store.unannounced(9), [(missed, RECORD.expires_at)], "a tombstone tells nobody");
    testbed.store.apply_revocation(missed, RECORD.expires_at).await;
    assert_eq!(testbed.store.unannounced(9), []);
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_of_data_what_others_have_announced_again_waits_no_longer() {
    let testbed = Testbed::start().await;
    let ids = [digest(1).id(), digest(2).id(), digest(3).id()];
    for id in ids {
        testbed.store.apply_revocation(id, RECORD.expires_at).await;
    }
    assert_eq!((testbed.store.losses(), testbed.store.unannounced(9)), (0, vec![]));
    testbed.lose_data().await;
    assert_eq!(testbed.store.losses(), 1);
    testbed.store.announce_all();
    assert_eq!(testbed.store.unannounced(9).len(), ids.len());
    testbed.store.apply_revocation(ids[0], RECORD.expires_at).await;
    testbed.store.announced(&[(ids[1], RECORD.expires_at)]);
    assert_eq!(testbed.store.unannounced(9), [(ids[2], RECORD.expires_at)]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_for_which_there_is_no_room_is_counted() {
    let testbed = Testbed::start().await;
    let room = ROOM + ROOM / 8;
    for number in 0..u32::try_from(room).unwrap() + 3 {
        testbed.store.apply_revocation(digest(number).id(), RECORD.expires_at).await;
    }
    assert_eq!(testbed.counted("vx11_operator_revocations_forgotten_total"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_well_again_at_once_is_still_seen_twice_before_it_is_used() {
    let testbed = Testbed::start().await;
    testbed.break_with(Fault::ReadOnly).await;
    testbed.primary.set(|script| script.fault = None);
    let mut states = Vec::new();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        states.push(testbed.breaker.state());
    }
    states.dedup();
    assert_eq!(states, [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed]);
}
