//! The composition root: turns a configuration into a running instance. The only file that names concrete
//! backends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use secrecy::ExposeSecret;

use crate::ambient::{Clock, Jitter, SystemClock};
use crate::config::Config;
use crate::events::{Epoch, Hub, HubSettings, MemoryBus, StreamSettings};
use crate::http::{AppState, Door, ExtraRoutes, Limits, ServerSettings, serve};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::principal::Principals;
use crate::service::{Parts, TokenService};
use crate::store::{
    FailoverStore, Fault, Gate, MemoryStore, Pulse, PulseSettings, RedisStore, RedisStoreParts, TokenStore,
};
use crate::telemetry::RequestIds;
use crate::token::{Codec, NonceSource};

/// Open files that are not streams: connections of other requests, sockets, libraries.
const RESERVED_FILES: u64 = 1024;
/// How long connections that were accepted just before the drain may take to say what they came for. Nobody else may
/// be asked again for what they carry, such as an event.
const FIRST_WORDS: Duration = Duration::from_millis(250);
/// How long after the drain window connections may take to say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A built instance that already holds its port.
pub struct Application {
    server: Server,
    door: Door,
    hub: Arc<Hub>,
    lifecycle: Arc<Lifecycle>,
    housekeeping: Housekeeping,
    drain_window: Duration,
}

/// Why an instance could not be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; is another process using it? Set VX11_OPERATOR_LISTEN to a free address:port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
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

impl Application {
    /// Builds an instance, with `extra` routes beside its own. Where Redis is configured it is asked once before the
    /// first request is taken, so that an instance whose Redis is well never starts degraded.
    ///
    /// # Errors
    /// When the address cannot be bound, or Redis is configured in a way that can never work.
    pub async fn build(config: &Config, extra: Option<ExtraRoutes>) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let jitter = Arc::new(Jitter::seeded(getrandom::u64()?));
        let lifecycle = Arc::new(Lifecycle::default());
        let metrics = Arc::new(Metrics::new()?);
        let open_files = raise_open_files();
        let streams = allowed_streams(config.max_streams, open_files);
        let hub = Arc::new(Hub::new(HubSettings {
            instance_id: config.instance_id.clone(),
            epoch: Epoch(getrandom::u32()?),
            ring: config.ring,
            streams: StreamSettings {
                cap: streams,
                heartbeat: config.heartbeat,
                max_age: config.max_stream_age,
                retry: config.retry,
            },
            clock: Arc::clone(&clock),
            jitter: Arc::clone(&jitter),
            metrics: Arc::clone(&metrics),
        }));
        let (store, mut pulse) = choose_store(config, &hub, &metrics, &clock, jitter)?;
        if let Some(pulse) = &mut pulse {
            pulse.begin().await;
        }
        let principals = config.principals.iter();
        let tokens = TokenService::new(Parts {
            codec: Codec::new(config.signing_keys.clone()),
            principals: Principals::new(principals.map(|(id, secret)| (id.clone(), secret.expose_secret()))),
            store: store.as_store(),
            nonces: NonceSource::new(&config.instance_id, getrandom::u32()?),
            ttl: config.token_ttl,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        });
        let limits = Arc::new(Limits::new(config.issue_per_second, config.failed_auth_per_minute));
        let state = AppState {
            tokens,
            bus: Box::new(MemoryBus::new(Arc::clone(&hub), Arc::clone(&metrics))),
            hub: Arc::clone(&hub),
            metrics: Arc::clone(&metrics),
            lifecycle: Arc::clone(&lifecycle),
            clock: Arc::clone(&clock),
            limits: Arc::clone(&limits),
            request_ids: RequestIds::new(getrandom::u64()?),
            instance_id: config.instance_id.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            body_timeout: config.body_timeout,
        };
        let settings = ServerSettings {
            listen: config.listen,
            workers: config.workers,
            max_connections: usize::try_from(open_files).unwrap_or(usize::MAX),
            shutdown_timeout: config.drain_window + LAST_WORDS,
            extra,
        };
        let (server, door) = serve(&settings, state)
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let housekeeping = Housekeeping { limits, store, metrics, clock, pulse };
        Ok(Self { server, door, hub, lifecycle, housekeeping, drain_window: config.drain_window })
    }

    /// Where the instance listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// Serves until `stop` completes, then drains: no new connections, streams ended one after the other, and
    /// at last the return.
    ///
    /// # Errors
    /// When the server fails by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let Self { server, door, hub, lifecycle, housekeeping, drain_window } = self;
        let handle = server.handle();
        let mut server = std::pin::pin!(server);
        lifecycle.set_ready();
        let stopped = async {
            stop.await;
            lifecycle.set_draining();
            drain(&door, &handle, &hub, drain_window).await;
        };
        let stopped = std::pin::pin!(stopped);
        tokio::select! {
            outcome = &mut server => outcome,
            () = stopped => server.await,
            () = housekeeping.run() => Ok(()),
        }
    }
}

