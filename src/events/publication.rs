//! Publication: type, data and topics of an event, and an optional idempotency key.

use sha2::{Digest, Sha256};

use super::frame::EventType;
use crate::limits::LONGEST_KEY;
use crate::topic::Topics;

/// An event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub(super) event_type: EventType,
    pub(super) data: String,
    pub(super) topics: Topics,
    pub(super) key: Option<KeyDigest>,
}

impl Publication {
    /// Normalises the line ends of `data` to LF, the only one that subscribers receive.
    #[must_use]
    pub fn new(event_type: EventType, data: &str, topics: Topics, key: Option<KeyDigest>) -> Self {
        let data = if data.contains('\r') {
            data.replace("\r\n", "\n").replace('\r', "\n")
        } else {
            data.to_owned()
        };
        Self { event_type, data, topics, key }
    }

    /// Fingerprint, which distinguishes a repeated event from another one under the same key.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.event_type.as_str(), &self.topics, &self.data)
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
    /// For the topic `default` the same as before there were topics: instances of the previous
    /// release compare it.
    pub(super) fn of(event_type: &str, topics: &Topics, data: &str) -> Self {
        let mut hash = Sha256::new();
        // Type and topics contain neither separator, so they are unambiguous.
        hash.update(event_type);
        if !topics.is_default() {
            hash.update(b"\0");
            hash.update(topics.as_str());
        }
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
        let data = |text| Publication::new(EventType::default(), text, Topics::default(), None).data;
        assert_eq!(data("[1,\r\n2,\r3,\n4]"), "[1,\n2,\n3,\n4]");
    }

    #[test]
    fn events_that_differ_have_other_fingerprints() {
        let of = |event_type, topics, data| {
            Fingerprint::of(event_type, &Topics::parse(topics).unwrap(), data).to_hex()
        };
        let one = of("a", "default", "1");
        assert_eq!(one, of("a", "default", "1"));
        for other in
            [of("a", "default", "2"), of("b", "default", "1"), of("a", "b", "1"), of("a", "default b", "1")]
        {
            assert_ne!(one, other);
        }
    }

    /// Instances of the previous release compare it. The value is that of
    /// `printf 'a\n1' | sha256sum`.
    #[test]
    fn the_fingerprint_of_an_event_without_topics_never_changes() {
        assert_eq!(Fingerprint::of("a", &Topics::default(), "1").to_hex(), "4f395a2e9ea1c068");
    }
}
