//! The composition root: turns a configuration into a running instance. The only file that names
//! concrete backends.

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

use self::files::Room;
use crate::audit::Audit;
use crate::clock::{Clock, Jitter, SystemClock};
use crate::config::{Config, MOST_WORKERS};
use crate::events::{
    Epoch, EventBus, Hub, HubDeps, Log, LogTask, LogTaskDeps, MemoryBus, RedisLog, StreamLimits,
    StreamSettings,
};
use crate::http::{AppState, Effects, ExtraRoutes, Limits, ListenerHandle, ServerSettings, serve};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::principal::Principals;
use crate::redis::{Claim, Fault, RedisSettings};
use crate::service::{TokenService, TokenServiceDeps};
use crate::store::{
    FailoverStore, FailoverStoreDeps, MemoryStore, Pulse, PulseDeps, RedisStore, RedisStoreDeps,
    RevocationReader, RevocationReaderDeps, SharedBreaker, TokenStore,
};
use crate::telemetry::RequestIds;
use crate::token::{Codec, NonceSource, SigningKey};

/// How long connections that were accepted just before the drain may take to say what they came
/// for. Nobody else may be asked again for what they carry, such as an event.
const REQUEST_GRACE: Duration = Duration::from_millis(250);
/// Time for connections that began before the drain to be accepted.
const ACCEPT_GRACE: Duration = Duration::from_millis(250);
/// A log whose Redis is well is in reach by then, even one that was just founded. Nobody who comes
/// before that should be told that it is not.
const LOG_START_TIMEOUT: Duration = Duration::from_millis(2500);
/// Time after the drain window for connections to say goodbye. Whole seconds: actix drops
/// fractions. The process ends within five seconds after the window, and a subscriber that does not
/// read uses all of this.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// A built instance that already holds its port.
pub struct Application {
    server: Server,
    door: ListenerHandle,
    hub: Arc<Hub>,
    lifecycle: Arc<Lifecycle>,
    effects: Effects,
    audit: Arc<Audit>,
    housekeeping: Housekeeping,
    drain_window: Duration,
}

