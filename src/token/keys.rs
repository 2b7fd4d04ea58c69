//! Signing keys: a list of which the first signs and all verify, so that a key can be rotated.
//!
//! A configured key signs and verifies for every principal. A key that was derived from a
//! principal's credential does so for its owner only: whoever holds that credential can derive the
//! key, and must not be able to sign for others.
//!
//! A token names its key by a two-bit hint taken from the key itself, not by its place in the list:
//! instances whose lists are in different order, as during a rotation, still agree. Keys may share
//! a hint; each that fits is tried.

use std::collections::HashMap;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::Subject;
use crate::principal::PrincipalId;

/// Shortest signing key, in bytes: the length of the MAC's hash (RFC 2104 §3).
const MIN_KEY_BYTES: usize = 32;
const HINT_LABEL: &[u8] = b"vx11-operator key-hint v1\0";
const DERIVE_LABEL: &[u8] = b"vx11-operator signing-key v1";
const DEPLOYMENT_LABEL: &[u8] = b"vx11-operator deployment v1";
const SUBJECT_LABEL: &[u8] = b"vx11-operator subject-hash v1";
/// Length of a [deployment fingerprint](SigningKey::deployment_fingerprint), in bytes before they
/// are written as hexadecimal.
const FINGERPRINT_BYTES: usize = 8;

/// Why a configured signing key cannot be used. Never repeats the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing to sign with.
    #[error("at least one signing key is needed")]
    None,
    /// Not hexadecimal, or too short.
    #[error(
        "a signing key is at least 64 hexadecimal characters (32 bytes), as `openssl rand -hex 32` prints"
    )]
    NotHex,
}

/// One key with its MAC state precomputed.
#[derive(Clone)]
pub struct SigningKey {
    hint: u8,
    mac: Hmac<Sha256>,
}

impl SigningKey {
    fn new(bytes: &[u8]) -> Self {
        let hint = Sha256::new().chain_update(HINT_LABEL).chain_update(bytes).finalize()[0] >> 6;
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(bytes).expect("HMAC takes a key of any length");
        Self { hint, mac }
    }

    /// Tells keys apart where others can read it, as in Redis, without giving the key away: 16
    /// hexadecimal characters of a MAC, the same on all instances that have the key.
    #[must_use]
    pub fn deployment_fingerprint(&self) -> String {
        let mac = self.mac().chain_update(DEPLOYMENT_LABEL).finalize().into_bytes();
        hex::encode(&mac[..FINGERPRINT_BYTES])
    }

    pub(super) const fn hint(&self) -> u8 {
        self.hint
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        self.mac.clone()
    }
}

/// The keys of one instance; never empty.
#[derive(Clone)]
pub struct SigningKeys {
    first: SigningKey,
    others: Vec<SigningKey>,
    /// Derived keys by the principal of their credential, so that finding them takes the same time
    /// with any number of principals. Empty if the keys are configured: they are for everybody.
    owned: HashMap<PrincipalId, Vec<SigningKey>>,
}

impl SigningKeys {
    /// Keys for all principals, written as hexadecimal, the signing one first.
    ///
    /// # Errors
    /// [`KeyError`] when there is none or one is not at least 32 bytes of hexadecimal.
    pub fn from_hex<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let keys = keys
            .into_iter()
            .map(|text| decode_hex(text).map(|bytes| SigningKey::new(&bytes)))
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_list(keys, HashMap::new())
    }

    /// Keys derived with HKDF-SHA-256 (RFC 5869) from the credentials of principals, which all
    /// instances share. Each belongs to the credential's principal; of several for one principal
    /// the first signs.
    ///
    /// # Errors
    /// [`KeyError::None`] when there is no credential.
    ///
    /// # Panics
    /// Never: 32 bytes are within what HKDF can give.
    pub fn derived<'a>(
        credentials: impl IntoIterator<Item = (PrincipalId, &'a [u8])>,
    ) -> Result<Self, KeyError> {
        let mut owned: HashMap<_, Vec<_>> = HashMap::new();
        let derive = |(owner, secret)| {
            let mut key = [0; MIN_KEY_BYTES];
            Hkdf::<Sha256>::new(None, secret)
                .expand(DERIVE_LABEL, &mut key)
                .expect("32 bytes are within what HKDF can give");
            let key = SigningKey::new(&key);
            owned.entry(owner).or_default().push(key.clone());
            key
        };
        let keys = credentials.into_iter().map(derive).collect();
        Self::from_list(keys, owned)
    }

    fn from_list(
        keys: Vec<SigningKey>,
        owned: HashMap<PrincipalId, Vec<SigningKey>>,
    ) -> Result<Self, KeyError> {
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(KeyError::None)?;
        Ok(Self { first, others: keys.collect(), owned })
    }

    /// All keys, in the order in which they are configured.
    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The keys that sign and verify for `principal`, in the order in which they are configured.
    fn of(&self, principal: &PrincipalId) -> impl Iterator<Item = &SigningKey> {
        let own = self.owned.get(principal).into_iter().flatten();
        let shared = self.owned.is_empty().then(|| self.iter()).into_iter().flatten();
        own.chain(shared)
    }

    /// The key that signs for `principal`. Every configured principal has one. A token for any
    /// other is signed all the same, with a key that does not verify for it: nobody accepts that
    /// token.
    pub(super) fn signing_for(&self, principal: &PrincipalId) -> &SigningKey {
        self.of(principal).next().unwrap_or(&self.first)
    }

    /// The keys that may have signed a token of `principal` that carries `hint`.
    pub(super) fn verifying_for(
        &self,
        principal: &PrincipalId,
        hint: u8,
    ) -> impl Iterator<Item = &SigningKey> {
        self.of(principal).filter(move |key| key.hint == hint)
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKeys({} keys)", 1 + self.others.len())
    }
}

