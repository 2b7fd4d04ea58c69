//! The wait of an opener for a stream that holds its ticket.
//!
//! It ends with the first of these:
//!
//! - The stream ends and releases the ticket. The opener takes it.
//! - Its instance is dead. The opener takes the ticket.
//! - Its instance has lived for [`NOTICES`] longer, and has released all that it had to release by
//!   then. So the stream is open, and the opener is refused.
//! - [`TICKET_WINDOW`](crate::store::TICKET_WINDOW) after the first opening, the opener is refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::admission::Deadline;
use crate::store::{ALIVE, AdmissionStore, AliveEntry, TicketHolder};

/// Interval of looks at the ticket.
pub(super) const POLL: Duration = Duration::from_millis(100);
/// Time in which an instance notices that a client has left: the proxy closes the connection, and
/// the instance reads that.
const NOTICES: Duration = Duration::from_millis(300);

/// A stream that an opener waits for.
pub(super) struct Waiting {
    holder: TicketHolder,
    /// Time of the first look, by the clock of Redis.
    began: Option<u64>,
    since: Instant,
}

/// Knowledge about the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its instance is dead.
    Dead,
    /// It is open.
    Open,
    /// It may be either.
    Unknown,
}

impl Waiting {
    pub(super) fn new(holder: TicketHolder) -> Self {
        Self { holder, began: None, since: Instant::now() }
    }

    pub(super) const fn holder(&self) -> &TicketHolder {
        &self.holder
    }

    /// Finds out whether the stream is open. Without the store, only streams of this instance are
    /// waited for.
    pub(super) async fn look(
        &mut self,
        store: Option<&Arc<dyn AdmissionStore>>,
        deadline: Deadline,
    ) -> Verdict {
        let Some(store) = store else {
            let has_lived = self.since.elapsed() >= NOTICES;
            return if has_lived { Verdict::Open } else { Verdict::Unknown };
        };
        let Some(entry) = deadline.keep(store.alive_entry(&self.holder)).await else {
            return Verdict::Unknown;
        };
        judge(entry, *self.began.get_or_insert(entry.now))
    }
}

/// Proof by the alive entry of an instance, to an opener that began to wait at `began`.
fn judge(entry: AliveEntry, began: u64) -> Verdict {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // After a loss of data, an instance that is alive has its entry again within that time.
    let last = entry.renewed.unwrap_or(began);
    if entry.now.abs_diff(last) > millis(ALIVE) {
        Verdict::Dead
    } else if entry.renewed.is_some() && entry.settled > began + millis(NOTICES) {
        Verdict::Open
    } else {
        Verdict::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: u64 = 1_767_470_400_000;

    fn verdict(now: u64, renewed: Option<u64>, settled: u64) -> Verdict {
        let at = |millis| BEGAN + millis;
        judge(AliveEntry { now: at(now), renewed: renewed.map(at), settled: at(settled) }, BEGAN)
    }

    #[test]
    fn an_instance_is_dead_when_its_last_renewal_is_too_old() {
        assert_eq!(verdict(2500, Some(0), 0), Verdict::Unknown);
        assert_eq!(verdict(2501, Some(0), 0), Verdict::Dead);
        assert_eq!(verdict(2501, Some(1), 0), Verdict::Unknown);
    }

    #[test]
    fn an_entry_that_is_missing_may_come_back_while_the_opener_waits() {
        assert_eq!(verdict(2500, None, 0), Verdict::Unknown);
        assert_eq!(verdict(2501, None, 0), Verdict::Dead);
    }

    #[test]
    fn a_stream_is_open_when_its_instance_has_settled_everything_long_enough_after_the_first_look() {
        assert_eq!(verdict(700, Some(600), 300), Verdict::Unknown);
        assert_eq!(verdict(700, Some(600), 301), Verdict::Open);
    }
}
