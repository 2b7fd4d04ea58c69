//! The contract of `TokenStore`, written once and held by every backend. A new backend is a line in
//! `backends`.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::sync::Arc;
use std::time::Duration;

use vx11_kit::{RedisCluster, RedisServer, eventually};
use vx11_operator::clock::{Clock, Jitter, ManualClock, UnixMillis};
use vx11_operator::metrics::Metrics;
use vx11_operator::redis::{Claim, HostPort, Namespace, RedisSettings, Topology};
use vx11_operator::store::{
    ENTRY_BYTES, Entries, FailoverStore, FailoverStoreDeps, Figures, HealthCheck, HealthCheckDeps, Lookup,
    MemoryLimits, MemoryStore, Primary, RedisStore, RedisStoreDeps, SharedBreaker, StoreError, TokenStore,
    WhenLost,
};
use vx11_operator::token::{Draft, Record, Token, TokenDigest};

const START: UnixMillis = UnixMillis(1_767_470_400_000);
const MINUTE: Duration = Duration::from_mins(1);
/// As long as a token lives at most.
const LIFE: Duration = Duration::from_mins(15);

/// A store, and the means to let time pass for it.
struct Subject {
    name: &'static str,
    store: Arc<dyn TokenStore>,
    clock: Arc<ManualClock>,
    servers: Servers,
}

/// The server of a store.
enum Servers {
    None,
    One(Box<RedisServer>),
    Cluster(RedisCluster),
}

/// Every backend, with a separate Redis if it needs one.
async fn backends() -> Vec<Subject> {
    vec![
        bounded(1000),
        redis("redis", Servers::One(Box::new(RedisServer::start().await))).await,
        redis("cluster", Servers::Cluster(RedisCluster::start(true).await)).await,
        failover(RedisServer::start().await).await,
    ]
}

/// The backend with a bound of `room` entries.
fn bounded(room: u64) -> Subject {
    let clock = Arc::new(ManualClock::at(START));
    let store = Arc::new(memory(room, &clock));
    Subject { name: "memory", store, clock, servers: Servers::None }
}

fn memory(room: u64, clock: &Arc<ManualClock>) -> MemoryStore {
    MemoryStore::new(MemoryLimits { entries: room, bytes: u64::MAX }, Arc::<ManualClock>::clone(clock))
}

/// A Redis store by itself, with its breaker closed.
async fn redis(name: &'static str, servers: Servers) -> Subject {
    let clock = Arc::new(ManualClock::at(START));
    let (store, breaker, _) = connect(&servers, &clock);
    store.check_health(Figures::default()).await.unwrap();
    breaker.close(0);
    Subject { name, store, clock, servers }
}

/// Redis with memory beside it.
async fn failover(server: RedisServer) -> Subject {
    let clock = Arc::new(ManualClock::at(START));
    let servers = Servers::One(Box::new(server));
    let (primary, breaker, metrics) = connect(&servers, &clock);
    let store = Arc::new(FailoverStore::new(FailoverStoreDeps {
        primary,
        breaker,
        standby: memory(1000, &clock),
        revoked: memory(1000, &clock),
        when_lost: WhenLost::Accept,
        clock: Arc::<ManualClock>::clone(&clock),
        metrics: Arc::clone(&metrics),
    }));
    let jitter = Arc::new(Jitter::seeded(7));
    let deps = HealthCheckDeps { store: Arc::clone(&store), metrics, jitter };
    let mut health_check = HealthCheck::new(deps);
    health_check.begin().await;
    Subject { name: "failover", store, clock, servers }
}

