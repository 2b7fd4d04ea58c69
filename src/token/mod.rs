//! Tokens as values: what they look like, how they prove themselves, what is kept about them. No
//! I/O.
//!
//! [`Codec`] turns claims into a [`Token`] and back; [`SigningKeys`] holds what it signs with;
//! [`Grant`] is what the token may open; [`Record`] is what a store remembers. The format is
//! specified, with test vectors, in `docs/token-format.md`.

mod codec;
mod grant;
mod keys;
mod nonce;
mod record;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use codec::{Claims, Codec, CodecError, Verified};
pub use grant::{
    Grant, GrantText, GrantTooLong, LONGEST_GRANT, LONGEST_RESOURCE, Resource, first_not_grantable,
};
pub use keys::{KeyError, SigningKey, SigningKeys};
pub use nonce::{Nonce, NonceSource};
pub use record::{Draft, Record};

use crate::limits::TOMBSTONE_MARGIN;
pub use crate::subject::{LONGEST_SUBJECT, Subject};

/// Longest life of a tombstone. A revocation by id does not know when the token ends, so it is kept
/// until the latest end that a token can say at that moment. That is beyond what any instance
/// issues: who holds a principal's credential can sign a token that is refused now and would be
/// accepted later.
pub const LONGEST_TOMBSTONE: Duration =
    Duration::from_secs(codec::EXPIRY_HORIZON_SECONDS + TOMBSTONE_MARGIN.as_secs());

/// Between the UUID and the grant of a token. Neither contains it.
const SEPARATOR: char = '.';

/// A bearer token: the sixteen bytes of its UUID. Secret, so `Debug` shows only its [`TokenId`]. A
/// token with a grant is handed out and presented with the text of it ([`written`]).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// Reads the one accepted spelling of a token without a grant: 36 lower-case characters with
    /// hyphens, UUID version 8, variant 10 (RFC 9562 §4, §5.8). Braced, URN, simple and upper-case
    /// forms are not tokens.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] for anything else.
    pub fn parse(text: &str) -> Result<Self, CodecError> {
        const HYPHENS: [usize; 4] = [8, 13, 18, 23];
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(CodecError::Malformed);
        }
        let mut value = [0_u8; 16];
        let mut nibbles = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let digit = match byte {
                b'-' if HYPHENS.contains(&at) => continue,
                _ if HYPHENS.contains(&at) => return Err(CodecError::Malformed),
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return Err(CodecError::Malformed),
            };
            value[nibbles / 2] = value[nibbles / 2] << 4 | digit;
            nibbles += 1;
        }
        let version_and_variant_fit = value[6] >> 4 == 8 && value[8] >> 6 == 0b10;
        if version_and_variant_fit { Ok(Self(value)) } else { Err(CodecError::Malformed) }
    }

    /// The UUID in clear, for the one response that hands it out.
    #[must_use]
    pub fn reveal(&self) -> String {
        uuid::Uuid::from_bytes(self.0).hyphenated().to_string()
    }

    /// Key of the token in a store: 128 bits of its SHA-256.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        let hash = Sha256::digest(self.0);
        let mut leftmost = [0; 16];
        leftmost.copy_from_slice(&hash[..16]);
        TokenDigest(u128::from_be_bytes(leftmost))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(id {})", self.digest().id())
    }
}

/// The token in clear as it is handed out: `<uuid>`, or `<uuid>.<grant>`.
#[must_use]
pub fn written(token: &Token, grant: Option<&GrantText>) -> String {
    let mut text = token.reveal();
    if let Some(grant) = grant {
        text.push(SEPARATOR);
        text.push_str(grant.as_str());
    }
    text
}

/// The texts of the UUID and of the grant in the text of a token.
fn parts(text: &str) -> (&str, Option<&str>) {
    text.split_once(SEPARATOR).map_or((text, None), |(uuid, grant)| (uuid, Some(grant)))
}

/// The UUID of a token, whatever follows it.
///
/// # Errors
/// [`CodecError::Malformed`] if the text does not begin with one.
pub fn uuid_of(text: &str) -> Result<Token, CodecError> {
    Token::parse(parts(text).0)
}

/// Whether a text is meant as a token: a UUID, or one before a full stop and anything. Tells a
/// token that is to be refused from the wrong credential of a principal.
#[must_use]
pub fn is_token_shaped(text: &str) -> bool {
    uuid_of(text).is_ok()
}

/// The leftmost 128 bits of the SHA-256 of a token's sixteen bytes. Opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenDigest(u128);

