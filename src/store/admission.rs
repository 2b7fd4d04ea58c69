//! Leases of subjects, and tickets: the knowledge that all instances share when a stream opens. A
//! ticket is a single-use token.
//!
//! A lease is a place among the open streams of a subject. It ends when it is released, and with
//! the alive entry of its instance. Times are those of the store's clock.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::StoreError;
use crate::token::{Subject, TokenDigest};

/// Time without renewal after which an instance counts as dead. Its last renewal is not before its
/// death by more than the interval of renewals, so its leases end within 3 s after it.
pub const ALIVE: Duration = Duration::from_millis(2500);

/// Time after the first opening of a ticket in which it may be opened again, while no stream of it
/// is open.
pub const TICKET_WINDOW: Duration = Duration::from_secs(5);

/// Policy for a stream beyond the limit of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectPolicy {
    /// It is refused.
    Refuse,
    /// The oldest stream of the subject ends.
    ReplaceOldest,
}

/// Limit of a subject's open streams, on all instances together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectLimit {
    /// Number of streams.
    pub streams: usize,
    /// Policy beyond it.
    pub policy: SubjectPolicy,
}

/// Leases and tickets that all instances share.
///
/// All operations are idempotent: each may be repeated after a timeout.
#[async_trait]
pub trait AdmissionStore: Send + Sync {
    /// Whether the store is in use.
    fn is_available(&self) -> bool;

    /// Changes whenever the store may have lost something.
    fn generation(&self) -> u64;

    /// Renews the alive entry of this instance.
    ///
    /// # Errors
    /// The store is unavailable, or its user lacks a right.
    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, StoreError>;

    /// Takes leases.
    ///
    /// # Errors
    /// The store is unavailable.
    async fn take_leases(&self, wanted: &WantedLeases) -> Result<LeaseAnswer, StoreError>;

    /// Takes leases of several subjects.
    ///
    /// # Errors
    /// The store is unavailable; some leases may have been taken.
    async fn take_all_leases(&self, wanted: &[WantedLeases]) -> Result<Vec<LeaseAnswer>, StoreError>;

    /// Releases leases.
    ///
    /// # Errors
    /// The store is unavailable; some leases may have been released.
    async fn release_leases(&self, leases: &[(SubjectKey, String)]) -> Result<(), StoreError>;

    /// Takes a ticket.
    ///
    /// # Errors
    /// The store is unavailable.
    async fn take_ticket(&self, wanted: &WantedTicket) -> Result<TicketAnswer, StoreError>;

    /// Takes and releases tickets. Returns the answer for each that is to be taken.
    ///
    /// # Errors
    /// The store is unavailable; some tickets may have been taken or released.
    async fn settle_tickets(&self, changes: &[TicketChange])
    -> Result<Vec<Option<TicketAnswer>>, StoreError>;

    /// Alive entry of the instance that holds a ticket.
    ///
    /// # Errors
    /// The store is unavailable.
    async fn alive_entry(&self, holder: &TicketHolder) -> Result<AliveEntry, StoreError>;

    /// A stream of this instance as holder of a ticket.
    fn holder(&self, stream: &str) -> TicketHolder;
}

/// Name of a subject in the store: the first half of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey(u128);

impl SubjectKey {
    /// The name of a subject.
    #[must_use]
    pub fn of(subject: &Subject) -> Self {
        let hash = Sha256::digest(subject.as_str());
        let mut leftmost = [0; 16];
        leftmost.copy_from_slice(&hash[..16]);
        Self(u128::from_be_bytes(leftmost))
    }
}

impl fmt::Display for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Renewal of an alive entry.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// Gives up the leases of the present session.
    pub gives_up: bool,
    /// Time up to which this instance has released the tickets that it no longer holds.
    pub settled: u64,
    /// Replaced streams that this instance has ended.
    pub ended: Vec<String>,
}

/// A renewed alive entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Time of the renewal.
    pub at: u64,
    /// Session of the instance. In another session than before, its leases have to be taken again.
    pub session: u64,
    /// Streams of this instance whose leases others have replaced.
    pub replaced: Vec<String>,
}

/// Leases for streams of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLeases {
    /// The subject.
    pub subject: SubjectKey,
    /// Ids of the streams, and the time since their opening.
    pub streams: Vec<(String, Duration)>,
    /// Limit of the subject's streams.
    pub limit: usize,
    /// Whether the oldest stream makes room.
    pub replaces: bool,
    /// Last renewal that this instance knows of.
    pub renewed: u64,
    /// Longest life of the streams.
    pub kept: Duration,
}

/// Answer to [`WantedLeases`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The instance has to renew its alive entry first.
    RenewFirst,
    /// The leases were taken, except for those of `refused` streams.
    Taken {
        /// Streams without room.
        refused: Vec<String>,
        /// Streams that made room.
        replaced: Vec<String>,
    },
}

/// Holder of a ticket: a stream with its instance, or a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketHolder(String);

impl TicketHolder {
    const REQUEST: &str = "r:";

    /// A stream of the instance with this field.
    #[must_use]
    pub fn stream(stream: &str, field: &str) -> Self {
        Self(format!("{stream} {field}"))
    }

    /// A request. Its id may contain anything, so the name is a hash.
    #[must_use]
    pub fn request(id: &str) -> Self {
        let hash = Sha256::digest(id);
        Self(format!("{}{}", Self::REQUEST, hex::encode(&hash[..16])))
    }

    /// A holder in the text of the store.
    #[must_use]
    pub const fn parsed(text: String) -> Self {
        Self(text)
    }

    /// Whether it is a stream, which holds the ticket until it ends.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        !self.0.starts_with(Self::REQUEST)
    }

    /// Field of the instance of a stream.
    pub(super) fn field(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, field)| field)
    }

    /// The text in the store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A ticket to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTicket {
    /// The token.
    pub digest: TokenDigest,
    /// The stream or the request.
    pub holder: TicketHolder,
    /// Time since the opening.
    pub age: Duration,
    /// Holder that is known to be dead.
    pub displaced: Option<TicketHolder>,
    /// Rest of the token's life.
    pub kept: Duration,
}

/// Answer to [`WantedTicket`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketAnswer {
    /// It is taken.
    Taken {
        /// Whether nobody had opened it before.
        is_first: bool,
    },
    /// It was opened before, and may not be opened again.
    Used,
    /// Another one holds it.
    Held(TicketHolder),
}

/// A ticket to be released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedTicket {
    /// The token.
    pub digest: TokenDigest,
    /// The stream.
    pub holder: TicketHolder,
    /// Time since the opening.
    pub age: Duration,
    /// Whether nothing was opened.
    pub is_undone: bool,
    /// Whether a call that takes it may still be on its way.
    pub is_uncertain: bool,
    /// Rest of the token's life.
    pub kept: Duration,
}

/// Change of a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketChange {
    /// It is taken.
    Take(WantedTicket),
    /// It is released.
    Release(ReleasedTicket),
}

/// Alive entry of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliveEntry {
    /// Time of reading.
    pub now: u64,
    /// Last renewal; `None` without an entry.
    pub renewed: Option<u64>,
    /// Time up to which the instance has released the tickets that it no longer holds.
    pub settled: u64,
}
