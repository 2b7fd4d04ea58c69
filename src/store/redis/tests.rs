//! Announcements are trimmed by the clock of Redis.

use super::*;
use crate::clock::ManualClock;
use crate::metrics::Metrics;
use crate::redis::{HostPort, Namespace, Topology, control};

/// The time of Redis. Announcements of this millisecond trim by age.
const NOW: UnixMillis = UnixMillis(1_767_470_400_001);
const HOUR: Duration = Duration::from_hours(1);

/// A store of an instance whose clock is ahead of that of Redis by this.
fn store_ahead_by(lead: Duration) -> RedisStore {
    let settings = RedisSettings {
        topology: Topology::Single(HostPort::parse("127.0.0.1:1", 1).unwrap()),
        username: None,
        password: None,
        sentinel_password: None,
        db: 0,
        namespace: Namespace::default(),
        tls: false,
        ca: None,
        client: None,
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW.plus(lead)));
    let metrics = Arc::new(Metrics::new().unwrap());
    let parts = RedisStoreDeps {
        instance_id: "1".to_owned(),
        start: 1,
        token_ttl: Duration::from_mins(1),
        claim: Arc::new(Claim::new(&settings.namespace, Vec::new())),
        monitor: Arc::default(),
        breaker: Arc::new(SharedBreaker::new(Arc::clone(&clock), metrics)),
        clock,
        jitter: Arc::new(Jitter::seeded(1)),
    };
    let store = RedisStore::new(settings, parts).unwrap();
    store.lead_millis.store(i64::try_from(lead.as_millis()).unwrap(), Ordering::Relaxed);
    store
}

/// Position up to which a command trims by age.
fn trims_until(command: &Cmd) -> u64 {
    let words = command.args_iter().filter_map(|word| match word {
        redis::Arg::Simple(word) => std::str::from_utf8(word).ok(),
        _ => None,
    });
    let words: Vec<_> = words.collect();
    assert_eq!((words[0], words[2], words[3]), ("XADD", "MINID", "~"));
    words[4].parse().unwrap()
}

#[test]
fn an_instance_whose_clock_is_ahead_trims_no_live_announcement() {
    let store = store_ahead_by(HOUR);
    let order = store.announcement(&control::BLOCKS, "{vx11}:blocks", &["kind".to_owned(), "end".to_owned()]);
    assert_eq!(trims_until(&order), NOW.minus(control::BLOCKS.kept).0);
    let id = TokenId::parse("3f9a1c0b5d7e2f48").unwrap();
    let commands = store.revocation_commands(id, NOW.plus(HOUR));
    let of_one_with_the_right_time = store_ahead_by(Duration::ZERO).revocation_commands(id, NOW.plus(HOUR));
    let trimmed = |commands: &Pipeline| commands.cmd_iter().last().map(trims_until);
    assert_eq!(trimmed(&commands), trimmed(&of_one_with_the_right_time));
}
