//! The contract of `TokenStore`, written once and held by every backend. A new backend is a line in `backends`.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::sync::Arc;
use std::time::Duration;

use vx11_operator::ambient::{Clock, ManualClock, UnixMillis};
use vx11_operator::principal::PrincipalId;
use vx11_operator::store::{Lookup, MemoryLimits, MemoryStore, StoreError, TokenStore};
use vx11_operator::token::{Record, Token, TokenDigest};

const START: UnixMillis = UnixMillis(1_767_470_400_000);
const MINUTE: Duration = Duration::from_mins(1);

/// A store with room for `room` entries, and the means to let time pass for it.
struct Subject {
    store: Arc<dyn TokenStore>,
    clock: Arc<ManualClock>,
}

fn backends(room: u64) -> Vec<Subject> {
    let clock = Arc::new(ManualClock::at(START));
    let limits = MemoryLimits { entries: room, bytes: u64::MAX };
    let memory = MemoryStore::new(limits, Arc::<ManualClock>::clone(&clock));
    vec![Subject { store: Arc::new(memory), clock }]
}

fn digest(number: u32) -> TokenDigest {
    Token::parse(&format!("{number:08x}-0000-8000-8000-000000000000")).unwrap().digest()
}

impl Subject {
    fn record(&self, life: Duration) -> Record {
        let issued_at = self.clock.now();
        let principal = PrincipalId::parse("operator").unwrap();
        Record { principal, issued_at, expires_at: issued_at.plus(life) }
    }

    async fn remember(&self, number: u32, life: Duration) -> Result<(), StoreError> {
        self.store.record(digest(number), self.record(life)).await
    }

    async fn lookup(&self, number: u32) -> Lookup {
        self.store.lookup(digest(number)).await.unwrap()
    }

    async fn live(&self) -> u64 {
        self.store.statistics().await.unwrap().live
    }
}

#[tokio::test]
async fn a_record_is_found_from_the_moment_it_was_made_until_its_expiry_and_not_after() {
    for subject in backends(10) {
        let record = subject.record(MINUTE);
        subject.store.record(digest(1), record.clone()).await.unwrap();
        assert_eq!(subject.lookup(1).await, Lookup::Active(record.clone()));
        subject.clock.advance(MINUTE.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(subject.lookup(1).await, Lookup::Active(record));
        subject.clock.advance(Duration::from_millis(1));
        assert_eq!(subject.lookup(1).await, Lookup::Absent);
    }
}

#[tokio::test]
async fn what_was_never_recorded_is_absent_which_is_not_revoked() {
    for subject in backends(10) {
        assert_eq!(subject.lookup(1).await, Lookup::Absent);
    }
}

#[tokio::test]
async fn a_full_store_refuses_new_records_says_when_to_return_and_drops_none() {
    for subject in backends(3) {
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
        subject.clock.advance(retry_after);
        subject.remember(3, MINUTE).await.unwrap();
    }
}

#[tokio::test]
async fn recording_again_takes_no_further_room() {
    for subject in backends(1) {
        for _ in 0..3 {
            subject.remember(1, MINUTE).await.unwrap();
        }
        assert_eq!(subject.live().await, 1);
    }
}

#[tokio::test]
async fn a_revoked_token_reads_as_revoked_whether_recorded_before_after_or_never() {
    for subject in backends(10) {
        let until = subject.clock.now().plus(MINUTE);
        subject.remember(1, MINUTE).await.unwrap();
        for number in 1..=2 {
            subject.store.revoke(digest(number).id(), until).await.unwrap();
        }
        subject.remember(2, MINUTE).await.unwrap();
        assert_eq!(subject.lookup(1).await, Lookup::Revoked);
        assert_eq!(subject.lookup(2).await, Lookup::Revoked);
        assert_eq!(subject.lookup(3).await, Lookup::Absent);
    }
}

#[tokio::test]
async fn revoking_again_extends_and_never_shortens() {
    for subject in backends(10) {
        let id = digest(1).id();
        let now = subject.clock.now();
        for seconds in [30, 60, 10] {
            subject.store.revoke(id, now.plus(Duration::from_secs(seconds))).await.unwrap();
        }
        subject.clock.advance(Duration::from_secs(59));
        assert_eq!(subject.lookup(1).await, Lookup::Revoked);
        subject.clock.advance(Duration::from_secs(1));
        assert_eq!(subject.lookup(1).await, Lookup::Absent);
    }
}

#[tokio::test]
async fn a_full_store_says_so_when_it_cannot_remember_a_revocation() {
    for subject in backends(1) {
        subject.remember(1, MINUTE).await.unwrap();
        let until = subject.clock.now().plus(MINUTE);
        assert!(matches!(subject.store.revoke(digest(2).id(), until).await, Err(StoreError::Full { .. })));
    }
}

#[tokio::test]
async fn a_full_store_can_still_take_its_tokens_back() {
    for subject in backends(1) {
        subject.remember(1, MINUTE).await.unwrap();
        subject.store.revoke(digest(1).id(), subject.clock.now().plus(MINUTE)).await.unwrap();
        assert_eq!(subject.lookup(1).await, Lookup::Revoked);
        assert!(subject.remember(2, MINUTE).await.is_err(), "the tombstone took the record's place");
    }
}

#[tokio::test]
async fn whatever_is_replaced_expires_and_comes_again_the_room_stays_the_same() {
    for subject in backends(3) {
        for _ in 0..20 {
            let until = subject.clock.now().plus(Duration::from_secs(1));
            for number in 0..3 {
                let _ = subject.remember(number, Duration::from_secs(1)).await;
                subject.store.revoke(digest(number % 2).id(), until).await.unwrap();
            }
            // Past the expiry of all, but nothing was swept yet.
            subject.clock.advance(Duration::from_millis(1500));
        }
        subject.clock.advance(MINUTE);
        for number in 10..13 {
            subject.remember(number, MINUTE).await.unwrap();
        }
        assert!(subject.remember(13, MINUTE).await.is_err());
    }
}

#[tokio::test]
async fn figures_count_live_records_only() {
    for subject in backends(100) {
        for number in 0..20 {
            subject.remember(number, MINUTE).await.unwrap();
        }
        for number in 20..30 {
            subject.remember(number, MINUTE * 2).await.unwrap();
        }
        let until = subject.clock.now().plus(MINUTE * 2);
        subject.store.revoke(digest(25).id(), until).await.unwrap();
        assert_eq!(subject.live().await, 29);
        subject.clock.advance(MINUTE);
        let figures = subject.store.statistics().await.unwrap();
        assert_eq!(figures.live, 9);
        assert!((1..=5).contains(&figures.sample.len()));
        assert!(
            figures.sample.iter().all(|id| (20..30).any(|number| number != 25 && digest(number).id() == *id))
        );
    }
}

#[tokio::test]
async fn a_new_store_is_complete_from_its_beginning() {
    for subject in backends(1) {
        assert_eq!(subject.store.complete_since(), START);
    }
}
