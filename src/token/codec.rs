//! The `UUIDv8` codec: claims and a signing key in, a self-authenticating token out, and back.
//!
//! The 122 free bits of the UUID hold, from the left: key hint (2), offline (1), expiry (12), nonce
//! (27) and the leftmost 80 bits of an HMAC-SHA-256 (RFC 2104) over all of them, the full expiry,
//! the digest of the grant's text if there is a grant, and the principal.

use std::time::Duration;

use hmac::Mac;
use sha2::{Digest, Sha256};

use super::keys::{SigningKey, SigningKeys};
use super::{Grant, GrantText, Nonce, Subject, Token, first_not_grantable, parts};
use crate::clock::UnixMillis;
use crate::limits::{CLOCK_SKEW, LONGEST_LIFE_SECONDS};
use crate::principal::{Principal, PrincipalId, Principals, Right};
use crate::topic::Patterns;

/// Binds a tag to the format of a token without a grant; a changed format gets a new label.
const PLAIN_LABEL: &[u8] = b"vx11-operator sse-token v1\0";
/// Binds a tag to the format of a token with a grant.
const GRANT_LABEL: &[u8] = b"vx11-operator sse-token v1 grant\0";
const TAG_BITS: u32 = 80;
const TAG_MASK: u128 = (1 << TAG_BITS) - 1;
/// The expiry is stored modulo this many seconds.
const EXPIRY_MODULUS: u64 = 1 << 12;
/// The expiry that is read from a token is at most this many seconds ahead, whoever signed it.
pub(super) const EXPIRY_HORIZON_SECONDS: u64 = EXPIRY_MODULUS / 2;

/// Claims of a token; the tag covers all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// First Unix second at which the token is no longer valid.
    pub expires_at: u64,
    /// Offline bit: the primary was unavailable when the token was issued, so no record is
    /// required.
    pub offline: bool,
    /// Makes tokens of the same second differ.
    pub nonce: Nonce,
}

/// A token whose tag, times and grant hold. Says nothing yet about revocation.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The token itself.
    pub token: Token,
    /// Whom it was issued to.
    pub principal: PrincipalId,
    /// Its claims.
    pub claims: Claims,
    /// Its grant; `None` for a token that is a UUID only.
    pub grant: Option<Box<Grant>>,
}

impl Verified {
    /// The topics that the token may read: those of its grant, or `default`.
    #[must_use]
    pub fn patterns(&self) -> Patterns {
        self.grant.as_ref().map_or_else(Patterns::default, |grant| grant.topics.clone())
    }
}

/// Reason why a text is no valid token. Clients get the same answer for all reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not the canonical form of a version-8 UUID, or of a grant.
    #[error("not in the form of a token")]
    Malformed,
    /// Not minted by an instance: no principal with one of its keys produces this tag, the expiry
    /// or the time of issue is none that an instance writes, or the principal may not issue it.
    #[error("no instance has signed this token")]
    Forged,
    /// Minted by an instance, and expired.
    #[error("the token has expired")]
    Expired,
}

/// Mints and verifies tokens.
#[derive(Debug)]
pub struct Codec {
    keys: SigningKeys,
}

impl Codec {
    /// A codec that signs with the first key that the principal may use, and verifies with all of
    /// those.
    #[must_use]
    pub const fn new(keys: SigningKeys) -> Self {
        Self { keys }
    }

    /// Mints the token that says `claims` about `principal`, with a grant that names the same
    /// principal. With another one, it is accepted nowhere.
    #[must_use]
    pub fn mint(&self, principal: &PrincipalId, claims: Claims, grant: Option<&GrantText>) -> Token {
        let key = self.keys.signing_for(principal);
        let fields = pack_fields(key.hint(), claims);
        let covered = Covered::new(fields, claims.expires_at, grant.map(GrantText::as_str));
        Token(layout(fields, tag(key, &covered, principal)))
    }

    /// Checks form, tag, times and topics of `text` at the time `now`. A token without a grant is
    /// tried against the principals that may have such tokens; a grant names its principal.
    ///
    /// A token that no instance issues is refused, because a holder of a credential can sign it:
    /// one that lives longer, whose revocation would be forgotten before its end, and one that its
    /// principal may not issue.
    ///
    /// # Errors
    /// The reason for refusing it.
    pub fn verify(
        &self,
        text: &str,
        now: UnixMillis,
        principals: &Principals,
    ) -> Result<Verified, CodecError> {
        let (uuid, grant_text) = parts(text);
        let token = Token::parse(uuid)?;
        let grant = grant_text.map(Grant::decode).transpose()?.map(Box::new);
        let (fields, presented) = split(token.0);
        let claims = unpack_fields(fields, now.seconds());
        let covered = Covered::new(fields, claims.expires_at, grant_text);

        let has_signed = |principal: &PrincipalId| self.has_signed(principal, &covered, presented);
        let signer = match &grant {
            Some(grant) => principals.find(&grant.principal).filter(|known| has_signed(known.id())),
            None => principals.plain().find(|id| has_signed(id)).and_then(|id| principals.find(id)),
        };
        let signer = signer.ok_or(CodecError::Forged)?;

        let issued_at = grant.as_ref().map(|grant| grant.issued_at);
        let verified = Verified { token, principal: signer.id().clone(), claims, grant };
        let is_issued_by_instances = claims.expires_at <= last_expiry(now)
            && issued_at.is_none_or(|moment| can_be_issued_at(moment, claims.expires_at))
            && may_issue(signer, &verified.patterns());
        if now.seconds() >= claims.expires_at + CLOCK_SKEW.as_secs() {
            Err(CodecError::Expired)
        } else if is_issued_by_instances {
            Ok(verified)
        } else {
            Err(CodecError::Forged)
        }
    }

