//! Latencies of answers.

use std::time::Duration;

/// The value that so many of a hundred do not exceed; nothing of nothing.
pub(crate) fn percentile(mut values: Vec<Duration>, hundredths: usize) -> Duration {
    values.sort_unstable();
    let index = (values.len() * hundredths).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or_default()
}
