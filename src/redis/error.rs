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
    #[error("it does not answer in time; check whether it is overloaded, stopped, or cut off by a firewall")]
    Timeout,
    /// The connection is refused.
    #[error(
        "nothing accepts connections there ({0}); check that it is running, and that the address is right (REDIS_HOST, REDIS_PORT, REDIS_URL)"
    )]
    Refused(String),
    /// The host name cannot be resolved.
    #[error("the host's name cannot be resolved ({0}); check REDIS_HOST or REDIS_URL and the DNS")]
    Unresolved(String),
    /// TLS failed.
    #[error(
        "TLS cannot be established ({0}); if its certificate comes from an authority of your own, give that authority's certificate as redis.ca_file, and if it asks for a certificate, redis.cert_file and redis.key_file"
    )]
    Untrusted(String),
    /// The connection broke.
    #[error("the connection broke ({0})")]
    Disconnected(String),
    /// A credential was refused or is missing.
    #[error(
        "it refuses the credentials ({0}); check REDIS_PASSWORD, REDIS_USERNAME or those in REDIS_URL, and that this user exists and is on (ACL LIST)"
    )]
    Authentication(String),
    /// The user lacks a right.
    #[error("its user lacks a right ({0}); docs/redis.md lists the rights that are needed (ACL SETUSER)")]
    Permission(String),
    /// The database does not exist.
    #[error("it has no database of this number ({0}); check REDIS_DB, and `databases` in redis.conf")]
    Database(String),
    /// The server is a replica, by design or after a failover.
    #[error(
        "it is a replica and takes no writes; if this lasts, point the configuration at the master, or use Sentinel"
    )]
    #[strum_discriminants(strum(serialize = "readonly"))]
    ReadOnly,
    /// The server is loading its data.
    #[error("it is still loading its data set")]
    Loading,
    /// The server has reached `maxmemory`.
    #[error("its memory is full (maxmemory) and it takes no writes; docs/redis.md says how much is needed")]
    OutOfMemory,
    /// The server refuses writes for another reason.
    #[error("it takes no writes at present ({0})")]
    NotWriting(String),
    /// No master is known.
    #[error(
        "no master can be found ({0}); check REDIS_SENTINELS and REDIS_SENTINEL_MASTER, and that the sentinels agree"
    )]
    NoMaster(String),
    /// Part of the cluster is missing.
    #[error("part of the cluster cannot be reached ({0}); CLUSTER INFO and CLUSTER NODES show which")]
    ClusterDown(String),
    /// The data belongs to another deployment.
    #[error(
        "its data belongs to another deployment, which accepts none of the signing keys of this instance, so this instance neither reads nor writes it; if that is meant to be another deployment, give this one a redis.namespace or a database (REDIS_DB) of its own, otherwise the same signing keys or principals (VX11_OPERATOR_SIGNING_KEYS, VX11_PRINCIPAL_TOKEN)"
    )]
    OtherDeployment,
    /// The data has the schema of a later release.
    #[error(
        "its data was written by a later release (schema {0}), so this instance neither reads nor writes it; update this instance to that release"
    )]
    NewerSchema(u64),
    /// An answer of an unexpected form.
    #[error("it answered what was not expected ({0})")]
    Unexpected(String),
}

impl Fault {
    /// Value of the label `reason` in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        FaultKind::from(self).into()
    }
}
