//! Orders that an instance reads, its open streams, and whether it knows all orders.

use super::*;
use crate::clock::{Jitter, ManualClock, SystemClock};
use crate::events::{
    Epoch, HubDeps, LogPlace, Opener, RingLimits, StreamLimits, StreamOpening, StreamSettings,
};
use crate::principal::PrincipalId;
use crate::redis::announce::Position;
use crate::redis::{Claim, HostPort, Monitor, RedisSettings, Topology};
use crate::store::{RedisStoreDeps, SharedBreaker};
use crate::topic::Patterns;

const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
const SECOND: Duration = Duration::from_secs(1);

struct Instance {
    clock: Arc<ManualClock>,
    hub: Arc<Hub>,
    control: Control,
}

fn subject() -> Subject {
    Subject::parse("user-7").unwrap()
}

/// A Redis that nobody asks.
fn shared(metrics: &Arc<Metrics>) -> Shared {
    let namespace = Namespace::default();
    let settings = RedisSettings {
        topology: Topology::Single(HostPort::parse("127.0.0.1:1", 1).unwrap()),
        username: None,
        password: None,
        sentinel_password: None,
        db: 0,
        namespace: namespace.clone(),
        tls: false,
        ca: None,
        client: None,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let claim = Arc::new(Claim::new(&namespace, Vec::new()));
    let parts = RedisStoreDeps {
        instance_id: "1".to_owned(),
        start: 1,
        token_ttl: Duration::from_mins(1),
        claim: Arc::clone(&claim),
        monitor: Arc::new(Monitor::default()),
        breaker: Arc::new(SharedBreaker::new(Arc::clone(&clock), Arc::clone(metrics))),
        clock,
        jitter: Arc::new(Jitter::seeded(1)),
    };
    let store = Arc::new(RedisStore::new(settings.clone(), parts).unwrap());
    let exchange = Arc::new(RedisExchange::new(settings, Arc::clone(&store), claim).unwrap());
    Shared { store, namespace, start: 1, exchange }
}

impl Instance {
    fn new() -> Self {
        Self::with(|_| None)
    }

    fn with_redis() -> Self {
        Self::with(|metrics| Some(shared(metrics)))
    }

    fn with(shared: impl FnOnce(&Arc<Metrics>) -> Option<Shared>) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let metrics = Arc::new(Metrics::new().unwrap());
        let hub = Arc::new(Hub::new(HubDeps {
            instance_id: "1".to_owned(),
            log: LogPlace::Own(Epoch(1)),
            ring: RingLimits { entries: 10, bytes: 10_000 },
            streams: StreamSettings {
                limits: StreamLimits { all: 100, per_token: None, per_principal: None },
                heartbeat: SECOND * 15,
                coalesce: Duration::ZERO,
                max_age: Duration::from_mins(15),
                retry: SECOND * 3,
            },
            clock: Arc::<ManualClock>::clone(&clock),
            jitter: Arc::new(Jitter::seeded(1)),
            metrics: Arc::clone(&metrics),
            stream_events: None,
        }));
        let control = Control::new(ControlDeps {
            instance_id: "1".to_owned(),
            hub: Arc::clone(&hub),
            clock: Arc::<ManualClock>::clone(&clock),
            shared: shared(&metrics),
            metrics,
        });
        Self { clock, hub, control }
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Opens a stream with a token that was issued now, a second later than what came before.
    fn open(&self) -> StreamOpening {
        self.clock.advance(SECOND);
        let opener = Opener {
            principal: PrincipalId::parse("p").unwrap(),
            token: None,
            subject: Some(subject()),
            patterns: Patterns::default(),
            issued_at: Some(self.now()),
            until: None,
        };
        StreamOpening::take(&self.hub, opener).unwrap()
    }

    /// Reads these orders at once.
    fn receive(&self, orders: &[Order]) {
        let received = orders.iter().map(|order| Received {
            order: order.clone(),
            question: None,
            position: Position::of(self.now()),
            is_clamped: false,
        });
        self.control.receive(received.collect());
    }

    /// Number of streams that an order of this kind would still end.
    fn open_streams(&self) -> usize {
        self.hub.end(&Selector::Subject(subject()), UnixMillis(u64::MAX), EndReason::Ended)
    }
}

/// Control of an instance whose reader does not run.
pub(crate) fn control_with_redis() -> Control {
    Instance::with_redis().control
}

#[tokio::test(start_paused = true)]
async fn an_instance_knows_all_orders_until_it_could_not_read_them_for_some_time() {
    let control = control_with_redis();
    assert!(!control.is_current(), "it has not read them yet");
    for _ in 0..2 {
        let asked_at = Instant::now();
        tokio::time::advance(CURRENT_FOR / 2).await;
        control.became_current(asked_at);
        assert!(control.is_current());
        tokio::time::advance((CURRENT_FOR / 2).saturating_sub(Duration::from_millis(1))).await;
        assert!(control.is_current());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!control.is_current());
    }
    assert!(Instance::new().control.is_current(), "there are no others without Redis");
}

#[test]
fn a_block_that_is_read_late_ends_all_streams_of_its_subject() {
    let instance = Instance::new();
    let _streams = [instance.open(), instance.open(), instance.open()];
    instance.receive(&[Order::block(subject(), NOW, SECOND * 600, None)]);
    assert_eq!(instance.open_streams(), 0);
}

#[test]
fn a_block_whose_end_is_read_with_it_ends_no_stream_that_was_opened_after_it() {
    let instance = Instance::new();
    let _before = instance.open();
    let block = Order::block(subject(), instance.now(), SECOND * 600, None);
    let _meanwhile = instance.open();
    let unblock = Order::unblock(subject(), instance.now(), Some(&block));
    let _after = instance.open();
    instance.receive(&[block, unblock]);
    assert!(!instance.control.is_blocked(&subject()));
    assert_eq!(instance.open_streams(), 2);
}

#[test]
fn a_block_that_is_over_when_it_is_read_ends_the_streams_of_its_beginning() {
    let instance = Instance::new();
    let _before = instance.open();
    let block = Order::block(subject(), instance.now(), SECOND, None);
    let _after = [instance.open(), instance.open()];
    instance.receive(&[block]);
    assert_eq!(instance.open_streams(), 2);
}

#[test]
fn a_revocation_that_is_read_late_ends_no_stream_of_a_later_token() {
    let instance = Instance::new();
    let _before = instance.open();
    let revoke = Order::revoke(subject(), instance.now());
    let _after = instance.open();
    instance.receive(&[revoke]);
    assert_eq!(instance.open_streams(), 1);
}

#[test]
fn an_order_that_is_read_again_ends_no_further_stream() {
    let instance = Instance::new();
    let end = Order::end(Selector::Subject(subject()), instance.now());
    let _before = instance.open();
    instance.receive(std::slice::from_ref(&end));
    assert_eq!(instance.open_streams(), 0, "opened within the difference that clocks may have");
    let again = instance.open();
    instance.receive(&[end]);
    assert_eq!(instance.open_streams(), 1);
    drop(again);
}
