//! Instances that share a Redis, and faults between them and Redis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vx11_kit::RedisServer;
use vx11_operator::clock::{Clock, Jitter, SystemClock};
use vx11_operator::control::{Admission, AdmissionDeps, Admitted, NotAdmitted, Ticket, Upkeep};
use vx11_operator::events::{EndReason, StreamId};
use vx11_operator::metrics::Metrics;
use vx11_operator::redis::{Claim, HostPort, Namespace, RedisSettings, Topology};
use vx11_operator::store::{
    AdmissionStore, AliveEntry, LeaseAnswer, RedisStore, RedisStoreDeps, Renewal, Renewed, SharedBreaker,
    StoreError, SubjectKey, SubjectLimit, SubjectPolicy, TicketAnswer, TicketChange, TicketHolder,
    WantedLeases, WantedTicket, WhenLost,
};
use vx11_operator::token::{Subject, Token};

/// Limit of each subject.
pub(crate) const LIMIT: usize = 5;
const ALIVE: &str = "{vx11}:alive";

/// State of the way to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Redis is known to be unavailable.
    Closed,
    /// Calls are carried out, and their answers are lost.
    LosesAnswers,
    /// Calls are kept until [`Faulty::deliver`].
    Delays,
}

/// A call that was delayed.
enum Late {
    Leases(WantedLeases),
    Ticket(WantedTicket),
}

/// Redis behind a way that fails on demand.
pub(crate) struct Faulty {
    redis: RedisStore,
    breaker: Arc<SharedBreaker>,
    way: Mutex<Way>,
    late: Mutex<Vec<Late>>,
}

impl Faulty {
    pub(crate) fn set(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    fn way(&self) -> Way {
        *self.way.lock().unwrap()
    }

    /// Carries out all delayed calls.
    pub(crate) async fn deliver(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for call in late {
            match call {
                Late::Leases(wanted) => drop(self.take_leases(&wanted).await.unwrap()),
                Late::Ticket(wanted) => drop(self.take_ticket(&wanted).await.unwrap()),
            }
        }
    }

    /// Closes the breaker, which opens if Redis misses its deadline on a busy machine.
    fn close_breaker(&self) {
        if !self.breaker.is_closed() {
            self.breaker.close(0);
        }
    }
}

/// Makes a call until Redis answers, and returns its answer if the way lets it pass.
macro_rules! pass {
    ($faulty:ident, $call:expr) => {
        match $faulty.way() {
            Way::Closed | Way::Delays => Err(StoreError::Unavailable),
            way => loop {
                $faulty.close_breaker();
                if let Ok(answer) = $call.await {
                    break if way == Way::Open { Ok(answer) } else { Err(StoreError::Unavailable) };
                }
            },
        }
    };
}

#[async_trait]
impl AdmissionStore for Faulty {
    fn is_available(&self) -> bool {
        self.way() != Way::Closed
    }

