//! The composition root: turns a configuration into a running instance. It chooses the backends.

mod files;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::files::Room;
use crate::audit::Audit;
use crate::clock::{Clock, Jitter, SystemClock, UnixMillis};
use crate::config::{Config, MOST_WORKERS};
use crate::control::{
    Admission, AdmissionDeps, Control, ControlDeps, Reader, ReaderDeps, RedisExchange, Shared, Upkeep,
};
use crate::events::{
    EndReason, Epoch, EventLog, Hub, HubDeps, LogPlace, LogTask, LogTaskDeps, MemoryLog, OpenError, RedisLog,
    Selector, StreamEvents, StreamLimits, StreamSettings,
};
use crate::http::{AppState, Effects, ExtraRoutes, Limits, ListenerHandle, ServerSettings, serve};
use crate::identity::{Identity, IdentityDeps, IssuerSettings, JwtRefusal};
use crate::lifecycle::Lifecycle;
use crate::metrics::{BlockedAttempt, Metrics, StoreOperation};
use crate::principal::{Principals, Right};
use crate::redis::{Claim, Fault, FaultKind, Monitor, RedisSettings};
use crate::service::{Access, Refusal, TokenService, TokenServiceDeps};
use crate::store::{
    AdmissionStore, Backend, BreakerState, FailoverStore, FailoverStoreDeps, HealthCheck, HealthCheckDeps,
    MemoryStore, RedisStore, RedisStoreDeps, SharedBreaker, TokenStore, WhenLost,
};
use crate::telemetry::RequestIds;
use crate::token::{Codec, NonceSource, SigningKey};

/// Grace period for connections accepted just before the drain to send their request. A load
/// balancer may not repeat it elsewhere, for example a publish.
const REQUEST_GRACE: Duration = Duration::from_millis(250);
/// Grace period for connections in the accept queue to be accepted.
const ACCEPT_GRACE: Duration = Duration::from_millis(250);
/// Bound of the wait for the event log at start. With a healthy Redis it is available by then, also
/// after a recovery window, so that no client sees it as unavailable.
const LOG_START_TIMEOUT: Duration = Duration::from_millis(2500);
/// Time after the drain window for connections to end. In whole seconds, because actix drops
/// fractions. A subscriber that does not read uses all of it; the process ends within 5 s after the
/// window.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// An instance that is built and listens.
pub struct Application {
    server: Server,
    listener: ListenerHandle,
    hub: Arc<Hub>,
    lifecycle: Arc<Lifecycle>,
    effects: Effects,
    audit: Arc<Audit>,
    housekeeping: Housekeeping,
    drain_window: Duration,
    reloader: Reloader,
}

