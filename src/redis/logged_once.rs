//! Faults that were logged, so that one that lasts is logged once.

use super::error::Fault;

/// Reasons that were logged in an outage.
#[derive(Default)]
pub(crate) struct LoggedOnce(Vec<&'static str>);

impl LoggedOnce {
    /// Whether this reason was not logged yet; notes it.
    pub(crate) fn is_new(&mut self, fault: &Fault) -> bool {
        let is_new = !self.0.contains(&fault.label());
        if is_new {
            self.0.push(fault.label());
        }
        is_new
    }

    /// Begins another outage.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
