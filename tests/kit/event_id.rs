//! Event ids as clients see them.

use std::fmt;
use std::str::FromStr;

/// `<epoch>-<ms>-<seq>`: a place in the log. Places are ordered within an epoch; between epochs
/// they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    /// Log epoch.
    pub epoch: u32,
    /// Milliseconds since 1970.
    pub millis: u64,
    /// Within the millisecond.
    pub seq: u64,
}

/// The text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(NotAnEventId);
        let (epoch, millis, seq) = (next()?, next()?, next()?);
        let number = |text: &str| text.parse().map_err(|_| NotAnEventId);
        let id = Self {
            epoch: u32::from_str_radix(epoch, 16).map_err(|_| NotAnEventId)?,
            millis: number(millis)?,
            seq: number(seq)?,
        };
        if parts.next().is_some() { Err(NotAnEventId) } else { Ok(id) }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}-{}", self.epoch, self.millis, self.seq)
    }
}