/// Why an instance could not be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; {}Set VX11_OPERATOR_LISTEN to a free address:port",
        likely_cause(source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The audit trail cannot be written.
    #[error(
        "the audit trail cannot be written to {file}: {source}; set audit.file to a file that this user may append to"
    )]
    Audit {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// Redis cannot be used as it is configured.
    #[error("Redis: {0}")]
    Redis(#[from] Fault),
    /// A defect.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The most likely reason why an address cannot be listened on.
fn likely_cause(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "is another process using it? ",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has it. ",
        _ => "",
    }
}

impl Application {
    /// Builds an instance, with `extra` routes beside its own. Where Redis is configured it is
    /// asked once before the first request is taken, so that an instance whose Redis is well never
    /// starts degraded.
    ///
    /// # Errors
    /// When the address cannot be bound, or Redis is configured in a way that can never work.
    pub async fn build(config: &Config, extra: Option<ExtraRoutes>) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let jitter = Arc::new(Jitter::seeded(getrandom::u64()?));
        let lifecycle = Arc::new(Lifecycle::default());
        let metrics = Arc::new(Metrics::new()?);
        let workers = config.workers.unwrap_or_else(|| cores().min(MOST_WORKERS as usize));
        let room = Room::within(files::raise_limit(), workers, config.stream_limits.all);
        metrics.streams_limit(room.streams);
        let shared_log = config.redis.is_some().then(|| Arc::new(RedisLog::new(Arc::clone(&metrics))));
        let hub = Arc::new(Hub::new(HubDeps {
            instance_id: config.instance_id.clone(),
            log: match &shared_log {
                Some(log) => Log::Shared(log.shared()),
                None => Log::Own(Epoch(getrandom::u32()?)),
            },
            ring: config.ring,
            streams: StreamSettings {
                limits: StreamLimits { all: room.streams, ..config.stream_limits },
                heartbeat: config.heartbeat,
                coalesce: config.coalesce,
                max_age: config.max_stream_age,
                retry: config.retry,
            },
            clock: Arc::clone(&clock),
            jitter: Arc::clone(&jitter),
            metrics: Arc::clone(&metrics),
        }));
        let mut background = JoinSet::new();
        let (store, bus) = if let (Some(settings), Some(log)) = (&config.redis, &shared_log) {
            let parts =
                WithRedis { settings, log, hub: &hub, metrics: &metrics, clock: &clock, jitter: &jitter };
            parts.start(config, &mut background).await?
        } else {
            let store = MemoryStore::new(config.memory, Arc::clone(&clock));
            let bus: Arc<dyn EventBus> = Arc::new(MemoryBus::new(Arc::clone(&hub), config.ring.entries));
            (Store::Memory(Arc::new(store)), bus)
        };
        let principals = config.principals.iter();
        let tokens = TokenService::new(TokenServiceDeps {
            codec: Codec::new(config.signing_keys.clone()),
            principals: Principals::new(principals.map(|(id, secret)| (id.clone(), secret.expose_secret()))),
            store: store.as_store(),
            nonces: NonceSource::new(&config.instance_id, getrandom::u32()?),
            ttl: config.token_ttl,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        });
        let audit = config.audit.as_ref();
        let audit = Audit::open(audit, config.instance_id.clone(), Arc::clone(&clock), &metrics).map_err(
            |source| StartError::Audit {
                file: audit.map(|to| to.file.display().to_string()).unwrap_or_default(),
                source,
            },
        )?;
        let (audit, effects) = (Arc::new(audit), Effects::default());
        let limits = Arc::new(Limits::new(config.issue_per_second, config.failed_auth_per_minute));
        let state = AppState {
            tokens,
            bus,
            hub: Arc::clone(&hub),
            metrics: Arc::clone(&metrics),
            audit: Arc::clone(&audit),
            effects: effects.clone(),
            lifecycle: Arc::clone(&lifecycle),
            clock: Arc::clone(&clock),
            limits: Arc::clone(&limits),
            request_ids: RequestIds::new(getrandom::u64()?),
            instance_id: config.instance_id.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            body_timeout: config.body_timeout,
            principal_in_query: config.principal_in_query,
        };
        let settings = ServerSettings {
            listen: config.listen,
            workers,
            max_connections: room.connections,
            shutdown_timeout: config.drain_window + SHUTDOWN_GRACE,
            extra,
        };
        let (server, door) = serve(&settings, state)
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let housekeeping = Housekeeping { limits, store, metrics, clock, background };
        let drain_window = config.drain_window;
        Ok(Self { server, door, hub, lifecycle, effects, audit, housekeeping, drain_window })
    }

    /// Where the instance listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// Serves until `stop` completes, then drains: no new connections, streams ended one after the
    /// other, and at last the return.
    ///
    /// # Errors
    /// When the server fails by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let Self { server, door, hub, lifecycle, effects, audit, housekeeping, drain_window } = self;
        let _written = WrittenAtTheEnd(audit);
        let handle = server.handle();
        let mut server = std::pin::pin!(server);
        lifecycle.set_ready();
        let stopped = async {
            stop.await;
            lifecycle.set_draining();
            drain(&door, &handle, &hub, drain_window).await;
        };
        let stopped = std::pin::pin!(stopped);
        let outcome = tokio::select! {
            outcome = &mut server => outcome,
            () = stopped => server.await,
            error = housekeeping.run() => Err(error),
        };
        effects.finish().await;
        outcome
    }
}

/// Writes the rest of the audit trail when the instance stops, also where a second signal cuts the
/// stop short.
struct WrittenAtTheEnd(Arc<Audit>);