fn connect(
    servers: &Servers,
    clock: &Arc<ManualClock>,
) -> (Arc<RedisStore>, Arc<SharedBreaker>, Arc<Metrics>) {
    let host_port = |address: String| HostPort::parse(&address, 0).unwrap();
    let topology = match servers {
        Servers::None => unreachable!("only what is kept in Redis connects"),
        Servers::One(server) => Topology::Single(host_port(server.address())),
        Servers::Cluster(cluster) => {
            Topology::Cluster { nodes: cluster.addresses().into_iter().map(host_port).collect() }
        }
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let breaker = Arc::new(SharedBreaker::new(Arc::clone(&clock), Arc::clone(&metrics)));
    let settings = RedisSettings {
        topology,
        username: None,
        password: None,
        sentinel_password: None,
        db: 1,
        namespace: Namespace::default(),
        tls: false,
        ca: None,
        client: None,
    };
    let jitter = Arc::new(Jitter::seeded(7));
    let claim = Arc::new(Claim::new(&settings.namespace, vec!["0123456789abcdef".to_owned()]));
    let parts = RedisStoreDeps {
        instance_id: "1".to_owned(),
        start: 1,
        token_ttl: MINUTE,
        claim,
        monitor: Arc::default(),
        clock,
        jitter,
        breaker: Arc::clone(&breaker),
    };
    (Arc::new(RedisStore::new(settings, parts).unwrap()), breaker, metrics)
}

/// An answer of Redis, asked again where it misses its deadline on a busy machine.
async fn in_the_end<T, E>(breaker: &SharedBreaker, ask: impl AsyncFn() -> Result<T, E>) -> T {
    eventually("Redis to answer", async || {
        let answer = ask().await;
        // Timeouts open the breaker.
        if !breaker.is_closed() {
            breaker.close(0);
        }
        answer.ok()
    })
    .await
}

fn token(number: u32) -> Token {
    Token::parse(&format!("{number:08x}-0000-8000-8000-000000000000")).unwrap()
}

fn digest(number: u32) -> TokenDigest {
    token(number).digest()
}

const ABSENT: Lookup = Lookup::Absent { complete: true };

impl Subject {
    fn record(&self, life: Duration) -> Record {
        let issued_at = self.clock.now();
        Record { issued_at, expires_at: issued_at.plus(life) }
    }

    async fn remember(&self, number: u32, life: Duration) -> Result<(), StoreError> {
        let draft = Draft::new(self.record(life), |_offline| token(number));
        self.store.record(&draft).await.map(drop)
    }

    async fn lookup(&self, number: u32) -> Lookup {
        self.store.lookup(digest(number), START).await.unwrap()
    }

    /// Time before its end at which a record is looked up. Records in Redis also age while the test
    /// runs, which may be slow on a busy machine.
    fn last_moment(&self) -> Duration {
        match self.servers {
            Servers::None => Duration::from_millis(1),
            Servers::One(_) | Servers::Cluster(_) => MINUTE,
        }
    }

    async fn live(&self) -> u64 {
        self.store.statistics().await.unwrap().live
    }

    /// Lets time pass, for the store's clock and for what it keeps in Redis. Redis has no clock
    /// that a test could move: what it keeps is brought nearer to its end instead.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        match &self.servers {
            Servers::None => {}
            Servers::One(server) => age(server, time).await,
            Servers::Cluster(cluster) => {
                for node in cluster.nodes() {
                    age(node, time).await;
                }
            }
        }
    }
}

/// Takes `time` off the life of every key that has one.
async fn age(server: &RedisServer, time: Duration) {
    for key in server.keys().await {
        let left: i64 = redis::from_redis_value(server.command(&["PTTL", &key]).await).unwrap();
        if left >= 0 {
            let left = left - i64::try_from(time.as_millis()).unwrap();
            server.command(&["PEXPIRE", &key, &left.to_string()]).await;
        }
    }
}

#[tokio::test]
async fn a_record_is_found_from_the_moment_it_was_made_until_its_expiry_and_not_after() {
    for subject in backends().await {
        let record = subject.record(LIFE);
        subject.remember(1, LIFE).await.unwrap();
        assert_eq!(subject.lookup(1).await, Lookup::Active(record));
        let last = subject.last_moment();
        subject.pass(LIFE.checked_sub(last).unwrap()).await;
        assert_eq!(subject.lookup(1).await, Lookup::Active(record), "{}", subject.name);
        subject.pass(last).await;
        assert_eq!(subject.lookup(1).await, ABSENT, "{}", subject.name);
    }
}