/// Reason why an instance cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The instance cannot listen on the address.
    #[error(
        "cannot listen on {address}: {source}; {}Set VX11_OPERATOR_LISTEN to a free address:port",
        likely_cause(source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The audit trail cannot be written.
    #[error(
        "the audit trail cannot be written to {file}: {source}; set audit.file to a file that this user may append to"
    )]
    Audit {
        /// The file.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// The system provides no random numbers.
    #[error("the system provides no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// Redis cannot be used as it is configured.
    #[error("the Redis settings cannot be used: {0}")]
    Redis(#[from] Fault),
    /// A defect of the program.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Most likely cause of a failure to listen.
fn likely_cause(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "is another process using it? ",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has it. ",
        _ => "",
    }
}

impl Application {
    /// Builds an instance, with `extra` routes. Redis, if configured, is asked before the first
    /// request, so that an instance with a healthy Redis never starts degraded.
    ///
    /// # Errors
    /// The instance cannot listen on the address, or the configuration of Redis can never work.
    pub async fn build(config: &Config, extra: Option<ExtraRoutes>) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let jitter = Arc::new(Jitter::seeded(getrandom::u64()?));
        let lifecycle = Arc::new(Lifecycle::default());
        let metrics = Arc::new(Metrics::new()?);
        show_labels(&metrics);
        let workers = config.workers.unwrap_or_else(|| cores().min(MOST_WORKERS as usize));
        let room = Room::within(files::raise_limit(), workers, config.stream_limits.all);
        metrics.streams_limit(room.streams);
        let shared_log = config.redis.is_some().then(|| Arc::new(RedisLog::new(Arc::clone(&metrics))));
        let claim = config.redis.as_ref().map(|redis| Claim::new(&redis.namespace, fingerprints(config)));
        let claim = claim.map(Arc::new);
        let stream_events =
            config.stream_topics.then(|| StreamEvents::new(config.instance_id.clone(), Arc::clone(&metrics)));
        let (stream_events, stream_events_task) = stream_events.unzip();
        let hub = Arc::new(Hub::new(HubDeps {
            instance_id: config.instance_id.clone(),
            log: match &shared_log {
                Some(log) => LogPlace::Shared(log.shared()),
                None => LogPlace::Own(Epoch(getrandom::u32()?)),
            },
            ring: config.ring,
            streams: stream_settings(config, &room),
            clock: Arc::clone(&clock),
            jitter: Arc::clone(&jitter),
            metrics: Arc::clone(&metrics),
            stream_events,
        }));
        let mut background = JoinSet::new();
        let with_redis = (&config.redis, &shared_log, &claim);
        let (store, event_log, control, admission) =
            if let (Some(settings), Some(log), Some(claim)) = with_redis {
                let (hub, metrics, clock, jitter) = (&hub, &metrics, &clock, &jitter);
                let parts = WithRedis { settings, log, claim, hub, metrics, clock, jitter };
                parts.start(config, &mut background).await?
            } else {
                without_redis(config, &hub, &clock, &metrics)
            };
        if let Some(task) = stream_events_task {
            background.spawn(task.run(Arc::clone(&event_log)));
        }
        let tokens = Arc::new(TokenService::new(TokenServiceDeps {
            access: access(config),
            store: store.as_store(),
            nonces: NonceSource::new(&config.instance_id, getrandom::u32()?),
            ttl: config.token_ttl,
            when_lost: config.when_lost,
            clock: Arc::clone(&clock),
            control: Arc::clone(&control),
            metrics: Arc::clone(&metrics),
        }));
        let identity = Arc::new(Identity::new(IdentityDeps {
            issuers: config.issuers.clone(),
            clock: Arc::clone(&clock),
            jitter: Arc::clone(&jitter),
            metrics: Arc::clone(&metrics),
        }));
        background.spawn(identity.key_task().run());
        let audit = open_audit(config, &clock, &metrics)?;
        let (audit, effects) = (Arc::new(audit), Effects::default());
        let limits = Arc::new(Limits::new(config.issue_per_second, config.failed_auth_per_minute));
        let reloader = Reloader { tokens: Arc::clone(&tokens), identity: Arc::clone(&identity), claim };
        let state = AppState {
            tokens,
            identity,
            event_log,
            control: Arc::clone(&control),
            admission: Arc::clone(&admission),
            hub: Arc::clone(&hub),
            metrics: Arc::clone(&metrics),
            audit: Arc::clone(&audit),
            effects: effects.clone(),
            lifecycle: Arc::clone(&lifecycle),
            clock: Arc::clone(&clock),
            limits: Arc::clone(&limits),
            request_ids: RequestIds::new(getrandom::u64()?),
            instance_id: config.instance_id.clone(),
            public_url: config.public_url.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            body_timeout: config.body_timeout,
            principal_in_query: config.principal_in_query,
            cookie_for_other_sites: config.cookie_for_other_sites,
            log_subjects: config.log_subjects,
        };
        let settings = ServerSettings {
            listen: config.listen,
            workers,
            max_connections: room.connections,
            shutdown_timeout: config.drain_window + SHUTDOWN_GRACE,
            cors_origins: config.cors_origins.clone(),
            extra,
        };
        let (server, listener) = serve(&settings, state)
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let housekeeping = Housekeeping { limits, store, control, admission, metrics, clock, background };
        let drain_window = config.drain_window;
        Ok(Self { server, listener, hub, lifecycle, effects, audit, housekeeping, drain_window, reloader })
    }

    /// The address on which the instance listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Replaces principals and signing keys while the instance runs.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `stop` completes, then drains: accepts no connections, ends the streams one
    /// after the other, and returns.
    ///
    /// # Errors
    /// The server fails, or a background task ends.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let Self { server, listener, hub, lifecycle, effects, audit, housekeeping, drain_window, .. } = self;
        let _written = WrittenAtTheEnd(audit);
        let handle = server.handle();
        let mut server = std::pin::pin!(server);
        lifecycle.set_ready();
        let stopped = async {
            stop.await;
            lifecycle.set_draining();
            drain(&listener, &handle, &hub, drain_window).await;
        };
        let stopped = std::pin::pin!(stopped);
        let control = Arc::clone(&housekeeping.control);
        let until_left = async {
            let outcome = tokio::select! {
                outcome = &mut server => outcome,
                () = stopped => server.await,
            };
            // Last: until then it answers questions about its streams.
            control.leave().await;
            outcome
        };
        let outcome = tokio::select! {
            outcome = until_left => outcome,
            error = housekeeping.run() => Err(error),
        };
        effects.finish().await;
        outcome
    }
}

