//! What an instance answers when it is asked how it is: its own words, and what it has heard of
//! all.

use serde::{Deserialize, Serialize};

/// What an instance says while it cannot reach its Redis. Its view is then of itself alone.
pub(super) const CUT_OFF: &str = "fallback-memory";

/// An answer of cache-stats, as far as it is shown.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::client) struct Answer {
    pub(super) backend: String,
    /// Live tokens, of all instances that the one that answers can know of.
    pub(super) cache_size: u64,
    pub(super) redis_memory_bytes: Option<u64>,
    pub(super) redis_ops_per_sec: Option<u64>,
    pub(super) instance: Myself,
    /// The instances it has heard of, itself among them.
    pub(super) cluster: Vec<Member>,
}

/// What only the instance itself knows.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Myself {
    pub(super) instance_id: String,
    #[serde(flatten)]
    pub(super) standing: Standing,
}

/// How it gets on with Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// None without Redis.
    pub(super) breaker: Option<String>,
    /// Records that wait in its memory for Redis.
    pub(super) fallback_entries: u64,
    /// RFC 3339, in UTC.
    pub(super) degraded_since: Option<String>,
}

/// What an instance lets the others know.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Member {
    pub(super) instance_id: String,
    pub(super) seen_seconds_ago: f64,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// Live tokens that it issued.
    pub(super) active: u64,
    pub(super) streams: u64,
}
