//! Subjects: the end users for whom tokens are issued.

use std::fmt;
use std::sync::Arc;

/// Bound of a subject, in characters.
pub const LONGEST_SUBJECT: usize = 128;

/// The end user for whom a token is issued: 1 to 128 visible ASCII characters, which the service
/// never interprets. `Debug` does not show them, because logs name subjects by a hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// Checks the form of a subject.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_visible(text, LONGEST_SUBJECT).then(|| Self(text.into()))
    }

    /// The subject as the issuing backend wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(***)")
    }
}

/// Whether a text consists of 1 to `longest` visible ASCII characters.
pub(crate) fn is_visible(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
