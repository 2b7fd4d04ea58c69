//! The state of the cluster at one moment, printed as a table or JSON.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::cache_stats::{CUT_OFF, CacheStats, Figures, Standing};

/// Members with names of cache-stats have the same meaning.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Picture {
    /// Backends of the instances, without repetition.
    pub(super) backends: Vec<String>,
    pub(super) cache_size: u64,
    pub(super) streams: u64,
    pub(super) redis_memory_bytes: Option<u64>,
    pub(super) redis_ops_per_sec: Option<u64>,
    /// The earliest of all instances.
    pub(super) degraded_since: Option<String>,
    pub(super) instances: Vec<Row>,
}

/// An instance.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) instance_id: String,
    /// Age of the newest figures.
    #[serde(rename = "seen_seconds_ago", serialize_with = "seconds")]
    pub(super) seen: Duration,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// `None` for an instance that has not answered itself.
    pub(super) own: Option<Own>,
    /// Gone: not mentioned any more, and not counted.
    #[serde(skip)]
    pub(super) is_gone: bool,
}

/// State that the instance itself reported.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Own {
    #[serde(rename = "said_seconds_ago", serialize_with = "seconds")]
    pub(super) said: Duration,
    pub(super) backend: String,
    #[serde(flatten)]
    pub(super) standing: Standing,
}

impl Picture {
    /// The rows in order, and their sum. `whole` is an answer with all of them in view, if there is
    /// one.
    pub(super) fn new(mut rows: Vec<Row>, whole: Option<&CacheStats>) -> Self {
        // Shorter names first, so that 10 comes after 9.
        let order = |row: &Row| (row.instance_id.len(), row.instance_id.clone());
        rows.sort_by_cached_key(order);
        let present = || rows.iter().filter(|row| !row.is_gone);
        let mut backends: Vec<_> =
            present().filter_map(|row| row.own.as_ref()).map(|own| &own.backend).collect();
        backends.sort_unstable();
        backends.dedup();
        let since =
            rows.iter().filter_map(Row::cut_off).filter_map(|own| own.standing.degraded_since.as_ref());
        Self {
            backends: backends.into_iter().cloned().collect(),
            // Revoked tokens count as issued, not as live, so this sum is the second best.
            cache_size: whole
                .map_or_else(|| present().map(|row| row.figures.active).sum(), |whole| whole.cache_size),
            streams: present().map(|row| row.figures.streams).sum(),
            redis_memory_bytes: whole.and_then(|whole| whole.redis_memory_bytes),
            redis_ops_per_sec: whole.and_then(|whole| whole.redis_ops_per_sec),
            degraded_since: since.min().cloned(),
            instances: rows,
        }
    }

    /// The row of an instance.
    pub(super) fn row(&self, instance_id: &str) -> Option<&Row> {
        self.instances.iter().find(|row| row.instance_id == instance_id)
    }
}

impl Row {
    /// The text about an instance without its Redis.
    pub(super) fn cut_off(&self) -> Option<&Own> {
        self.own.as_ref().filter(|own| own.backend == CUT_OFF && !self.is_gone)
    }
}

/// To the millisecond.
fn seconds<S: Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
    serializer.serialize_f64(f64::from(millis) / 1000.0)
}
