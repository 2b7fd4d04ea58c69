//! Grants: what a token may open. A token carries its grant as a text, and its tag covers that
//! text.
//!
//! The encoding is strict: each grant has exactly one text, and no other text is a grant. The
//! format is specified, with test vectors, in `docs/token-format.md`.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::CodecError;
use crate::clock::UnixMillis;
use crate::principal::{Principal, PrincipalId, Right};
use crate::subject::{Subject, is_visible};
use crate::topic::{MOST_TOPICS, Pattern, Patterns};

/// Bound of a grant's text, in characters.
pub const LONGEST_GRANT: usize = 1024;
/// Bound of a resource, in characters.
pub const LONGEST_RESOURCE: usize = 512;

/// Bound of a grant before it is written in base64, in bytes.
const LARGEST_GRANT: usize = LONGEST_GRANT / 4 * 3;
const VERSION: u8 = 1;
/// The latest moment that fits into a grant: in the year 10889, after the last of RFC 3339.
const LATEST: u64 = (1 << 48) - 1;

// Numbers of the fields.
const PRINCIPAL: u8 = 1;
const ISSUED_AT: u8 = 2;
const SUBJECT: u8 = 3;
const TOPICS: u8 = 4;
const STREAM_UNTIL: u8 = 5;
const SINGLE_USE: u8 = 6;
const RESOURCE: u8 = 7;

/// The only resource that a token opens: 1 to 512 visible ASCII characters. `Debug` does not show
/// them, because a path may name a user.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Resource(Arc<str>);

impl Resource {
    /// Checks the form of a resource.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_visible(text, LONGEST_RESOURCE).then(|| Self(text.into()))
    }

    /// The resource as the issuing backend wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resource(***)")
    }
}

/// A grant: the issue of a token, and everything that the token may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The principal that the token was issued to.
    pub principal: PrincipalId,
    /// Time of issue.
    pub issued_at: UnixMillis,
    /// The end user for whom the token was issued.
    pub subject: Option<Subject>,
    /// The topics that it may read.
    pub topics: Patterns,
    /// The latest end of its streams.
    pub stream_until: Option<UnixMillis>,
    /// Whether it opens one stream only.
    pub single_use: bool,
    /// The only resource that it opens.
    pub resource: Option<Resource>,
}

impl Grant {
    /// Writes the grant. A moment after the year 10889 is written as the last one that fits.
    ///
    /// # Errors
    /// [`GrantTooLong`] if the text would have more than [`LONGEST_GRANT`] characters.
    pub fn encode(&self) -> Result<GrantText, GrantTooLong> {
        let mut fields = Encoder(vec![VERSION]);
        fields.put(PRINCIPAL, self.principal.as_str().as_bytes())?;
        fields.put(ISSUED_AT, &moment_bytes(self.issued_at))?;
        if let Some(subject) = &self.subject {
            fields.put(SUBJECT, subject.as_str().as_bytes())?;
        }
        fields.put(TOPICS, &topics_bytes(&self.topics)?)?;
        if let Some(moment) = self.stream_until {
            fields.put(STREAM_UNTIL, &moment_bytes(moment))?;
        }
        if self.single_use {
            fields.put(SINGLE_USE, &[])?;
        }
        if let Some(resource) = &self.resource {
            fields.put(RESOURCE, resource.as_str().as_bytes())?;
        }
        fields.finish()
    }

    /// Reads a grant: accepts exactly what [`encode`](Self::encode) writes.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] for anything else.
    pub fn decode(text: &str) -> Result<Self, CodecError> {
        // A longer text does not fit into the buffer.
        let mut buffer = [0; LARGEST_GRANT];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).map_err(|_| CodecError::Malformed)?;
        let (version, fields) =
            buffer.get(..length).and_then(<[u8]>::split_first).ok_or(CodecError::Malformed)?;
        if *version != VERSION {
            return Err(CodecError::Malformed);
        }

