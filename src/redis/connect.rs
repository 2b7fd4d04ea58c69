//! The connector: dials the server, the master that the sentinels name, or the cluster.
//!
//! The driver of a connection is a task of the runtime that dials. Dial on the runtime that uses
//! the connection.

use std::time::Duration;

use deadpool_redis::{Manager, Pool, PoolError, Timeouts};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::connection::Connection;
use super::error::Fault;
use super::settings::{HostPort, RedisSettings, Topology};

/// Deadline of a dial, from the first packet to the answer to the greeting.
const DIAL_DEADLINE: Duration = Duration::from_secs(1);
/// Longest deadline of a caller: a page of the event log.
const LONGEST_CALL: Duration = Duration::from_secs(5);
/// Deadline of a question to a sentinel.
const SENTINEL_DEADLINE: Duration = Duration::from_millis(300);
/// Maximum age of a pool, as of a worker connection.
const MAX_AGE: Duration = Duration::from_mins(10);
/// Lifetime of the sentinels' answer.
const MASTER_KNOWN: Duration = Duration::from_secs(1);
/// `TCP_USER_TIMEOUT`: time without an acknowledgement after which the kernel ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// Interval of TCP keep-alive; shorter than the timeouts of middleboxes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Bound of the calls that wait for a connection's driver.
const PIPELINE: usize = 1024;
/// Connections of the pool: the health check's and one more.
const POOL_SIZE: usize = 2;

/// Dials connections to Redis.
pub(crate) struct Connector {
    settings: RedisSettings,
    cluster: Option<ClusterClient>,
    /// Pool for calls off the hot path, with the server that it leads to.
    pool: Mutex<Option<OpenPool>>,
    /// Last answer of the sentinels, and its time.
    master: Mutex<Option<(HostPort, Instant)>>,
    /// Server that was dialled last.
    dialled: Mutex<Option<HostPort>>,
}

/// A pool, with the server it leads to.
struct OpenPool {
    server: HostPort,
    pool: Pool,
    since: Instant,
}

impl Connector {
    /// Creates a connector without dialling.
    pub(crate) fn new(settings: RedisSettings) -> RedisResult<Self> {
        let mut connector = Self {
            settings,
            cluster: None,
            pool: Mutex::default(),
            master: Mutex::default(),
            dialled: Mutex::default(),
        };
        match &connector.settings.topology {
            Topology::Cluster { nodes } => connector.cluster = Some(connector.cluster_client(nodes)?),
            Topology::Single(_) | Topology::Sentinel { .. } => {}
        }
        Ok(connector)
    }

    /// Dials a new connection, driven by the caller's runtime.
    ///
    /// # Errors
    /// Redis cannot be reached or refuses the connection.
    pub(crate) async fn dial(&self) -> Result<Connection, Fault> {
        if let Some(cluster) = &self.cluster {
            let connected = tokio::time::timeout(DIAL_DEADLINE, cluster.get_async_connection()).await;
            return Ok(Connection::Cluster(connected.map_err(|_| Fault::Timeout)??));
        }
        let server = self.server().await?;
        let connection = open(self.info(&server, self.user(), self.settings.db)?).await?;
        *self.dialled.lock() = Some(server);
        Ok(Connection::Node(connection))
    }

