//! Cache-stats of an instance: its own state, and its view of all instances.

use serde::{Deserialize, Serialize};

/// Backend of an instance whose Redis is unavailable. Its view then contains itself only.
pub(super) const CUT_OFF: &str = "fallback-memory";

/// The parts of cache-stats that are shown.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CacheStats {
    pub(super) backend: String,
    /// Live tokens of all instances in its view.
    pub(super) cache_size: u64,
    pub(super) redis_memory_bytes: Option<u64>,
    pub(super) redis_ops_per_sec: Option<u64>,
    pub(super) instance: Myself,
    /// The instances in its view, itself included.
    pub(super) cluster: Vec<Member>,
}

/// State that only the instance itself reports.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Myself {
    pub(super) instance_id: String,
    #[serde(flatten)]
    pub(super) standing: Standing,
}

/// State of its circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// `None` without Redis.
    pub(super) breaker: Option<String>,
    /// Entries that Redis does not have yet.
    pub(super) fallback_entries: u64,
    /// RFC 3339, in UTC.
    pub(super) degraded_since: Option<String>,
}

/// Member record of an instance.
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
