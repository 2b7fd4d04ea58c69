//! Publication: type and data of an event, and an optional idempotency key.

use sha2::{Digest, Sha256};

use super::frame::EventType;
use crate::limits::LONGEST_KEY;

/// An event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub(super) event_type: EventType,
    pub(super) data: String,
    pub(super) key: Option<KeyDigest>,
}

impl Publication {
    /// Normalises the line ends of `data` to LF, the only one that subscribers receive.
    #[must_use]
    pub fn new(event_type: EventType, data: &str, key: Option<KeyDigest>) -> Self {
        let data = if data.contains('\r') {
            data.replace("\r\n", "\n").replace('\r', "\n")
        } else {
            data.to_owned()
        };
        Self { event_type, data, key }
    }

    /// Fingerprint, which distinguishes a repeated event from another one under the same key.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.event_type.as_str(), &self.data)
    }
}

/// Idempotency key as it is stored: 128 bits of SHA-256. It has a fixed size and does not disclose
/// the publisher's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 16]);

/// The text is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an Idempotency-Key is 1 to 128 visible ASCII characters")]
pub struct NotAKey;

impl KeyDigest {
    /// Digest of the key `text` of this principal. Keys of two principals never collide.
    ///
    /// # Errors
    /// The text is empty, too long, or has other characters than visible ASCII.
    pub fn of(principal: &str, text: &str) -> Result<Self, NotAKey> {
        let fits = (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            return Err(NotAKey);
        }
        let mut hash = Sha256::new();
        hash.update(b"vx11-operator idempotency key\0");
        hash.update(principal);
        hash.update(b"\0");
        hash.update(text);
        Ok(Self(first_bytes(&hash.finalize())))
    }

    pub(super) fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }
}

/// 64 bits of SHA-256 of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 8]);

impl Fingerprint {
    pub(super) fn of(event_type: &str, data: &str) -> Self {
        let mut hash = Sha256::new();
        // A type contains no line end, so the separator is unambiguous.
        hash.update(event_type);
        hash.update(b"\n");
        hash.update(data);
        Self(first_bytes(&hash.finalize()))
    }

    pub(super) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

fn first_bytes<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash[..N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_its_principal() {
        let key = |principal, text| KeyDigest::of(principal, text).unwrap();
        assert_eq!(key("a", "1"), key("a", "1"));
        assert_ne!(key("a", "1"), key("b", "1"));
        assert_ne!(key("a", "1"), key("a", "2"));
        assert_eq!(KeyDigest::from_hex(&key("a", "1").to_hex()), Some(key("a", "1")));
    }

    #[test]
    fn what_no_header_should_carry_is_no_key() {
        for text in ["", " ", "a b", "ü", "a\n", &"k".repeat(129)] {
            assert_eq!(KeyDigest::of("a", text), Err(NotAKey), "{text:?}");
        }
        assert!(KeyDigest::of("a", &"k".repeat(128)).is_ok());
    }

    #[test]
    fn data_has_one_kind_of_line_end() {
        let data = |text| Publication::new(EventType::default(), text, None).data;
        assert_eq!(data("[1,\r\n2,\r3,\n4]"), "[1,\n2,\n3,\n4]");
    }

    #[test]
    fn events_that_differ_have_other_fingerprints() {
        let of = Fingerprint::of;
        assert_eq!(of("a", "1"), of("a", "1"));
        assert_ne!(of("a", "1"), of("a", "2"));
        assert_ne!(of("a", "1"), of("b", "1"));
    }
}