/// Replaces principals, issuers and signing keys of a running instance.
#[derive(Clone)]
pub struct Reloader {
    tokens: Arc<TokenService>,
    identity: Arc<Identity>,
    claim: Option<Arc<Claim>>,
}

impl Reloader {
    /// Decides all further requests by the principals, issuers and signing keys of `config`. No
    /// stream ends.
    pub fn replace(&self, config: &Config) {
        if let Some(claim) = &self.claim {
            claim.replace_fingerprints(fingerprints(config));
        }
        self.tokens.replace_access(access(config));
        self.identity.replace(config.issuers.clone());
    }
}

fn stream_settings(config: &Config, room: &Room) -> StreamSettings {
    StreamSettings {
        limits: StreamLimits { all: room.streams, ..config.stream_limits },
        heartbeat: config.heartbeat,
        coalesce: config.coalesce,
        max_age: config.max_stream_age,
        retry: config.retry,
    }
}

/// Principals and signing keys.
fn access(config: &Config) -> Access {
    let principals = config.principals.iter();
    let principals = principals.map(|(principal, secret)| (principal.clone(), secret.expose_secret()));
    let principals =
        Principals::new(principals).with_issuers(config.issuers.iter().map(IssuerSettings::principal));
    Access { principals, codec: Codec::new(config.signing_keys.clone()) }
}

fn open_audit(config: &Config, clock: &Arc<dyn Clock>, metrics: &Arc<Metrics>) -> Result<Audit, StartError> {
    let audit = config.audit.as_ref();
    Audit::open(audit, config.instance_id.clone(), Arc::clone(clock), metrics).map_err(|source| {
        StartError::Audit { file: audit.map(|to| to.file.display().to_string()).unwrap_or_default(), source }
    })
}

/// Fingerprints of the signing keys.
fn fingerprints(config: &Config) -> Vec<String> {
    config.signing_keys.iter().map(SigningKey::deployment_fingerprint).collect()
}

/// Writes the rest of the audit trail when the instance stops, also if a second signal ends the
/// drain.
struct WrittenAtTheEnd(Arc<Audit>);

impl Drop for WrittenAtTheEnd {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Stops accepting, then ends the streams. With `least_conn`, an instance that still listened would
/// attract all reconnects, because its connections become fewer. nginx takes a refused connection
/// to another instance.
async fn drain(listener: &ListenerHandle, handle: &ServerHandle, hub: &Hub, window: Duration) {
    listener.begin_closing();
    tokio::time::sleep(ACCEPT_GRACE).await;
    listener.close();
    tokio::time::sleep(REQUEST_GRACE).await;
    // The stop begins with the call; the returned future completes with the last connection, as the
    // server does.
    let _stopping = handle.stop(true);
    // A stream whose client does not read cannot be ended in order; the server cuts it at its
    // deadline.
    let drained = async {
        hub.drain(window).await;
        hub.flush_stream_events().await;
    };
    let _ = timeout(window + SHUTDOWN_GRACE / 2, drained).await;
}

/// Work that is due about once a second, independent of requests.
struct Housekeeping {
    limits: Arc<Limits>,
    store: Store,
    control: Arc<Control>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Background tasks, which run for as long as the instance does.
    background: JoinSet<()>,
}

impl Housekeeping {
    /// Runs until a background task ends, which is a defect: the instance then stops, because it
    /// would look healthy without receiving revocations or events.
    async fn run(mut self) -> io::Error {
        let mut background = std::mem::take(&mut self.background);
        let broken = async {
            match background.join_next().await {
                Some(_ended) => io::Error::other("a background task has failed; the log shows its panic"),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = broken => error,
            error = self.every_second() => match error {},
        }
    }

    async fn every_second(self) -> Infallible {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.store.sweep();
            self.admission.sweep();
            self.control.sweep();
            self.limits.shed();
            self.metrics.roll_expired(self.clock.now());
        }
    }
}

/// The configured store.
#[derive(Clone)]
enum Store {
    Memory(Arc<MemoryStore>),
    Failover(Arc<FailoverStore>),
}

impl Store {
    fn as_store(&self) -> Arc<dyn TokenStore> {
        match self {
            Self::Memory(store) => Arc::<MemoryStore>::clone(store),
            Self::Failover(store) => Arc::<FailoverStore>::clone(store),
        }
    }