/// Stops accepting, then ends the streams. Behind `least_conn` a draining instance would attract every reconnect
/// if it still listened; a refused connection nginx takes to the next instance.
async fn drain(door: &Door, handle: &ServerHandle, hub: &Hub, window: Duration) {
    door.close();
    tokio::time::sleep(FIRST_WORDS).await;
    // Takes effect at the call; what it returns completes with the last connection, as the server itself does.
    let _stopping = handle.stop(true);
    // A stream whose client does not read cannot be ended in order; the server cuts it at its own deadline.
    let _ = tokio::time::timeout(window + LAST_WORDS / 2, hub.drain(window)).await;
}

/// What needs doing about once a second, whether requests come or not.
struct Housekeeping {
    limits: Arc<Limits>,
    store: Store,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    pulse: Option<Pulse>,
}

impl Housekeeping {
    async fn run(mut self) {
        let pulse = self.pulse.take();
        let pulse = async {
            match pulse {
                Some(pulse) => pulse.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(pulse, self.every_second());
    }

    async fn every_second(self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.store.sweep();
            self.limits.shed();
            self.metrics.settle_expired(self.clock.now());
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

/// Memory alone, or Redis with memory beside it and the pulse between them.
fn choose_store(
    config: &Config,
    hub: &Arc<Hub>,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    jitter: Arc<Jitter>,
) -> Result<(Store, Option<Pulse>), StartError> {
    let memory = || MemoryStore::new(config.memory, Arc::clone(clock));
    let Some(settings) = &config.redis else {
        return Ok((Store::Memory(Arc::new(memory())), None));
    };
    let gate = Arc::new(Gate::new(Arc::clone(clock), Arc::clone(metrics)));
    let parts = RedisStoreParts {
        instance_id: config.instance_id.clone(),
        start: getrandom::u64()?,
        clock: Arc::clone(clock),
        jitter: Arc::clone(&jitter),
        gate: Arc::clone(&gate),
    };
    let redis = RedisStore::new(settings.clone(), parts)?;
    let store = Arc::new(FailoverStore::new(Arc::new(redis), gate, memory(), memory()));
    let hub = Arc::clone(hub);
    let pulse = Pulse::new(PulseSettings {
        store: Arc::clone(&store),
        metrics: Arc::clone(metrics),
        jitter,
        on_revoked: Box::new(move |token| {
            hub.end_streams_of(token);
        }),
    });
    Ok((Store::Failover(store), Some(pulse)))
}

/// Raises the limit on open files as far as the system lets it; says how far that is.
fn raise_open_files() -> u64 {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    raised.or_else(|_| rlimit::Resource::NOFILE.get_soft()).unwrap_or(1024)
}

/// The cap on streams, lowered where the system's limit on open files leaves room for fewer.
fn allowed_streams(configured: usize, open_files: u64) -> usize {
    let room = usize::try_from(open_files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX).max(1);
    if room < configured {
        tracing::warn!(
            configured,
            open_files,
            allowed = room,
            "fewer streams than configured: the limit on open files (ulimit -n, LimitNOFILE=) is too low"
        );
    }
    configured.min(room)
}