    fn generation(&self) -> u64 {
        0
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, StoreError> {
        pass!(self, self.redis.renew(renewal))
    }

    async fn take_leases(&self, wanted: &WantedLeases) -> Result<LeaseAnswer, StoreError> {
        if self.way() == Way::Delays {
            self.late.lock().unwrap().push(Late::Leases(wanted.clone()));
        }
        pass!(self, self.redis.take_leases(wanted))
    }

    async fn take_all_leases(&self, wanted: &[WantedLeases]) -> Result<Vec<LeaseAnswer>, StoreError> {
        pass!(self, self.redis.take_all_leases(wanted))
    }

    async fn release_leases(&self, leases: &[(SubjectKey, String)]) -> Result<(), StoreError> {
        pass!(self, self.redis.release_leases(leases))
    }

    async fn take_ticket(&self, wanted: &WantedTicket) -> Result<TicketAnswer, StoreError> {
        if self.way() == Way::Delays {
            self.late.lock().unwrap().push(Late::Ticket(wanted.clone()));
        }
        pass!(self, self.redis.take_ticket(wanted))
    }

    async fn settle_tickets(
        &self,
        changes: &[TicketChange],
    ) -> Result<Vec<Option<TicketAnswer>>, StoreError> {
        pass!(self, self.redis.settle_tickets(changes))
    }

    async fn alive_entry(&self, holder: &TicketHolder) -> Result<AliveEntry, StoreError> {
        pass!(self, self.redis.alive_entry(holder))
    }

    fn holder(&self, stream: &str) -> TicketHolder {
        self.redis.holder(stream)
    }
}

/// An instance, as far as it admits streams.
pub(crate) struct Instance {
    pub(crate) admission: Arc<Admission>,
    pub(crate) way: Arc<Faulty>,
    metrics: Arc<Metrics>,
    ended: Arc<Mutex<Vec<(StreamId, EndReason)>>>,
    upkeep: Option<JoinHandle<()>>,
    /// Field of its alive entry.
    field: String,
}

static STREAMS: AtomicU64 = AtomicU64::new(1);

/// The id of another stream.
pub(crate) fn stream() -> StreamId {
    StreamId::new(STREAMS.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn subject(number: usize) -> Subject {
    Subject::parse(&format!("user-{number}")).unwrap()
}

/// The ticket of another token.
pub(crate) fn ticket() -> Ticket {
    let number = STREAMS.fetch_add(1, Ordering::Relaxed);
    let token = Token::parse(&format!("{number:08x}-0000-8000-8000-000000000000")).unwrap();
    Ticket { digest: token.digest(), expires_at: SystemClock.now().plus(Duration::from_mins(1)) }
}

impl Instance {
    pub(crate) async fn start(server: &RedisServer, number: u64) -> Self {
        Self::with(server, number, SubjectPolicy::Refuse).await
    }

    pub(crate) async fn with(server: &RedisServer, number: u64, policy: SubjectPolicy) -> Self {
        Self::built(server, number, policy, WhenLost::Accept).await
    }

    /// An instance that opens nothing that Redis has not decided on.
    pub(crate) async fn strict(server: &RedisServer, number: u64) -> Self {
        Self::built(server, number, SubjectPolicy::Refuse, WhenLost::Refuse).await
    }

    async fn built(server: &RedisServer, number: u64, policy: SubjectPolicy, when_lost: WhenLost) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let breaker = Arc::new(SharedBreaker::new(Arc::clone(&clock), Arc::clone(&metrics)));
        breaker.close(0);
        let redis = connect(server, number, &clock, &breaker);
        let way = Arc::new(Faulty { redis, breaker, way: Mutex::new(Way::Open), late: Mutex::default() });
        let ended = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&ended);
        let admission = Arc::new(Admission::new(AdmissionDeps {
            store: Some(Arc::clone(&way) as Arc<dyn AdmissionStore>),
            limit: Some(SubjectLimit { streams: LIMIT, policy }),
            when_lost,
            max_age: Duration::from_mins(15),
            end: Box::new(move |stream, reason| list.lock().unwrap().push((stream, reason))),
            clock,
            metrics: Arc::clone(&metrics),
        }));
        let mut upkeep = Upkeep::new(&admission).unwrap();
        upkeep.begin().await;
        let upkeep = Some(tokio::spawn(upkeep.run()));
        Self { admission, way, metrics, ended, upkeep, field: format!("{number} {number:016x}") }
    }

    /// Opens a stream of `subject`.
    pub(crate) async fn open(&self, subject: &Subject) -> Result<Open, NotAdmitted> {
        self.open_with(Some(subject), None).await
    }

    /// Opens a stream with `ticket`.
    pub(crate) async fn open_ticket(&self, ticket: Ticket) -> Result<Open, NotAdmitted> {
        self.open_with(None, Some(ticket)).await
    }

    pub(crate) async fn open_with(
        &self,
        subject: Option<&Subject>,
        ticket: Option<Ticket>,
    ) -> Result<Open, NotAdmitted> {
        let stream = stream();
        let admitted = self.admission.admit(stream, subject, ticket, Instant::now()).await?;
        Ok(Open { stream, _admitted: admitted })
    }

    /// Uses a ticket for a request.
    pub(crate) async fn use_ticket(&self, ticket: Ticket, request: &str) -> Result<(), NotAdmitted> {
        self.admission.use_ticket(ticket, request, Instant::now()).await
    }

    /// Field of its alive entry.
    pub(crate) fn field(&self) -> String {
        self.field.clone()
    }

    /// Streams that were ended.
    pub(crate) fn ended(&self) -> Vec<StreamId> {
        self.ended.lock().unwrap().iter().map(|(stream, _)| *stream).collect()
    }

    /// Whether all of them were ended for this reason.
    pub(crate) fn all_ended_as(&self, reason: EndReason) -> bool {
        self.ended.lock().unwrap().iter().all(|(_, of)| *of == reason)
    }

    pub(crate) async fn ends(&self, stream: StreamId) {
        vx11_kit::until("the stream to end", async || self.ended().contains(&stream)).await;
    }

    /// Stops the upkeep, as if the process did not run.
    pub(crate) fn pause(&mut self) {
        self.upkeep.take().unwrap().abort();
    }

    /// Makes the alive entry older.
    pub(crate) async fn age(&self, server: &RedisServer, millis: u64) {
        let entry = server.command_text(&["HGET", ALIVE, &self.field]).await;
        let (renewed, rest) = entry.split_once(' ').unwrap();
        let renewed = renewed.parse::<u64>().unwrap() - millis;
        server.command(&["HSET", ALIVE, &self.field, &format!("{renewed} {rest}")]).await;
    }

    /// Continues the upkeep after [`Self::pause`].
    pub(crate) fn resume(&mut self) {
        self.upkeep = Some(tokio::spawn(Upkeep::new(&self.admission).unwrap().run()));
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        let line = page.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until the upkeep has done everything, by a renewal that follows all of it.
    pub(crate) async fn settles(&self, server: &RedisServer) {
        let settled = async || {
            let entry = server.command_text(&["HGET", ALIVE, &self.field]).await;
            entry.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok())
        };
        let time: (u64, u64) = redis::from_redis_value(server.command(&["TIME"]).await).unwrap();
        let now = time.0 * 1000 + time.1 / 1000;
        vx11_kit::until("the upkeep", async || settled().await.is_some_and(|settled| settled > now)).await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(upkeep) = &self.upkeep {
            upkeep.abort();
        }
    }
}

/// An open stream; dropping it closes it.
pub(crate) struct Open {
    pub(crate) stream: StreamId,
    _admitted: Admitted,
}

fn connect(
    server: &RedisServer,
    number: u64,
    clock: &Arc<dyn Clock>,
    breaker: &Arc<SharedBreaker>,
) -> RedisStore {
    let settings = RedisSettings {
        topology: Topology::Single(HostPort::parse(&server.address(), 0).unwrap()),
        username: None,
        password: None,
        sentinel_password: None,
        db: 1,
        namespace: Namespace::default(),
        tls: false,
        ca: None,
        client: None,
    };
    let claim = Arc::new(Claim::new(&settings.namespace, vec!["0123456789abcdef".to_owned()]));
    let parts = RedisStoreDeps {
        instance_id: number.to_string(),
        start: number,
        token_ttl: Duration::from_mins(1),
        claim,
        monitor: Arc::default(),
        clock: Arc::clone(clock),
        jitter: Arc::new(Jitter::seeded(number)),
        breaker: Arc::clone(breaker),
    };
    RedisStore::new(settings, parts).unwrap()
}