    fn sweep(&self) {
        match self {
            Self::Memory(store) => store.sweep(),
            Self::Failover(store) => store.sweep(),
        }
    }
}

/// Builds the parts of an instance without Redis.
fn without_redis(
    config: &Config,
    hub: &Arc<Hub>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> (Store, Arc<dyn EventLog>, Arc<Control>, Arc<Admission>) {
    let store = MemoryStore::new(config.memory, Arc::clone(clock));
    let event_log = MemoryLog::new(Arc::clone(hub), config.ring.entries);
    let control = Control::new(ControlDeps {
        instance_id: config.instance_id.clone(),
        hub: Arc::clone(hub),
        clock: Arc::clone(clock),
        metrics: Arc::clone(metrics),
        shared: None,
    });
    let admission = admission(config, None, hub, clock, metrics);
    (Store::Memory(Arc::new(store)), Arc::new(event_log), Arc::new(control), admission)
}

/// Builds the parts of an instance with Redis.
struct WithRedis<'a> {
    settings: &'a RedisSettings,
    log: &'a Arc<RedisLog>,
    claim: &'a Arc<Claim>,
    hub: &'a Arc<Hub>,
    metrics: &'a Arc<Metrics>,
    clock: &'a Arc<dyn Clock>,
    jitter: &'a Arc<Jitter>,
}

impl WithRedis<'_> {
    /// Starts the failover store with its health check, the reader of announcements, and the log
    /// task. Returns when all are in use, or at [`LOG_START_TIMEOUT`].
    async fn start(
        &self,
        config: &Config,
        background: &mut JoinSet<()>,
    ) -> Result<(Store, Arc<dyn EventLog>, Arc<Control>, Arc<Admission>), StartError> {
        let Self { settings, log, claim, metrics, clock, jitter, .. } = self;
        let memory = || MemoryStore::new(config.memory, Arc::clone(clock));
        let breaker = Arc::new(SharedBreaker::new(Arc::clone(clock), Arc::clone(metrics)));
        let monitor = Arc::new(Monitor::default());
        let start = getrandom::u64()?;
        let parts = RedisStoreDeps {
            instance_id: config.instance_id.clone(),
            start,
            token_ttl: config.token_ttl,
            claim: Arc::clone(claim),
            monitor: Arc::clone(&monitor),
            clock: Arc::clone(clock),
            jitter: Arc::clone(jitter),
            breaker: Arc::clone(&breaker),
        };
        let redis = Arc::new(RedisStore::new((*settings).clone(), parts)?);
        let store = Arc::new(FailoverStore::new(FailoverStoreDeps {
            primary: Arc::<RedisStore>::clone(&redis),
            breaker: Arc::clone(&breaker),
            standby: memory(),
            revoked: memory(),
            when_lost: config.when_lost,
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
        }));
        let mut health_check = HealthCheck::new(HealthCheckDeps {
            store: Arc::clone(&store),
            metrics: Arc::clone(metrics),
            jitter: Arc::clone(jitter),
        });
        let shared: Arc<dyn AdmissionStore> = Arc::<RedisStore>::clone(&redis);
        let admission = admission(config, Some(shared), self.hub, clock, metrics);
        let exchange = RedisExchange::new((*settings).clone(), Arc::clone(&redis), Arc::clone(claim))?;
        let exchange = Arc::new(exchange);
        let control = Arc::new(Control::new(ControlDeps {
            instance_id: config.instance_id.clone(),
            hub: Arc::clone(self.hub),
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            shared: Some(Shared { store: redis, namespace: settings.namespace.clone(), start, exchange }),
        }));
        let reader = self.reader(&monitor, &store, &control)?;
        let caught_up = reader.caught_up();
        background.spawn(reader.run());
        let log_task = LogTask::new((*settings).clone(), self.log_task_deps(config, monitor))?;
        background.spawn(log_task.run());
        health_check.begin().await;
        background.spawn(health_check.run());
        if let Some(mut upkeep) = Upkeep::new(&admission) {
            upkeep.begin().await;
            background.spawn(upkeep.run());
        }
        if breaker.is_closed() {
            let (_log, orders) =
                tokio::join!(timeout(LOG_START_TIMEOUT, log.opened()), timeout(LOG_START_TIMEOUT, caught_up));
            if orders.is_err() {
                warn_of_unread_orders(config.when_lost);
            }
        }
        Ok((Store::Failover(store), Arc::<RedisLog>::clone(log), control, admission))
    }

