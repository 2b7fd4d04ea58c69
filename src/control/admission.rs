//! Admission of streams: the limit of a subject, and single use of a token.
//!
//! `leases` and `tickets` know what this instance holds. Redis decides while it answers; meanwhile
//! this instance decides alone, and the background task (`upkeep`) settles afterwards what it
//! decided.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::leases::{Lease, Leases};
use super::tickets::{HeldTicket, Ticket, Tickets};
use crate::clock::Clock;
use crate::events::{EndReason, StreamId};
use crate::limits::REDIS_DEADLINE;
use crate::metrics::Metrics;
use crate::store::{ALIVE, AdmissionStore, StoreError, SubjectLimit, TicketHolder, WhenLost};
use crate::token::Subject;

/// Ends a stream of this instance.
pub type EndStream = Box<dyn Fn(StreamId, EndReason) + Send + Sync>;

/// Dependencies of [`Admission`].
pub struct AdmissionDeps {
    /// The store that all instances share; `None` without Redis.
    pub store: Option<Arc<dyn AdmissionStore>>,
    /// Limit of a subject's streams.
    pub limit: Option<SubjectLimit>,
    /// Policy for streams and requests that the store cannot decide on.
    pub when_lost: WhenLost,
    /// Longest life of a stream.
    pub max_age: Duration,
    /// Ends a stream that was replaced or has lost its lease.
    pub end: EndStream,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Reason why a stream is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The limit of the subject is reached.
    SubjectLimit,
    /// The single-use token was used.
    Used,
    /// The store cannot decide now, and the policy is [`WhenLost::Refuse`].
    Unproven,
    /// There is no room to note the use of another single-use token.
    Full {
        /// Time after which there is room again, about.
        retry_after: Duration,
    },
}

/// Lease and ticket of an open stream; dropping it releases them.
#[derive(Default)]
pub struct Admitted {
    lease: Option<Lease>,
    ticket: Option<HeldTicket>,
}

impl Admitted {
    /// For the stream to keep; `None` if it holds nothing.
    #[must_use]
    pub fn into_companion(self) -> Option<Box<dyn Any + Send>> {
        let holds = self.lease.is_some() || self.ticket.is_some();
        holds.then(|| Box::new(self) as Box<dyn Any + Send>)
    }
}

/// Time of the last renewal of this instance's alive entry.
#[derive(Default)]
pub(super) struct Presence(Mutex<Option<(u64, Instant)>>);

impl Presence {
    /// Notes a renewal at the time `at` of the store, which was asked for at `asked_at`.
    pub(super) fn renewed(&self, at: u64, asked_at: Instant) {
        *self.0.lock() = Some((at, asked_at));
    }

    /// The last renewal, while other instances count this one as alive.
    pub(super) fn last(&self) -> Option<u64> {
        let last = *self.0.lock();
        last.filter(|(_, asked_at)| asked_at.elapsed() < ALIVE).map(|(at, _)| at)
    }
}

/// Deadline of the calls of an opening. One covers the look-up of the token, its ticket and its
/// lease. A wait for another stream restarts it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    fn since(began: Instant) -> Self {
        Self(began + REDIS_DEADLINE)
    }

    /// Begins again now.
    pub(super) fn restart(&mut self) {
        *self = Self::since(Instant::now());
    }

    /// Answer to a call, if it comes in time.
    pub(super) async fn keep<T>(self, call: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        tokio::time::timeout_at(self.0, call).await.ok()?.ok()
    }
}

/// Parts that leases, tickets and their upkeep share.
pub(super) struct Shared {
    pub(super) deps: AdmissionDeps,
    pub(super) presence: Presence,
    /// Wakes the upkeep.
    pub(super) work: Notify,
}

impl Shared {
    /// The store, if it is in use and this instance counts as alive; and the last renewal.
    pub(super) fn store(&self) -> Option<(&Arc<dyn AdmissionStore>, u64)> {
        let store = self.deps.store.as_ref().filter(|store| store.is_available())?;
        Some((store, self.presence.last()?))
    }

    /// The store like [`Self::store`], if there is still time to ask it.
    pub(super) fn store_until(&self, deadline: Deadline) -> Option<(&Arc<dyn AdmissionStore>, u64)> {
        self.store().filter(|_| Instant::now() < deadline.0)
    }

    /// Whether a stream must not open because the store has not decided.
    pub(super) fn refuses_undecided(&self) -> bool {
        self.deps.store.is_some() && self.deps.when_lost == WhenLost::Refuse
    }
}

/// Admits streams.
pub struct Admission {
    pub(super) shared: Arc<Shared>,
    pub(super) leases: Arc<Leases>,
    pub(super) tickets: Arc<Tickets>,
}