    /// A tested connection of the pool, for calls off the hot path. Waiting for one, testing it and
    /// dialling a new one may each take `patience`. A cluster has no pool, because its connection
    /// is one already.
    pub(crate) async fn pooled(&self, patience: Duration) -> Result<deadpool_redis::Connection, Fault> {
        let server = self.server().await?;
        let pool = self.pool_for(server)?;
        let timeouts = Timeouts { wait: Some(patience), create: Some(patience), recycle: Some(patience) };
        pool.timeout_get(&timeouts).await.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => Fault::Timeout,
            other => Fault::Unexpected(other.to_string()),
        })
    }

    /// Whether connections off the hot path come from [`Self::pooled`]: not in a cluster.
    pub(crate) const fn has_pool(&self) -> bool {
        self.cluster.is_none()
    }

    fn pool_for(&self, server: HostPort) -> Result<Pool, Fault> {
        let mut pool = self.pool.lock();
        let fits = |open: &&OpenPool| open.server == server && open.since.elapsed() < MAX_AGE;
        if let Some(open) = pool.as_ref().filter(fits) {
            return Ok(open.pool.clone());
        }
        let info = self.info(&server, self.user(), self.settings.db)?;
        let manager = Manager::new_with_config(info, connection_config())?;
        let new = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(deadpool_redis::Runtime::Tokio1)
            .build()
            .map_err(|error| Fault::Unexpected(error.to_string()))?;
        *pool = Some(OpenPool { server, pool: new.clone(), since: Instant::now() });
        Ok(new)
    }

    /// Asks the sentinels whether the pool's server is still the master; true without sentinels.
    /// During a failover the old master still reports itself as master.
    pub(crate) async fn is_still_the_master(&self) -> bool {
        match self.settings.topology {
            Topology::Single(_) | Topology::Cluster { .. } => true,
            Topology::Sentinel { .. } => {
                let known = self.pool.lock().as_ref().map(|open| open.server.clone());
                known.is_some() && self.named_master().await == known
            }
        }
    }

    /// The server that was dialled last; `None` for a cluster.
    pub(crate) fn dialled(&self) -> Option<HostPort> {
        self.dialled.lock().clone()
    }

    /// Asks the sentinels for the master. `None` without sentinels or without a majority.
    pub(crate) async fn named_master(&self) -> Option<HostPort> {
        let (sentinels, master) = match &self.settings.topology {
            Topology::Sentinel { sentinels, master } => (sentinels, master),
            Topology::Single(_) | Topology::Cluster { .. } => return None,
        };
        let (named, votes) = self.ask_sentinels(sentinels, master).await.ok()?;
        (votes > sentinels.len() / 2).then_some(named)
    }

    /// Drops the known master and the pool that leads there: a demoted master still answers.
    pub(crate) fn forget(&self) {
        *self.master.lock() = None;
        *self.pool.lock() = None;
    }

    /// The server to dial.
    async fn server(&self) -> Result<HostPort, Fault> {
        match &self.settings.topology {
            Topology::Single(server) => Ok(server.clone()),
            Topology::Sentinel { sentinels, master } => {
                let known = self.master.lock().clone().filter(|(_, asked)| asked.elapsed() < MASTER_KNOWN);
                if let Some((server, _)) = known {
                    return Ok(server);
                }
                let (server, _votes) = self.ask_sentinels(sentinels, master).await?;
                *self.master.lock() = Some((server.clone(), Instant::now()));
                Ok(server)
            }
            Topology::Cluster { .. } => {
                Err(Fault::Unexpected("a cluster has more than one server".to_owned()))
            }
        }
    }

    /// The master that most sentinels name, as soon as a majority has answered: an isolated
    /// sentinel may name the old master, and a lost one must not delay the answer. Without a
    /// majority, the most frequent answer: lost sentinels do not stop an instance. It may then
    /// write to an old master, which `min-replicas-to-write` prevents (docs/adr/0009).
    async fn ask_sentinels(&self, sentinels: &[HostPort], master: &str) -> Result<(HostPort, usize), Fault> {
        let mut asked: FuturesUnordered<_> = sentinels
            .iter()
            .map(|sentinel| async move {
                let answer = tokio::time::timeout(SENTINEL_DEADLINE, self.ask_sentinel(sentinel, master));
                match answer.await {
                    Ok(Ok(Some(server))) => Ok(server),
                    Ok(Ok(None)) => Err(format!("{sentinel} knows no master {master:?}")),
                    Ok(Err(fault)) => Err(format!("{sentinel}: {fault}")),
                    Err(_) => Err(format!("{sentinel} does not answer")),
                }
            })
            .collect();
        let mut votes: Vec<(HostPort, usize)> = Vec::new();
        let mut complaints = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(server) => {
                    let place = votes.iter().position(|(known, _)| *known == server);
                    let place = place.unwrap_or_else(|| {
                        votes.push((server, 0));
                        votes.len() - 1
                    });
                    votes[place].1 += 1;
                    if votes[place].1 > sentinels.len() / 2 {
                        break;
                    }
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        let named = votes.into_iter().max_by_key(|(_, votes)| *votes);
        named.ok_or_else(|| Fault::NoMaster(complaints.join("; ")))
    }

    async fn ask_sentinel(&self, sentinel: &HostPort, master: &str) -> Result<Option<HostPort>, Fault> {
        let info = self.info(sentinel, (None, self.settings.sentinel_password.as_ref()), 0)?;
        let mut connection = open(info).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(master);
        let answer: Option<(String, u16)> = command.query_async(&mut connection).await?;
        Ok(answer.map(|(host, port)| HostPort { host, port }))
    }

    /// User and password for Redis; sentinels have other users.
    fn user(&self) -> (Option<&String>, Option<&SecretString>) {
        (self.settings.username.as_ref(), self.settings.password.as_ref())
    }

    fn info(
        &self,
        server: &HostPort,
        (username, password): (Option<&String>, Option<&SecretString>),
        db: i64,
    ) -> RedisResult<ConnectionInfo> {
        let mut redis = RedisConnectionInfo::default().set_db(db).set_skip_set_lib_name();
        if let Some(password) = password {
            redis = redis.set_password(password.expose_secret());
            if let Some(username) = username {
                redis = redis.set_username(username);
            }
        }
        let HostPort { host, port } = server.clone();
        let address = if self.settings.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = address.into_connection_info()?.set_redis_settings(redis).set_tcp_settings(tcp_settings());
        match self.certificates() {
            None => Ok(info),
            // The library takes certificates only through an address.
            Some(certificates) => {
                Client::build_with_tls(info, certificates).map(|client| client.get_connection_info().clone())
            }
        }
    }

    fn cluster_client(&self, nodes: &[HostPort]) -> RedisResult<ClusterClient> {
        let infos: Vec<_> =
            nodes.iter().map(|node| self.info(node, self.user(), 0)).collect::<RedisResult<_>>()?;
        let mut builder = ClusterClient::builder(infos)
            .connection_timeout(DIAL_DEADLINE / 2)
            // Every caller has a shorter deadline. The library requires one for its internal calls.
            .response_timeout(LONGEST_CALL)
            .tcp_settings(tcp_settings())
            // One redirection is normal after a slot has moved; longer failures are left to the
            // breaker.
            .retries(1);
        if let Some(certificates) = self.certificates() {
            builder = builder.certs(certificates);
        }
        builder.build()
    }

    /// Trusted authorities and the client certificate, if configured.
    fn certificates(&self) -> Option<TlsCertificates> {
        let RedisSettings { tls, ca, client, .. } = &self.settings;
        let client_tls = client.as_ref().map(|client| ClientTlsConfig {
            client_cert: client.chain.clone(),
            client_key: client.key.expose_secret().as_bytes().to_vec(),
        });
        let is_needed = *tls && (ca.is_some() || client_tls.is_some());
        is_needed.then(|| TlsCertificates { client_tls, root_cert: ca.clone() })
    }
}

async fn open(info: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    Client::open(info)?.get_multiplexed_async_connection_with_config(&connection_config()).await
}

/// Callers own the deadlines; the library's deadline would keep dead connections in use.
fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(DIAL_DEADLINE))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE)
}

fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    settings
}
