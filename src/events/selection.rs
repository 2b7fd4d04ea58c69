//! Open streams as seen from outside: their ids, what a list shows of them, and how a command
//! selects them.

use std::fmt;

use crate::clock::UnixMillis;
use crate::principal::PrincipalId;
use crate::token::{Subject, TokenId};
use crate::topic::Patterns;

/// Id of a stream, unique among all instances; not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub(super) const fn number(self) -> u64 {
        self.0
    }

    /// Reads an id as [`Display`](fmt::Display) writes it: 16 lower-case hexadecimal characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_id = text.len() == 16 && text.bytes().all(is_hex);
        if is_id { u64::from_str_radix(text, 16).ok().map(Self) } else { None }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An open stream in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenStream {
    /// Its id.
    pub stream_id: StreamId,
    /// The token that opened it; `None` for a principal's credential.
    pub token_id: Option<TokenId>,
    /// The end user whom the token is for.
    pub subject: Option<Subject>,
    /// The topics that it delivers.
    pub topics: Patterns,
    /// The principal, or the principal that the token was issued to.
    pub principal: PrincipalId,
    /// Time of opening, by the clock of its instance.
    pub opened_at: UnixMillis,
}

/// The streams that a command ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Those of a subject.
    Subject(Subject),
    /// Those that a token opened.
    Token(TokenId),
    /// One stream.
    Stream(StreamId),
    /// Those of a principal: by its credential, and by tokens issued to it.
    Principal(PrincipalId),
    /// Those that deliver events of this topic, a name.
    Topic(String),
}

/// The streams that a list shows: those that match everything given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFilter {
    /// Streams of this subject.
    pub subject: Option<Subject>,
    /// Streams that deliver events of this topic, a name.
    pub topic: Option<String>,
    /// Streams of this principal and of tokens issued to it.
    pub principal: Option<PrincipalId>,
}
