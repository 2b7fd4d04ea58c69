//! Orders about subjects and streams: streams in Redis, which every instance reads. `src/control`
//! knows what their entries mean.

use std::time::Duration;

use super::announce::Announcements;
use crate::limits::{LONGEST_BLOCK_SECONDS, MOST_ORDERS};
use crate::token::LONGEST_TOMBSTONE;

/// Allowance for the differences of clocks.
const CLOCKS: Duration = Duration::from_mins(1);

/// Orders that revoke what was issued to a subject, or end streams. The bound has room for all live
/// orders of both kinds, and as many again as of one: an instance announces a live order again that
/// has left its stream, which therefore must not push out another one.
pub(crate) static ORDERS: Announcements =
    Announcements { name: "control", kept: LONGEST_TOMBSTONE.saturating_add(CLOCKS), most: 3 * MOST_ORDERS };

/// Orders that block a subject, or end its block. They are kept for much longer, and apart, so that
/// many of the others do not push them out. The bound is as for [`ORDERS`].
pub(crate) static BLOCKS: Announcements = Announcements {
    name: "blocks",
    kept: Duration::from_secs(LONGEST_BLOCK_SECONDS as u64).saturating_add(CLOCKS),
    most: 2 * MOST_ORDERS,
};