impl Admission {
    /// Creates it without any stream.
    #[must_use]
    pub fn new(deps: AdmissionDeps) -> Self {
        let shared = Arc::new(Shared { deps, presence: Presence::default(), work: Notify::new() });
        let leases = Arc::new(Leases::new(Arc::clone(&shared)));
        let tickets = Arc::new(Tickets::new(Arc::clone(&shared)));
        Self { shared, leases, tickets }
    }

    /// Forgets expired tickets; called about once a second.
    pub fn sweep(&self) {
        self.tickets.sweep();
    }

    /// Admits a stream that is registered, and whose token is valid. A single-use token has a
    /// `ticket`. The opening began at `began`; one deadline covers all its calls.
    ///
    /// Cancel safe: dropping the future releases what was taken.
    ///
    /// # Errors
    /// The stream must not open.
    pub async fn admit(
        &self,
        stream: StreamId,
        subject: Option<&Subject>,
        ticket: Option<Ticket>,
        began: Instant,
    ) -> Result<Admitted, NotAdmitted> {
        let mut deadline = Deadline::since(began);
        let mut admitted = Admitted::default();
        if let Some(ticket) = ticket {
            admitted.ticket = Some(self.tickets.take_for_stream(ticket, stream, &mut deadline).await?);
        }
        if let Some(subject) = subject {
            match self.leases.take(subject, stream, deadline).await {
                Ok(lease) => admitted.lease = lease,
                Err(reason) => {
                    if let Some(ticket) = admitted.ticket.take() {
                        ticket.undo();
                    }
                    return Err(reason);
                }
            }
        }
        Ok(admitted)
    }

    /// Uses a single-use token for a request. The same request may use it again for a moment,
    /// because a proxy repeats it when an answer is lost. The request began at `began`.
    ///
    /// # Errors
    /// The token was used, or this cannot be decided.
    pub async fn use_ticket(&self, ticket: Ticket, request: &str, began: Instant) -> Result<(), NotAdmitted> {
        let mut deadline = Deadline::since(began);
        self.tickets.take_for_request(ticket, TicketHolder::request(request), &mut deadline).await
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::clock::{ManualClock, UnixMillis};
    use crate::store::{
        AliveEntry, LeaseAnswer, Renewal, Renewed, SubjectKey, SubjectPolicy, TicketAnswer, TicketChange,
        WantedLeases, WantedTicket,
    };
    use crate::token::Token;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);