    /// Name of a subject in logs: 16 hexadecimal characters of a MAC with a key that only instances
    /// of this deployment have.
    #[must_use]
    pub fn subject_hash(&self, subject: &Subject) -> String {
        self.keys.subject_hash(subject)
    }

    /// Whether the tag is one that a key of this principal makes.
    fn has_signed(&self, principal: &PrincipalId, covered: &Covered, presented: u128) -> bool {
        let mut keys = self.keys.verifying_for(principal, fields_hint(covered.fields));
        keys.any(|key| tags_match(tag(key, covered, principal), presented))
    }
}

/// Everything that a tag covers but the principal.
struct Covered {
    fields: u64,
    expires_at: u64,
    /// SHA-256 of the grant's text as it is presented.
    grant: Option<[u8; 32]>,
}

impl Covered {
    fn new(fields: u64, expires_at: u64, grant: Option<&str>) -> Self {
        Self { fields, expires_at, grant: grant.map(|text| Sha256::digest(text).into()) }
    }
}

/// The 42 bits before the tag.
fn pack_fields(hint: u8, claims: Claims) -> u64 {
    u64::from(hint) << 40
        | u64::from(claims.offline) << 39
        | (claims.expires_at % EXPIRY_MODULUS) << 27
        | u64::from(claims.nonce.bits())
}

const fn fields_hint(fields: u64) -> u8 {
    (fields >> 40 & 0b11) as u8
}

fn unpack_fields(fields: u64, now_seconds: u64) -> Claims {
    Claims {
        expires_at: nearest(fields >> 27 & (EXPIRY_MODULUS - 1), now_seconds),
        offline: fields >> 39 & 1 == 1,
        nonce: Nonce::from_bits((fields & 0x07ff_ffff) as u32),
    }
}

/// Whether a principal may issue a token for these topics. Its rights of today count: a token that
/// was issued before they were reduced is refused.
fn may_issue(principal: &Principal, patterns: &Patterns) -> bool {
    principal.may(Right::Issue) && first_not_grantable(principal, patterns).is_none()
}

/// Whether an instance can have issued a token with this expiry at this moment. Both are of one
/// clock, which may be ahead of this one: a moment that is yet to come is no reason to refuse, as
/// the expiry of a plain token is none.
fn can_be_issued_at(moment: UnixMillis, expires_at: u64) -> bool {
    moment.seconds() < expires_at && expires_at <= last_expiry(moment)
}

/// The latest expiry of a token that any instance has issued by `now`: issuing rounds up to the
/// whole second, too.
fn last_expiry(now: UnixMillis) -> u64 {
    now.plus(Duration::from_secs(LONGEST_LIFE_SECONDS.into()) + CLOCK_SKEW).seconds_rounded_up()
}

/// The second nearest to `now` whose low bits are `low`.
fn nearest(low: u64, now: u64) -> u64 {
    // Shifted up by one modulus so that the sum cannot go below zero near 1970.
    let earliest = now + EXPIRY_MODULUS - EXPIRY_HORIZON_SECONDS;
    let candidate = earliest + (low.wrapping_sub(earliest) % EXPIRY_MODULUS);
    candidate.saturating_sub(EXPIRY_MODULUS)
}

/// Every part but the last has a fixed length, which the label determines.
fn tag(key: &SigningKey, covered: &Covered, principal: &PrincipalId) -> u128 {
    let mut mac = key.mac();
    mac.update(if covered.grant.is_some() { GRANT_LABEL } else { PLAIN_LABEL });
    mac.update(&covered.fields.to_be_bytes());
    mac.update(&covered.expires_at.to_be_bytes());
    if let Some(grant) = &covered.grant {
        mac.update(grant);
    }
    mac.update(principal.as_str().as_bytes());
    let mut leftmost = [0_u8; 16];
    leftmost[6..].copy_from_slice(&mac.finalize().into_bytes()[..10]);
    u128::from_be_bytes(leftmost)
}

fn tags_match(ours: u128, presented: u128) -> bool {
    use subtle::ConstantTimeEq;
    ours.to_be_bytes().ct_eq(&presented.to_be_bytes()).into()
}

/// Spreads 42 bits of fields and 80 bits of tag around version and variant: 48, version, 12,
/// variant, 62.
fn layout(fields: u64, tag: u128) -> [u8; 16] {
    let free = u128::from(fields) << TAG_BITS | tag;
    let (a, b, c) = (free >> 74, free >> 62 & 0xfff, free & ((1 << 62) - 1));
    (a << 80 | 0x8 << 76 | b << 64 | 0b10 << 62 | c).to_be_bytes()
}

fn split(bytes: [u8; 16]) -> (u64, u128) {
    let uuid = u128::from_be_bytes(bytes);
    let (a, b, c) = (uuid >> 80, uuid >> 64 & 0xfff, uuid & ((1 << 62) - 1));
    let free = a << 74 | b << 62 | c;
    ((free >> TAG_BITS) as u64, free & TAG_MASK)
}

#[cfg(test)]
mod tests;