        let mut fields = Decoder(fields);
        let grant = Self {
            principal: fields.required(PRINCIPAL, |value| PrincipalId::parse(utf8(value)?))?,
            issued_at: fields.required(ISSUED_AT, moment)?,
            subject: fields.optional(SUBJECT, |value| Subject::parse(utf8(value)?))?,
            topics: fields.required(TOPICS, topics)?,
            stream_until: fields.optional(STREAM_UNTIL, moment)?,
            single_use: fields.optional(SINGLE_USE, |value| value.is_empty().then_some(()))?.is_some(),
            resource: fields.optional(RESOURCE, |value| Resource::parse(utf8(value)?))?,
        };
        // A field that is left is unknown, out of order, doubled or cut off.
        if fields.0.is_empty() { Ok(grant) } else { Err(CodecError::Malformed) }
    }
}

/// The first of these patterns that a principal may not grant: one that its own topics do not
/// cover, and one of the service's own topics without the right to observe.
#[must_use]
pub fn first_not_grantable<'a>(principal: &Principal, patterns: &'a Patterns) -> Option<&'a Pattern> {
    let may_grant = |pattern: &Pattern| {
        if pattern.is_of_service() {
            principal.may(Right::Observe)
        } else {
            principal.topics().iter().any(|own| own.covers(pattern))
        }
    };
    patterns.iter().find(|pattern| !may_grant(pattern))
}

/// The text of a grant, as a token carries it: base64url without padding, at most
/// [`LONGEST_GRANT`] characters. Opens nothing, and is no secret; `Debug` shows its length only,
/// because it contains the subject.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantText(Box<str>);

impl GrantText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for GrantText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantText({} characters)", self.0.len())
    }
}

/// The text of a grant would be longer than a token may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the grant has more than {LONGEST_GRANT} characters; ask for fewer or shorter topics")]
pub struct GrantTooLong;

/// Fields in ascending order of their numbers.
struct Encoder(Vec<u8>);

impl Encoder {
    fn put(&mut self, number: u8, value: &[u8]) -> Result<(), GrantTooLong> {
        let length = u16::try_from(value.len()).map_err(|_| GrantTooLong)?;
        self.0.push(number);
        self.0.extend(length.to_be_bytes());
        self.0.extend(value);
        Ok(())
    }

    fn finish(self) -> Result<GrantText, GrantTooLong> {
        if self.0.len() > LARGEST_GRANT {
            return Err(GrantTooLong);
        }
        Ok(GrantText(URL_SAFE_NO_PAD.encode(self.0).into()))
    }
}

/// The fields that were not read yet. Each is asked for once, in ascending order of the numbers, so
/// that one in another place is never read.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// The value of the next field, if that has this number.
    fn take(&mut self, number: u8) -> Option<&'a [u8]> {
        let (&[found, high, low], rest) = self.0.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
        if found != number {
            return None;
        }
        self.0 = rest;
        Some(value)
    }

    fn optional<T>(
        &mut self,
        number: u8,
        parse: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, CodecError> {
        self.take(number).map(|value| parse(value).ok_or(CodecError::Malformed)).transpose()
    }

    fn required<T>(
        &mut self,
        number: u8,
        parse: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<T, CodecError> {
        self.optional(number, parse)?.ok_or(CodecError::Malformed)
    }
}

fn utf8(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

fn moment_bytes(moment: UnixMillis) -> [u8; 6] {
    let [_, _, bytes @ ..] = moment.0.min(LATEST).to_be_bytes();
    bytes
}

fn moment(value: &[u8]) -> Option<UnixMillis> {
    let bytes: [u8; 6] = value.try_into().ok()?;
    Some(UnixMillis(bytes.into_iter().fold(0, |moment, byte| moment << 8 | u64::from(byte))))
}

fn topics_bytes(topics: &Patterns) -> Result<Vec<u8>, GrantTooLong> {
    let mut bytes = Vec::new();
    for pattern in topics.iter() {
        let pattern = pattern.as_str().as_bytes();
        bytes.push(u8::try_from(pattern.len()).map_err(|_| GrantTooLong)?);
        bytes.extend(pattern);
    }
    Ok(bytes)
}

fn topics(mut value: &[u8]) -> Option<Patterns> {
    let mut patterns = Vec::new();
    while let Some((&length, rest)) = value.split_first() {
        // The bound keeps the work for a forged grant small.
        if patterns.len() == MOST_TOPICS {
            return None;
        }
        let (pattern, rest) = rest.split_at_checked(length.into())?;
        patterns.push(utf8(pattern)?);
        value = rest;
    }
    Patterns::new(patterns).ok()
}

#[cfg(test)]
mod tests;
