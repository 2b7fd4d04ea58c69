//! Faults of Redis, with the text for administrators and the label for metrics.

use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

/// A fault of Redis. `Display` says what it is and what to do about it, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(FaultKind),
    derive(IntoStaticStr, VariantArray),
    strum(serialize_all = "snake_case"),
    doc = "Kind of a fault: value of the label `reason` in metrics."
)]
pub enum Fault {
    /// No answer within the deadline.
    #[error(
        "the server does not answer in time; check whether it is overloaded, stopped or cut off by a firewall"
    )]
    Timeout,
    /// The connection is refused.
    #[error(
        "the server cannot be reached ({0}); check that it is running, and that REDIS_HOST, REDIS_PORT or REDIS_URL has its address"
    )]
    Refused(String),
    /// The host name cannot be resolved.
    #[error("the host name cannot be resolved ({0}); check REDIS_HOST or REDIS_URL, and the DNS")]
    Unresolved(String),
    /// TLS failed.
    #[error(
        "TLS cannot be established ({0}); set redis.ca_file if a private authority issued the server's certificate, and redis.cert_file and redis.key_file if the server requires a client certificate"
    )]
    Untrusted(String),
    /// The connection broke.
    #[error("the connection broke ({0}); if this repeats, check the network and the log of Redis")]
    Disconnected(String),
    /// A credential was refused or is missing.
    #[error(
        "the user name or password is refused ({0}); check REDIS_PASSWORD, REDIS_USERNAME or those in REDIS_URL, and that this user exists and is on (ACL LIST)"
    )]
    Authentication(String),
    /// The user lacks a right.
    #[error("the user lacks a right ({0}); grant the rights that docs/redis.md lists (ACL SETUSER)")]
    Permission(String),
    /// The database does not exist.
    #[error("the database does not exist ({0}); check REDIS_DB, and `databases` in redis.conf")]
    Database(String),
    /// The server is a replica, by design or after a failover.
    #[error(
        "the server is a replica and takes no writes; if this lasts, set the address of the master, or use Sentinel"
    )]
    #[strum_discriminants(strum(serialize = "readonly"))]
    ReadOnly,
    /// The server is loading its data.
    #[error("the server is still loading its data; wait until it has finished")]
    Loading,
    /// The server has reached `maxmemory`.
    #[error("the memory is full (maxmemory), so no writes are taken; docs/redis.md says how much is needed")]
    OutOfMemory,
    /// The server refuses writes for another reason.
    #[error("the server takes no writes ({0}); remove the cause that it names")]
    NotWriting(String),
    /// No master is known.
    #[error(
        "no master can be found ({0}); check REDIS_SENTINELS and REDIS_SENTINEL_MASTER, and that the sentinels agree"
    )]
    NoMaster(String),
    /// Part of the cluster is missing.
    #[error("part of the Redis Cluster cannot be reached ({0}); CLUSTER INFO and CLUSTER NODES show which")]
    ClusterDown(String),
    /// The data belongs to another deployment.
    #[error(
        "the data belongs to another deployment, which accepts none of the signing keys of this instance. So this instance neither reads nor writes it. For a separate deployment set another redis.namespace or REDIS_DB, for the same deployment set the same signing keys or principals (VX11_OPERATOR_SIGNING_KEYS, VX11_PRINCIPAL_TOKEN)"
    )]
    OtherDeployment,
    /// The data has the schema of a later release.
    #[error(
        "the data was written by a later release (schema {0}). So this instance neither reads nor writes it. Update this instance to that release"
    )]
    NewerSchema(u64),
    /// An answer of an unexpected form.
    #[error("the answer of the server is unexpected ({0}); check that it is a Redis, 7.0 or newer")]
    Unexpected(String),
}

impl Fault {
    /// Value of the label `reason` in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        FaultKind::from(self).into()
    }
}