    fn log_task_deps(&self, config: &Config, monitor: Arc<Monitor>) -> LogTaskDeps {
        LogTaskDeps {
            log: Arc::clone(self.log),
            hub: Arc::clone(self.hub),
            log_entries: config.log_entries,
            log_bytes: config.log_bytes,
            claim: Arc::clone(self.claim),
            monitor,
            jitter: Arc::clone(self.jitter),
        }
    }

    fn reader(
        &self,
        monitor: &Arc<Monitor>,
        store: &Arc<FailoverStore>,
        control: &Arc<Control>,
    ) -> Result<Reader, Fault> {
        let hub = Arc::clone(self.hub);
        let parts = ReaderDeps {
            store: Arc::clone(store),
            control: Arc::clone(control),
            claim: Arc::clone(self.claim),
            monitor: Arc::clone(monitor),
            clock: Arc::clone(self.clock),
            jitter: Arc::clone(self.jitter),
            metrics: Arc::clone(self.metrics),
            on_revoked: Box::new(move |id| {
                hub.end_streams_of(id);
            }),
        };
        Reader::new(self.settings.clone(), parts)
    }
}

/// Admission of streams, by the leases and tickets in Redis or, without Redis, of this instance.
fn admission(
    config: &Config,
    store: Option<Arc<dyn AdmissionStore>>,
    hub: &Arc<Hub>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Arc<Admission> {
    let hub = Arc::clone(hub);
    Arc::new(Admission::new(AdmissionDeps {
        store,
        limit: config.subject_limit,
        when_lost: config.when_lost,
        max_age: config.max_stream_age,
        end: Box::new(move |stream, reason| {
            hub.end(&Selector::Stream(stream), UnixMillis(u64::MAX), reason);
        }),
        clock: Arc::clone(clock),
        metrics: Arc::clone(metrics),
    }))
}

/// Logs that the instance begins to serve without knowing all orders.
fn warn_of_unread_orders(when_lost: WhenLost) {
    let until_then = match when_lost {
        WhenLost::Accept => "accepts tokens whose subjects were blocked or revoked on other instances",
        WhenLost::Refuse => "answers 503 for tokens of subjects",
    };
    tracing::warn!(
        "this instance serves before it has read all orders about subjects and streams in Redis. Until then it {until_then}. vx11_operator_control_available becomes 1 then; if it stays 0, see docs/runbooks/control-orders-out-of-reach.md"
    );
}

/// Creates the series of all label values.
fn show_labels(metrics: &Metrics) {
    metrics.invalid.show_all::<Refusal>();
    metrics.store_operations.show_all::<StoreOperation, Backend>();
    metrics.store_faults.show_all::<FaultKind>();
    metrics.breaker_transitions.show_all::<BreakerState>();
    metrics.streams_ended.show_all::<EndReason>();
    metrics.streams_refused.show_all::<OpenError>();
    metrics.control.blocked_attempts.show_all::<BlockedAttempt>();
    metrics.not_permitted.show_all::<Right>();
    metrics.identity.refused.show_all::<JwtRefusal>();
}

/// Number of processor cores that the process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::LEAVING;
    use crate::telemetry::FLUSH;

    #[test]
    fn a_stop_ends_within_five_seconds_after_the_window() {
        /// actix looks once a second whether connections are still open.
        const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
        // One for the audit trail and one for the log. Effects end with the workers, and add
        // nothing.
        let flushes = 2 * FLUSH;
        let longest = ACCEPT_GRACE + REQUEST_GRACE + SHUTDOWN_GRACE + BETWEEN_LOOKS + LEAVING + flushes;
        assert!(longest <= Duration::from_secs(5), "{longest:?}");
        assert_eq!(SHUTDOWN_GRACE.subsec_nanos(), 0, "actix drops fractions");
    }
}
