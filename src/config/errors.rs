//! Errors of a configuration, collected so that all are reported at once.

use std::time::Duration;

use super::raw::StrictInt;
use super::sources::{Misplaced, Sources};
use super::syntax;
use crate::store::ENTRY_BYTES;

/// Groups of keys that depend on each other, by prefix.
const GROUPS: [&str; 2] = ["principal", "redis"];

/// All errors of a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration cannot be used:\n  {}", .0.join("\n  "))]
pub struct ConfigErrors(pub Vec<String>);

impl ConfigErrors {
    /// All errors as one line for the log, without the lines of a file that they show.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let one_line = |error: &String| {
            let text = error.lines().take_while(|line| !line.starts_with(syntax::MARGIN));
            text.collect::<Vec<_>>().join(" ")
        };
        self.0.iter().map(one_line).collect::<Vec<_>>().join("; ")
    }
}

/// Collects errors, so that all are reported at once.
#[derive(Default)]
pub(super) struct ErrorCollector {
    pub(super) sources: Sources,
    pub(super) lines: Vec<String>,
    /// Groups with an unreadable key: their other keys cannot be checked together.
    pub(super) undecided: Vec<&'static str>,
}

impl ErrorCollector {
    pub(super) fn add(&mut self, key: &str, problem: impl std::fmt::Display) {
        if !self.undecided.iter().any(|group| key.starts_with(group)) {
            self.lines.push(format!("{}: {problem}", self.sources.describe(key)));
        }
    }

    pub(super) fn add_misplaced(&mut self, Misplaced { key, problem }: &Misplaced) {
        self.lines.push(format!("{key} ({}): {problem}", self.sources.file_name()));
    }

    /// Suppresses further errors about the group of this key.
    pub(super) fn judge_no_further(&mut self, key: &str) {
        self.undecided.extend(GROUPS.iter().filter(|group| key.starts_with(**group)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn range(
        &mut self,
        key: &str,
        StrictInt(value): StrictInt,
        low: u32,
        high: u32,
        unit: &str,
    ) -> u32 {
        u32::try_from(value).ok().filter(|value| (low..=high).contains(value)).unwrap_or_else(|| {
            self.add(key, format_args!("{value} is out of range; allowed are {low} to {high} {unit}"));
            low
        })
    }

    pub(super) fn seconds(&mut self, key: &str, value: StrictInt, low: u32, high: u32) -> Duration {
        Duration::from_secs(self.range(key, value, low, high, "seconds").into())
    }

    pub(super) fn milliseconds(&mut self, key: &str, value: StrictInt, low: u32, high: u32) -> Duration {
        Duration::from_millis(self.range(key, value, low, high, "milliseconds").into())
    }

    pub(super) fn at_least_one_entry(&mut self, key: &str, bytes: StrictInt) -> u64 {
        let StrictInt(value) = bytes;
        u64::try_from(value).ok().filter(|value| *value >= ENTRY_BYTES).unwrap_or_else(|| {
            self.add(
                key,
                format_args!("{value} is out of range; allowed are {ENTRY_BYTES} bytes (one record) or more"),
            );
            ENTRY_BYTES
        })
    }

    pub(super) fn size(&mut self, key: &str, StrictInt(value): StrictInt, unit: &str) -> usize {
        usize::try_from(value).ok().filter(|value| *value > 0).unwrap_or_else(|| {
            self.add(key, format_args!("{value} is out of range; allowed is any positive number of {unit}"));
            1
        })
    }
}