impl Drop for WrittenAtTheEnd {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Stops accepting, then ends the streams. Behind `least_conn` a draining instance would attract
/// every reconnect if it still listened; a refused connection nginx takes to the next instance.
async fn drain(door: &ListenerHandle, handle: &ServerHandle, hub: &Hub, window: Duration) {
    door.begin_closing();
    tokio::time::sleep(ACCEPT_GRACE).await;
    door.close();
    tokio::time::sleep(REQUEST_GRACE).await;
    // Takes effect at the call; what it returns completes with the last connection, as the server
    // itself does.
    let _stopping = handle.stop(true);
    // A stream whose client does not read cannot be ended in order; the server cuts it at its own
    // deadline.
    let _ = tokio::time::timeout(window + SHUTDOWN_GRACE / 2, hub.drain(window)).await;
}

/// What needs doing about once a second, whether requests come or not.
struct Housekeeping {
    limits: Arc<Limits>,
    store: Store,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// What runs as long as the instance does.
    background: JoinSet<()>,
}

impl Housekeeping {
    /// Runs for ever, unless a part of it ends, which none does but by a defect: better no instance
    /// than one that looks well and hears nothing.
    async fn run(mut self) -> io::Error {
        let mut background = std::mem::take(&mut self.background);
        let broken = async {
            match background.join_next().await {
                Some(_ended) => io::Error::other("a task in the background has failed"),
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
            self.limits.shed();
            self.metrics.roll_expired(self.clock.now());
        }
    }
}

/// The store that the configuration asks for.
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

/// What it takes to share tokens and events in Redis.
struct WithRedis<'a> {
    settings: &'a RedisSettings,
    log: &'a Arc<RedisLog>,
    hub: &'a Arc<Hub>,
    metrics: &'a Arc<Metrics>,
    clock: &'a Arc<dyn Clock>,
    jitter: &'a Arc<Jitter>,
}

impl WithRedis<'_> {
    /// Redis with memory beside it, the pulse between them, the reader of revocations, and the log.
    /// Returns when all is in use, or does not get so in time.
    async fn start(
        &self,
        config: &Config,
        background: &mut JoinSet<()>,
    ) -> Result<(Store, Arc<dyn EventBus>), StartError> {
        let Self { settings, log, metrics, clock, jitter, .. } = self;
        let memory = || MemoryStore::new(config.memory, Arc::clone(clock));
        let breaker = Arc::new(SharedBreaker::new(Arc::clone(clock), Arc::clone(metrics)));
        let fingerprints = config.signing_keys.iter().map(SigningKey::deployment_fingerprint).collect();
        let claim = Arc::new(Claim::new(&settings.namespace, fingerprints));
        let parts = RedisStoreDeps {
            instance_id: config.instance_id.clone(),
            start: getrandom::u64()?,
            token_ttl: config.token_ttl,
            claim: Arc::clone(&claim),
            clock: Arc::clone(clock),
            jitter: Arc::clone(jitter),
            breaker: Arc::clone(&breaker),
        };
        let redis = RedisStore::new((*settings).clone(), parts)?;
        let store = Arc::new(FailoverStore::new(FailoverStoreDeps {
            primary: Arc::new(redis),
            breaker: Arc::clone(&breaker),
            standby: memory(),
            revoked: memory(),
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
        }));
        let mut pulse = Pulse::new(PulseDeps {
            store: Arc::clone(&store),
            metrics: Arc::clone(metrics),
            jitter: Arc::clone(jitter),
        });
        let reader = self.revocation_reader(&claim, &store)?;
        let heard = reader.caught_up();
        background.spawn(reader.run());
        let keeper = LogTask::new((*settings).clone(), self.keeper_parts(config, claim))?;
        background.spawn(keeper.run());
        pulse.begin().await;
        background.spawn(pulse.run());
        if breaker.is_closed() {
            let all = async { tokio::join!(log.opened(), heard) };
            let _ = tokio::time::timeout(LOG_START_TIMEOUT, all).await;
        }
        Ok((Store::Failover(store), Arc::<RedisLog>::clone(log)))
    }

    fn keeper_parts(&self, config: &Config, claim: Arc<Claim>) -> LogTaskDeps {
        LogTaskDeps {
            log: Arc::clone(self.log),
            hub: Arc::clone(self.hub),
            log_entries: config.log_entries,
            log_bytes: config.log_bytes,
            claim,
            jitter: Arc::clone(self.jitter),
        }
    }

    fn revocation_reader(
        &self,
        claim: &Arc<Claim>,
        store: &Arc<FailoverStore>,
    ) -> Result<RevocationReader, Fault> {
        let hub = Arc::clone(self.hub);
        let parts = RevocationReaderDeps {
            store: Arc::clone(store),
            claim: Arc::clone(claim),
            clock: Arc::clone(self.clock),
            jitter: Arc::clone(self.jitter),
            metrics: Arc::clone(self.metrics),
            on_revoked: Box::new(move |id| {
                hub.end_streams_of(id);
            }),
        };
        RevocationReader::new(self.settings.clone(), parts)
    }
}

/// Processor cores that the process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::FLUSH;

    #[test]
    fn a_stop_ends_within_five_seconds_after_the_window() {
        /// actix looks once a second whether connections are still open.
        const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
        // One for the audit trail and one for the log. Effects end with the workers, and add
        // nothing.
        let flushes = 2 * FLUSH;
        let longest = ACCEPT_GRACE + REQUEST_GRACE + SHUTDOWN_GRACE + BETWEEN_LOOKS + flushes;
        assert!(longest <= Duration::from_secs(5), "{longest:?}");
        assert_eq!(SHUTDOWN_GRACE.subsec_nanos(), 0, "actix drops fractions");
    }
}