    /// An instance without Redis, and the streams that it has ended.
    fn alone(policy: SubjectPolicy) -> (Admission, Arc<Mutex<Vec<StreamId>>>) {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&ended);
        let end = Box::new(move |stream: StreamId, reason: EndReason| {
            assert_eq!(reason, EndReason::Replaced);
            list.lock().push(stream);
        });
        (Admission::new(deps(None, policy, end)), ended)
    }

    fn deps(store: Option<Arc<dyn AdmissionStore>>, policy: SubjectPolicy, end: EndStream) -> AdmissionDeps {
        AdmissionDeps {
            store,
            limit: Some(SubjectLimit { streams: 2, policy }),
            when_lost: WhenLost::Accept,
            max_age: Duration::from_mins(15),
            end,
            clock: Arc::new(ManualClock::at(NOW)),
            metrics: Arc::new(Metrics::new().unwrap()),
        }
    }

    /// A store that is in use and never answers. Each call takes as long as one of Redis may.
    struct Silent;

    async fn silence<T>() -> Result<T, StoreError> {
        tokio::time::sleep(REDIS_DEADLINE).await;
        Err(StoreError::Unavailable)
    }

    #[async_trait]
    impl AdmissionStore for Silent {
        fn is_available(&self) -> bool {
            true
        }

        fn generation(&self) -> u64 {
            0
        }

        async fn renew(&self, _: &Renewal) -> Result<Renewed, StoreError> {
            silence().await
        }

        async fn take_leases(&self, _: &WantedLeases) -> Result<LeaseAnswer, StoreError> {
            silence().await
        }

        async fn take_all_leases(&self, _: &[WantedLeases]) -> Result<Vec<LeaseAnswer>, StoreError> {
            silence().await
        }

        async fn release_leases(&self, _: &[(SubjectKey, String)]) -> Result<(), StoreError> {
            silence().await
        }

        async fn take_ticket(&self, _: &WantedTicket) -> Result<TicketAnswer, StoreError> {
            silence().await
        }

        async fn settle_tickets(&self, _: &[TicketChange]) -> Result<Vec<Option<TicketAnswer>>, StoreError> {
            silence().await
        }

        async fn alive_entry(&self, _: &TicketHolder) -> Result<AliveEntry, StoreError> {
            silence().await
        }

        fn holder(&self, stream: &str) -> TicketHolder {
            TicketHolder::stream(stream, "1 a")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_deadline_covers_the_look_up_the_ticket_and_the_lease() {
        let deps = deps(Some(Arc::new(Silent)), SubjectPolicy::Refuse, Box::new(|_, _| {}));
        let (admission, subject) = (Admission::new(deps), subject());
        let look_up = Duration::from_millis(100);
        for spent in [Duration::ZERO, look_up, REDIS_DEADLINE] {
            let began = Instant::now();
            admission.shared.presence.renewed(1, began);
            tokio::time::advance(spent).await;
            let open = admission.admit(StreamId::new(1), Some(&subject), Some(ticket()), began);
            assert!(open.await.is_ok(), "this instance decides alone");
            let more = began.elapsed().saturating_sub(REDIS_DEADLINE);
            assert!(more < Duration::from_millis(5), "{spent:?} were spent, then {more:?} too many");
        }
    }

    fn subject() -> Subject {
        Subject::parse("user-7").unwrap()
    }

    fn ticket() -> Ticket {
        let token = Token::parse("0f0f0f0f-0f0f-8f0f-8f0f-0f0f0f0f0f0f").unwrap();
        Ticket { digest: token.digest(), expires_at: NOW.plus(Duration::from_mins(1)) }
    }

    #[tokio::test]
    async fn without_redis_the_limit_holds_for_the_instance() {
        let (admission, ended) = alone(SubjectPolicy::Refuse);
        let subject = subject();
        let open = |number| admission.admit(StreamId::new(number), Some(&subject), None, Instant::now());
        let (first, _second) = (open(1).await.unwrap(), open(2).await.unwrap());
        assert_eq!(open(3).await.err(), Some(NotAdmitted::SubjectLimit));
        drop(first);
        assert!(open(4).await.is_ok());
        assert!(ended.lock().is_empty());
        let other = Subject::parse("user-8").unwrap();
        assert!(admission.admit(StreamId::new(5), Some(&other), None, Instant::now()).await.is_ok());
    }

    #[tokio::test]
    async fn without_redis_the_oldest_stream_makes_room() {
        let (admission, ended) = alone(SubjectPolicy::ReplaceOldest);
        let subject = subject();
        let open = |number| admission.admit(StreamId::new(number), Some(&subject), None, Instant::now());
        let _open = (open(1).await.unwrap(), open(2).await.unwrap(), open(3).await.unwrap());
        assert_eq!(*ended.lock(), [StreamId::new(1)]);
        let _fourth = open(4).await.unwrap();
        assert_eq!(*ended.lock(), [1, 2].map(StreamId::new));
    }

    #[tokio::test(start_paused = true)]
    async fn without_redis_a_ticket_opens_one_stream() {
        let (admission, _) = alone(SubjectPolicy::Refuse);
        let open = |number| admission.admit(StreamId::new(number), None, Some(ticket()), Instant::now());
        let first = open(1).await.unwrap();
        let began = Instant::now();
        assert_eq!(open(2).await.err(), Some(NotAdmitted::Used));
        assert!(began.elapsed() < Duration::from_secs(1), "the stream is here, and open");
        drop(first);
        assert!(open(3).await.is_ok(), "the answer may have been lost");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(open(4).await.err(), Some(NotAdmitted::Used));
        assert_eq!(admission.use_ticket(ticket(), "a", Instant::now()).await, Err(NotAdmitted::Used));
    }

    #[tokio::test(start_paused = true)]
    async fn an_opener_takes_a_ticket_that_is_released_while_it_waits() {
        let (admission, _) = alone(SubjectPolicy::Refuse);
        let first = admission.admit(StreamId::new(1), None, Some(ticket()), Instant::now()).await.unwrap();
        let second = admission.admit(StreamId::new(2), None, Some(ticket()), Instant::now());
        let released = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(second, released);
        assert!(second.is_ok());
    }

    #[tokio::test]
    async fn a_stream_without_limit_and_ticket_holds_nothing() {
        let (admission, _) = alone(SubjectPolicy::Refuse);
        let admitted = admission.admit(StreamId::new(1), None, None, Instant::now()).await.unwrap();
        assert!(admitted.into_companion().is_none());
    }

    #[tokio::test]
    async fn a_stream_beyond_the_limit_uses_no_ticket() {
        let (admission, _) = alone(SubjectPolicy::Refuse);
        let subject = subject();
        let open = |number| admission.admit(StreamId::new(number), Some(&subject), None, Instant::now());
        let _open = (open(1).await.unwrap(), open(2).await.unwrap());
        let refused = admission.admit(StreamId::new(3), Some(&subject), Some(ticket()), Instant::now()).await;
        assert_eq!(refused.err(), Some(NotAdmitted::SubjectLimit));
        assert_eq!(admission.use_ticket(ticket(), "a", Instant::now()).await, Ok(()), "nobody has used it");
    }
}
