//! Signing keys: a list of which the first signs and all verify, so that a key can be rotated.
//!
//! A token names its key by a two-bit hint taken from the key itself, not by its place in the list: instances
//! whose lists are in different order, as during a rotation, still agree. Keys may share a hint; each that
//! fits is tried.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit};
use sha2::{Digest, Sha256};

/// Shortest signing key, in bytes: the length of the MAC's hash (RFC 2104 §3).
const MIN_KEY_BYTES: usize = 32;
const HINT_LABEL: &[u8] = b"vx11-operator key-hint v1\0";
const DERIVE_LABEL: &[u8] = b"vx11-operator signing-key v1";

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
pub(super) struct SigningKey {
    hint: u8,
    mac: Hmac<Sha256>,
}

impl SigningKey {
    fn new(bytes: &[u8]) -> Self {
        let hint = Sha256::new().chain_update(HINT_LABEL).chain_update(bytes).finalize()[0] >> 6;
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(bytes).expect("HMAC takes a key of any length");
        Self { hint, mac }
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
}

impl SigningKeys {
    /// Keys written as hexadecimal, the signing one first.
    ///
    /// # Errors
    /// [`KeyError`] when there is none or one is not at least 32 bytes of hexadecimal.
    pub fn from_hex<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let keys = keys
            .into_iter()
            .map(|text| decode_hex(text).map(|bytes| SigningKey::new(&bytes)))
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_list(keys)
    }

    /// Keys derived with HKDF-SHA-256 (RFC 5869) from the principals' secrets, which all instances share.
    ///
    /// # Errors
    /// [`KeyError::None`] when there is no secret.
    ///
    /// # Panics
    /// Never: 32 bytes are within what HKDF can give.
    pub fn derived<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, KeyError> {
        let derive = |secret| {
            let mut key = [0; MIN_KEY_BYTES];
            Hkdf::<Sha256>::new(None, secret)
                .expand(DERIVE_LABEL, &mut key)
                .expect("32 bytes are within what HKDF can give");
            SigningKey::new(&key)
        };
        Self::from_list(secrets.into_iter().map(derive).collect())
    }

    fn from_list(keys: Vec<SigningKey>) -> Result<Self, KeyError> {
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(KeyError::None)?;
        Ok(Self { first, others: keys.collect() })
    }

    pub(super) const fn first(&self) -> &SigningKey {
        &self.first
    }

    pub(super) fn with_hint(&self, hint: u8) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.first).chain(&self.others).filter(move |key| key.hint == hint)
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKeys({} keys)", 1 + self.others.len())
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

    #[test]
    fn debug_output_shows_no_key_material() {
        let keys = SigningKeys::derived([b"secret".as_slice()]).unwrap();
        assert_eq!(format!("{keys:?}"), "SigningKeys(1 keys)");
    }
}
