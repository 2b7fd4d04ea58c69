//! Times in which the machine was busy with something else. They are taken off, so that a test that
//! shares its machine still judges the instances and not their neighbours; on a quiet machine there
//! are none.

use std::time::Duration;

use crate::history::{History, Moment};

/// Time after starvation in which the queue is still served.
const AFTERMATH: Duration = Duration::from_millis(50);

/// None of them touches another.
pub(crate) struct Starvation(Vec<(Moment, Moment)>);

impl Starvation {
    pub(crate) fn of(history: &History) -> Self {
        let mut all: Vec<_> = history.starvation.iter().map(|it| (it.from, it.until + AFTERMATH)).collect();
        all.sort_unstable();
        let mut apart: Vec<(Moment, Moment)> = Vec::new();
        for (from, until) in all {
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => apart.push((from, until)),
            }
        }
        Self(apart)
    }

    /// Starved time within a period.
    pub(crate) fn within(&self, from: Moment, until: Moment) -> Duration {
        let parts = self
            .0
            .iter()
            .map(|starved_time| starved_time.1.min(until).saturating_sub(starved_time.0.max(from)));
        parts.sum()
    }
}
