//! The `UUIDv8` codec: claims and a signing key in, a self-authenticating token out, and back.
//!
//! The 122 free bits of the UUID hold, from the left: key hint (2), offline (1), expiry (12), nonce
//! (27) and the leftmost 80 bits of an HMAC-SHA-256 (RFC 2104) over all of them, the full expiry
//! and the principal.

use std::time::Duration;

use hmac::Mac;

use super::keys::{SigningKey, SigningKeys};
use super::{Nonce, Token};
use crate::clock::UnixMillis;
use crate::limits::{CLOCK_SKEW, LONGEST_LIFE_SECONDS};
use crate::principal::PrincipalId;

/// Binds a tag to this format; a changed format gets a new label.
const LABEL: &[u8] = b"vx11-operator sse-token v1\0";
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

/// A token whose tag and expiry hold. Says nothing yet about revocation.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The token itself.
    pub token: Token,
    /// Whom it was issued to.
    pub principal: PrincipalId,
    /// Its claims.
    pub claims: Claims,
}

/// Reason why a text is no valid token. Clients get the same answer for all reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not the canonical form of a version-8 UUID.
    #[error("not in the form of a token")]
    Malformed,
    /// Not minted by an instance: no principal with one of its keys produces this tag, or the
    /// lifetime is longer than any instance's.
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

    /// Mints the token that says `claims` about `principal`.
    #[must_use]
    pub fn mint(&self, principal: &PrincipalId, claims: Claims) -> Token {
        let key = self.keys.signing_for(principal);
        let fields = pack_fields(key.hint(), claims);
        Token(layout(fields, tag(key, fields, claims.expires_at, principal)))
    }

    /// Checks form, tag and expiry of `text`, for each of `principals`, at the time `now`. A token
    /// that lives longer than any that an instance issues is refused: a holder of a credential can
    /// sign it, and its revocation would be forgotten before its end.
    ///
    /// # Errors
    /// The reason for refusing it.
    pub fn verify<'a>(
        &self,
        text: &str,
        now: UnixMillis,
        principals: impl Iterator<Item = &'a PrincipalId>,
    ) -> Result<Verified, CodecError> {
        let token = Token::parse(text)?;
        let (fields, presented) = split(token.0);
        let claims = unpack_fields(fields, now.seconds());
        let hint = fields_hint(fields);

        for principal in principals {
            for key in self.keys.verifying_for(principal, hint) {
                if tags_match(tag(key, fields, claims.expires_at, principal), presented) {
                    return if now.seconds() >= claims.expires_at + CLOCK_SKEW.as_secs() {
                        Err(CodecError::Expired)
                    } else if claims.expires_at > last_expiry(now) {
                        Err(CodecError::Forged)
                    } else {
                        Ok(Verified { token, principal: principal.clone(), claims })
                    };
                }
            }
        }
        Err(CodecError::Forged)
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

fn tag(key: &SigningKey, fields: u64, expires_at: u64, principal: &PrincipalId) -> u128 {
    let mut mac = key.mac();
    mac.update(LABEL);
    mac.update(&fields.to_be_bytes());
    mac.update(&expires_at.to_be_bytes());
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_500);

    fn principal(name: &str) -> PrincipalId {
        PrincipalId::parse(name).unwrap()
    }

    /// Keys that sign for every principal, each made from a text.
    fn codec(seeds: &[&str]) -> Codec {
        let keys: Vec<_> = seeds.iter().map(|seed| hex::encode(seed.repeat(32))).collect();
        Codec::new(SigningKeys::from_hex(keys.iter().map(String::as_str)).unwrap())
    }

    /// Keys that were derived from the credentials of principals.
    fn derived(credentials: &[(&PrincipalId, &str)]) -> Codec {
        let credentials = credentials.iter().map(|(owner, secret)| ((*owner).clone(), secret.as_bytes()));
        Codec::new(SigningKeys::derived(credentials).unwrap())
    }

    fn lasting(seconds: u64) -> Claims {
        Claims { expires_at: NOW.seconds() + seconds, offline: false, nonce: Nonce::from_bits(1) }
    }

    fn claims() -> impl Strategy<Value = Claims> {
        (0..u64::from(LONGEST_LIFE_SECONDS), any::<bool>(), 0_u32..1 << 27).prop_map(
            |(life, offline, nonce)| Claims {
                expires_at: NOW.seconds() + 1 + life,
                offline,
                nonce: Nonce::from_bits(nonce),
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_minted_verifies_with_the_same_claims(claims in claims()) {
            let (codec, alice, bob) = (codec(&["k"]), principal("alice"), principal("bob"));
            let token = codec.mint(&bob, claims);
            let verified = codec.verify(&token.reveal(), NOW, [&alice, &bob].into_iter()).unwrap();
            prop_assert_eq!(verified.claims, claims);
            prop_assert_eq!(verified.principal, bob);
        }

        #[test]
        fn every_one_bit_flip_is_refused(claims in claims()) {
            let (codec, alice) = (codec(&["k"]), principal("alice"));
            let token = codec.mint(&alice, claims);
            for bit in 0..128 {
                let flipped = (u128::from_be_bytes(token.0) ^ 1 << bit).to_be_bytes();
                let outcome = codec.verify(&Token(flipped).reveal(), NOW, [&alice].into_iter());
                prop_assert!(outcome.is_err(), "bit {}", bit);
            }
        }

        #[test]
        fn arbitrary_uuids_are_never_accepted(bytes in any::<[u8; 16]>()) {
            let (codec, alice) = (codec(&["k"]), principal("alice"));
            prop_assert!(codec.verify(&Token(bytes).reveal(), NOW, [&alice].into_iter()).is_err());
        }

        #[test]
        fn the_expiry_is_rebuilt_across_the_wrap_of_its_12_bits(start in 0_u64..1 << 40, life in 0_u64..=900, elapsed in 0_u64..2040) {
            let now = start + elapsed;
            let expires_at = start + life;
            prop_assert_eq!(nearest(expires_at % EXPIRY_MODULUS, now), expires_at);
        }
    }

    #[test]
    fn a_token_lives_until_its_expiry_plus_the_skew_and_no_longer() {
        let (codec, alice) = (codec(&["k"]), principal("alice"));
        let claims = lasting(60);
        let text = codec.mint(&alice, claims).reveal();
        let at = |second| codec.verify(&text, UnixMillis(second * 1000), [&alice].into_iter()).map(|_| ());
        assert_eq!(at(claims.expires_at + CLOCK_SKEW.as_secs() - 1), Ok(()));
        assert_eq!(at(claims.expires_at + CLOCK_SKEW.as_secs()), Err(CodecError::Expired));
        // So late that the 12 bits mean another second, which the tag does not cover.
        assert_eq!(at(claims.expires_at + 3000), Err(CodecError::Forged));
    }

    #[test]
    fn a_token_that_lives_longer_than_any_instance_issues_is_refused() {
        let (codec, alice) = (codec(&["k"]), principal("alice"));
        let verify = |life, now: UnixMillis| {
            let text = codec.mint(&alice, lasting(life)).reveal();
            codec
                .verify(&text, now, [&alice].into_iter())
                .map(|verified| verified.claims.expires_at - NOW.seconds())
        };
        // NOW is half a second past, so a token of 900 s ends after 901 s, and for a clock that is
        // 2 s behind after 903 s.
        assert_eq!(verify(903, NOW), Ok(903));
        for too_long in [904, 950, 1500, 2047] {
            assert_eq!(verify(too_long, NOW), Err(CodecError::Forged), "{too_long}");
        }
        // At a whole second nothing was rounded up.
        let whole = UnixMillis(NOW.seconds() * 1000);
        assert_eq!(verify(902, whole), Ok(902));
        assert_eq!(verify(903, whole), Err(CodecError::Forged));
    }

    #[test]
    fn a_derived_key_signs_and_verifies_for_its_owner_only() {
        let (alice, bob) = (principal("alice"), principal("bob"));
        let (of_alice, of_bob) = (derived(&[(&alice, "a")]), derived(&[(&bob, "b")]));
        let both = derived(&[(&alice, "a"), (&bob, "b")]);
        let verify = |codec: &Codec, token: Token| {
            let verified = codec.verify(&token.reveal(), NOW, [&alice, &bob].into_iter());
            verified.map(|verified| verified.principal)
        };
        for (who, own, other) in [(&alice, &of_alice, &of_bob), (&bob, &of_bob, &of_alice)] {
            let issued = both.mint(who, lasting(60));
            assert_eq!(verify(&both, issued).as_ref(), Ok(who));
            assert_eq!(verify(own, issued).as_ref(), Ok(who), "signed with the key of its principal");
            assert_eq!(verify(other, issued), Err(CodecError::Forged));
            // Signed by who holds the other's credential.
            assert_eq!(verify(&both, other.mint(who, lasting(60))), Err(CodecError::Forged));
        }
    }

    #[test]
    fn of_several_credentials_of_a_principal_the_first_signs_and_all_verify() {
        let (alice, bob) = (principal("alice"), principal("bob"));
        let both = derived(&[(&bob, "b"), (&alice, "new"), (&alice, "old")]);
        let (old, new) = (derived(&[(&alice, "old")]), derived(&[(&alice, "new")]));
        let accepts = |codec: &Codec, token: Token| {
            codec.verify(&token.reveal(), NOW, [&bob, &alice].into_iter()).is_ok()
        };
        let issued = both.mint(&alice, lasting(60));
        assert!(accepts(&new, issued) && !accepts(&old, issued));
        assert!(accepts(&both, old.mint(&alice, lasting(60))));
        assert!(accepts(&both, new.mint(&alice, lasting(60))));
    }

    #[test]
    fn a_configured_key_signs_for_every_principal() {
        let codec = codec(&["k"]);
        for name in ["alice", "bob"] {
            let text = codec.mint(&principal(name), lasting(60)).reveal();
            assert!(codec.verify(&text, NOW, [&principal(name)].into_iter()).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_token_for_a_principal_without_a_key_is_accepted_nowhere() {
        let (alice, stranger) = (principal("alice"), principal("stranger"));
        let codec = derived(&[(&alice, "a")]);
        let text = codec.mint(&stranger, lasting(60)).reveal();
        let outcome = codec.verify(&text, NOW, [&alice, &stranger].into_iter()).map(|_| ());
        assert_eq!(outcome, Err(CodecError::Forged));
    }

    #[test]
    fn another_principal_or_key_does_not_verify() {
        let alice = principal("alice");
        let claims = Claims { expires_at: NOW.seconds() + 60, offline: true, nonce: Nonce::from_bits(9) };
        let text = codec(&["k"]).mint(&alice, claims).reveal();
        let verify =
            |codec: &Codec, who: &PrincipalId| codec.verify(&text, NOW, [who].into_iter()).map(|_| ());
        assert_eq!(verify(&codec(&["k"]), &alice), Ok(()));
        assert_eq!(verify(&codec(&["k"]), &principal("mallory")), Err(CodecError::Forged));
        assert_eq!(verify(&codec(&["other"]), &alice), Err(CodecError::Forged));
    }

    #[test]
    fn during_a_rotation_old_and_new_keys_both_verify() {
        let alice = principal("alice");
        let (old, both) = (codec(&["old"]), codec(&["new", "old"]));
        for issuer in [&old, &both] {
            let text = issuer.mint(&alice, lasting(60)).reveal();
            assert!(both.verify(&text, NOW, [&alice].into_iter()).is_ok());
        }
    }
}
