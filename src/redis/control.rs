//! Orders about subjects and streams: streams in Redis, which every instance reads. `src/control`
//! knows what their entries mean.

use std::time::Duration;

use super::announce::Announcements;
use crate::limits::{LONGEST_BLOCK_SECONDS, MOST_ORDERS};
use crate::token::LONGEST_TOMBSTONE;

/// Allowance for the differences of clocks.
const CLOCKS: Duration = Duration::from_mins(1);

/// Orders that revoke what was issued to a subject, or end streams.
pub(crate) static ORDERS: Announcements =
    Announcements { name: "control", kept: LONGEST_TOMBSTONE.saturating_add(CLOCKS), most: MOST_ORDERS };

/// Orders that block a subject, or end its block. They are kept for much longer, and apart, so that
/// many of the others do not drop them.
pub(crate) static BLOCKS: Announcements = Announcements {
    name: "blocks",
    kept: Duration::from_secs(LONGEST_BLOCK_SECONDS as u64).saturating_add(CLOCKS),
    most: MOST_ORDERS,
};