#[tokio::test]
async fn what_was_never_recorded_is_absent_which_is_not_revoked() {
    for subject in backends().await {
        assert_eq!(subject.lookup(1).await, ABSENT, "{}", subject.name);
    }
}

#[tokio::test]
async fn a_full_store_refuses_new_records_says_when_to_return_and_drops_none() {
    let subject = bounded(3);
    for number in 0..3 {
        subject.remember(number, MINUTE).await.unwrap();
    }
    let Err(StoreError::Full { retry_after }) = subject.remember(3, MINUTE).await else {
        panic!("not refused")
    };
    assert!(retry_after > Duration::ZERO && retry_after <= MINUTE);
    for number in 0..3 {
        assert!(matches!(subject.lookup(number).await, Lookup::Active(_)));
    }
    subject.pass(retry_after).await;
    subject.remember(3, MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_store_in_memory_is_bounded_in_bytes_as_well() {
    let clock = Arc::new(ManualClock::at(START));
    let limits = MemoryLimits { entries: 1000, bytes: 3 * ENTRY_BYTES };
    let store = MemoryStore::new(limits, Arc::<ManualClock>::clone(&clock));
    let record = Record { issued_at: START, expires_at: START.plus(MINUTE) };
    for number in 0..3 {
        store.insert(digest(number), record).unwrap();
    }
    assert!(matches!(store.insert(digest(3), record), Err(StoreError::Full { .. })));
}

#[tokio::test]
async fn recording_again_takes_no_further_room() {
    let subject = bounded(1);
    for _ in 0..3 {
        subject.remember(1, MINUTE).await.unwrap();
    }
    assert_eq!(subject.live().await, 1);
}

#[tokio::test]
async fn a_revoked_token_reads_as_revoked_whether_recorded_before_after_or_never() {
    for subject in backends().await {
        let until = subject.clock.now().plus(MINUTE);
        subject.remember(1, MINUTE).await.unwrap();
        for number in 1..=2 {
            subject.store.revoke(digest(number).id(), until).await.unwrap();
        }
        subject.remember(2, MINUTE).await.unwrap();
        assert_eq!(subject.lookup(1).await, Lookup::Revoked);
        assert_eq!(subject.lookup(2).await, Lookup::Revoked);
        assert_eq!(subject.lookup(3).await, ABSENT, "{}", subject.name);
    }
}

#[tokio::test]
async fn revoking_again_extends_and_never_shortens() {
    for subject in backends().await {
        let id = digest(1).id();
        let now = subject.clock.now();
        for life in [LIFE / 2, LIFE, LIFE / 4] {
            subject.store.revoke(id, now.plus(life)).await.unwrap();
        }
        let last = subject.last_moment();
        subject.pass(LIFE.checked_sub(last).unwrap()).await;
        assert_eq!(subject.lookup(1).await, Lookup::Revoked);
        subject.pass(last).await;
        assert_eq!(subject.lookup(1).await, ABSENT, "{}", subject.name);
    }
}

#[tokio::test]
async fn a_full_store_says_so_when_it_cannot_remember_a_revocation() {
    let subject = bounded(1);
    subject.remember(1, MINUTE).await.unwrap();
    let until = subject.clock.now().plus(MINUTE);
    assert!(matches!(subject.store.revoke(digest(2).id(), until).await, Err(StoreError::Full { .. })));
}

#[tokio::test]
async fn a_full_store_can_still_take_its_tokens_back() {
    let subject = bounded(1);
    subject.remember(1, MINUTE).await.unwrap();
    subject.store.revoke(digest(1).id(), subject.clock.now().plus(MINUTE)).await.unwrap();
    assert_eq!(subject.lookup(1).await, Lookup::Revoked);
    assert!(subject.remember(2, MINUTE).await.is_err(), "the tombstone took the record's place");
}

#[tokio::test]
async fn whatever_is_replaced_expires_and_comes_again_the_room_stays_the_same() {
    let subject = bounded(3);
    for _ in 0..20 {
        let until = subject.clock.now().plus(Duration::from_secs(1));
        for number in 0..3 {
            let _ = subject.remember(number, Duration::from_secs(1)).await;
            subject.store.revoke(digest(number % 2).id(), until).await.unwrap();
        }
        // Past the expiry of all, but nothing was swept yet.
        subject.pass(Duration::from_millis(1500)).await;
    }
    subject.pass(MINUTE).await;
    for number in 10..13 {
        subject.remember(number, MINUTE).await.unwrap();
    }
    assert!(subject.remember(13, MINUTE).await.is_err());
}

#[tokio::test]
async fn figures_count_live_records_only() {
    for subject in backends().await {
        for number in 0..20 {
            subject.remember(number, MINUTE).await.unwrap();
        }
        for number in 20..30 {
            subject.remember(number, LIFE).await.unwrap();
        }
        let until = subject.clock.now().plus(LIFE);
        subject.store.revoke(digest(25).id(), until).await.unwrap();
        assert_eq!(subject.live().await, 29);
        subject.pass(MINUTE).await;
        let figures = subject.store.statistics().await.unwrap();
        assert_eq!(figures.live, 9);
        assert!((1..=5).contains(&figures.sample.len()));
        assert!(
            figures.sample.iter().all(|id| (20..30).any(|number| number != 25 && digest(number).id() == *id))
        );
    }
}

/// As after an outage: what the standby has kept meanwhile.
#[tokio::test]
async fn what_is_brought_to_redis_later_lives_there_no_longer_than_it_had_left() {
    let server = RedisServer::start().await;
    let clock = Arc::new(ManualClock::at(START));
    let standby = memory(10, &clock);
    let record = Record { issued_at: START, expires_at: START.plus(LIFE) };
    standby.insert(digest(1), record).unwrap();
    standby.revoke(digest(2).id(), record.expires_at).await.unwrap();
    clock.advance(LIFE / 3 * 2);
    let servers = Servers::One(Box::new(server));
    let (store, ..) = connect(&servers, &clock);
    store.restore(&standby.peek_batch(10)).await.unwrap();
    let Servers::One(server) = &servers else { unreachable!("it was one before") };
    let mut found = 0;
    let is_ours = |key: &String| key.starts_with("token:") || key.starts_with("revoked:");
    for key in server.keys().await.into_iter().filter(is_ours) {
        let left: u64 = server.command_text(&["PTTL", &key]).await.parse().unwrap();
        assert!(left <= u64::try_from((LIFE / 3).as_millis()).unwrap(), "{key}: {left}");
        found += 1;
    }
    assert_eq!(found, 2);
}

#[tokio::test]
async fn a_tombstone_that_redis_refuses_stops_no_other() {
    for servers in [
        Servers::One(Box::new(RedisServer::start().await)),
        Servers::Cluster(RedisCluster::start(true).await),
    ] {
        let clock = Arc::new(ManualClock::at(START));
        let (store, breaker, _) = connect(&servers, &clock);
        store.check_health(Figures::default()).await.unwrap();
        breaker.close(0);
        let end = START.plus(MINUTE);
        let tombstones = (0..250)
            .map(|number| (digest(number).id(), if number == 7 { UnixMillis(u64::MAX) } else { end }));
        let entries = Entries { tombstones: tombstones.collect(), records: Vec::new() };
        assert_eq!(in_the_end(&breaker, async || store.restore(&entries).await).await, 1);
        for number in [0, 6, 8, 249] {
            let found = in_the_end(&breaker, async || store.lookup(digest(number), START).await).await;
            assert_eq!(found, Lookup::Revoked, "{number}");
        }
        assert_eq!(in_the_end(&breaker, async || store.lookup(digest(7), START).await).await, ABSENT);
    }
}

#[tokio::test]
async fn absence_counts_only_for_tokens_that_the_store_would_know() {
    for subject in backends().await {
        let before = START.minus(Duration::from_millis(1));
        let lookup = |issued_after| subject.store.lookup(digest(1), issued_after);
        assert_eq!(lookup(START).await, Ok(ABSENT), "{}", subject.name);
        assert_eq!(lookup(before).await, Ok(Lookup::Absent { complete: false }), "{}", subject.name);
    }
}