impl TokenDigest {
    /// The public name of the token: the first half of the digest.
    #[must_use]
    pub const fn id(self) -> TokenId {
        TokenId((self.0 >> 64) as u64)
    }

    /// All digests of tokens with this id; in practice there is one.
    #[must_use]
    pub const fn with_id(id: TokenId) -> RangeInclusive<Self> {
        let first = (id.0 as u128) << 64;
        RangeInclusive::new(Self(first), Self(first | u64::MAX as u128))
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0; 32];
        // Much cheaper than formatting the number, and done for every token.
        hex::encode_to_slice(self.0.to_be_bytes(), &mut hex).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&hex).map_err(|_| fmt::Error)?)
    }
}

/// Names a token without giving it away: 16 hex characters of its SHA-256, safe to log and to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(u64);

impl TokenId {
    /// Reads 16 lower-case hex characters.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] for anything else.
    pub fn parse(text: &str) -> Result<Self, CodecError> {
        let is_hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return Err(CodecError::Malformed);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| CodecError::Malformed)
    }

    /// The id as a number, for picking a shard.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_token() -> impl Strategy<Value = Token> {
        any::<[u8; 16]>().prop_map(|mut bytes| {
            bytes[6] = 0x80 | (bytes[6] & 0x0f);
            bytes[8] = 0x80 | (bytes[8] & 0x3f);
            Token(bytes)
        })
    }

    proptest! {
        #[test]
        fn a_token_reads_back_as_itself(token in any_token()) {
            prop_assert_eq!(Token::parse(&token.reveal()), Ok(token));
        }

        #[test]
        fn every_alias_form_of_a_uuid_is_refused(token in any_token()) {
            let canonical = token.reveal();
            let simple = canonical.replace('-', "");
            let aliases = [
                simple.clone(),
                format!("{{{canonical}}}"),
                format!("{{{simple}}}"),
                format!("urn:uuid:{canonical}"),
                format!(" {canonical}"),
                format!("{canonical}\n"),
                format!("{canonical}\0"),
                canonical.replace('-', "_"),
                canonical.replacen('-', "", 1) + "-",
                canonical.replacen('-', "0", 1),
                "0".repeat(36),
                format!("{}-", &canonical[..35]),
            ];
            for alias in aliases {
                prop_assert_eq!(Token::parse(&alias), Err(CodecError::Malformed), "{}", alias);
            }
            let upper = canonical.to_uppercase();
            prop_assert_eq!(Token::parse(&upper).is_ok(), upper == canonical);
        }

        #[test]
        fn other_versions_and_variants_are_refused(token in any_token(), version in 0_u8..16, variant in 0_u8..4) {
            let mut bytes = token.0;
            bytes[6] = version << 4 | (bytes[6] & 0x0f);
            bytes[8] = variant << 6 | (bytes[8] & 0x3f);
            let expected = version == 8 && variant == 0b10;
            prop_assert_eq!(Token::parse(&Token(bytes).reveal()).is_ok(), expected);
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = Token::parse(&text);
            let _ = TokenId::parse(&text);
            let _ = is_token_shaped(&text);
        }

        #[test]
        fn a_token_id_reads_back_as_itself(token in any_token()) {
            let id = token.digest().id();
            prop_assert_eq!(TokenId::parse(&id.to_string()), Ok(id));
        }
    }

    #[test]
    fn a_uuid_is_meant_as_a_token_with_and_without_anything_after_a_full_stop() {
        const UUID: &str = "0f0f0f0f-0f0f-8f0f-8f0f-0f0f0f0f0f0f";
        for text in [UUID, &format!("{UUID}."), &format!("{UUID}.AQ"), &format!("{UUID}. \u{e4}.\n")] {
            assert!(is_token_shaped(text), "{text}");
        }
        for text in ["", ".", "secret.AQ", &format!("{UUID}x"), &format!("{UUID} .AQ"), &format!(".{UUID}")] {
            assert!(!is_token_shaped(text), "{text}");
        }
    }

    #[test]
    fn debug_output_does_not_show_the_token() {
        let token = Token::parse("0f0f0f0f-0f0f-8f0f-8f0f-0f0f0f0f0f0f").unwrap();
        let shown = format!("{token:?}");
        assert!(!shown.contains("0f0f0f0f"), "{shown}");
    }

    #[test]
    fn a_token_id_with_a_sign_or_capitals_is_refused() {
        for text in ["+123456789abcdef", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", ""] {
            assert_eq!(TokenId::parse(text), Err(CodecError::Malformed), "{text}");
        }
    }
}