impl SigningKeys {
    /// Name of a subject in logs: 16 hexadecimal characters of a MAC. Its key is derived from the
    /// first signing key for this purpose only, so that nobody can compute it for a guessed
    /// subject. It changes when that key is replaced.
    pub(super) fn subject_hash(&self, subject: &Subject) -> String {
        let key = self.first.mac().chain_update(SUBJECT_LABEL).finalize().into_bytes();
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).expect("HMAC takes a key of any length");
        let mac = mac.chain_update(subject.as_str()).finalize().into_bytes();
        hex::encode(&mac[..FINGERPRINT_BYTES])
    }
}

fn decode_hex(text: &str) -> Result<Vec<u8>, KeyError> {
    hex::decode(text).ok().filter(|key| key.len() >= MIN_KEY_BYTES).ok_or(KeyError::NotHex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_odd_and_non_hexadecimal_keys_are_refused() {
        let good = "0123456789abcdef".repeat(4);
        assert!(SigningKeys::from_hex([good.as_str()]).is_ok());
        for bad in [&good[..62], &format!("{good}a"), &good.replace('a', "g"), ""] {
            assert_eq!(SigningKeys::from_hex([bad]).err(), Some(KeyError::NotHex), "{bad}");
        }
        assert_eq!(SigningKeys::from_hex([]).err(), Some(KeyError::None));
    }

    /// Instances of two versions write it into logs that are searched together. The expected value
    /// comes from another implementation.
    #[test]
    fn a_subject_has_the_same_hash_wherever_the_first_key_is_the_same() {
        let [zeros, counting] = ["00".repeat(32), hex::encode((0..32).collect::<Vec<u8>>())];
        let keys = |list: &[&str]| SigningKeys::from_hex(list.iter().copied()).unwrap();
        let subject = |text| Subject::parse(text).unwrap();
        let hash = keys(&[&zeros]).subject_hash(&subject("user-4711"));
        assert_eq!(hash, "2efb00187f689a21");
        assert_eq!(keys(&[&zeros, &counting]).subject_hash(&subject("user-4711")), hash);
        assert_ne!(keys(&[&counting, &zeros]).subject_hash(&subject("user-4711")), hash);
        assert_ne!(keys(&[&zeros]).subject_hash(&subject("user-4712")), hash);
    }

    #[test]
    fn debug_output_shows_no_key_material() {
        let owner = PrincipalId::parse("operator").unwrap();
        let keys = SigningKeys::derived([(owner, b"secret".as_slice())]).unwrap();
        assert_eq!(format!("{keys:?}"), "SigningKeys(1 keys)");
    }

    /// Instances of two versions compare fingerprints, so they must never change. The expected
    /// values come from another implementation.
    #[test]
    fn the_fingerprint_of_a_key_is_the_same_in_every_version() {
        let [zeros, counting] = ["00".repeat(32), hex::encode((0..32).collect::<Vec<u8>>())];
        let keys = SigningKeys::from_hex([zeros.as_str(), &counting]).unwrap();
        let fingerprints: Vec<_> = keys.iter().map(SigningKey::deployment_fingerprint).collect();
        assert_eq!(fingerprints, ["6d195a5f2c77f3ba", "8a7dd39303a1d799"]);
    }
}
