//! Nonces: the issuing instance and a counter make tokens of the same second differ.

use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

const COUNTER_BITS: u32 = 19;
const COUNTER_MASK: u32 = (1 << COUNTER_BITS) - 1;

/// 27 bits: the issuing instance's slot (8) and a counter (19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(u32);

impl Nonce {
    /// Takes the low 27 bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << 27) - 1))
    }

    /// The 27 bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// Hands out nonces that do not repeat within 2^19 draws, which is more than an instance issues in
/// a second.
#[derive(Debug)]
pub struct NonceSource {
    slot: u8,
    counter: AtomicU32,
}

impl NonceSource {
    /// A source for the instance named `instance_id`, counting from `start` (drawn at random, so
    /// that an instance that restarts within a second does not repeat itself).
    #[must_use]
    pub fn new(instance_id: &str, start: u32) -> Self {
        Self { slot: slot(instance_id), counter: AtomicU32::new(start) }
    }

    /// The next nonce.
    #[must_use]
    pub fn draw(&self) -> Nonce {
        let count = self.counter.fetch_add(1, Ordering::Relaxed) & COUNTER_MASK;
        Nonce(u32::from(self.slot) << COUNTER_BITS | count)
    }
}

/// The number itself for a numeric id up to 255, else eight bits of its hash.
fn slot(instance_id: &str) -> u8 {
    instance_id.parse().unwrap_or_else(|_| Sha256::digest(instance_id)[0])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nonces_do_not_repeat_within_a_whole_turn_of_the_counter() {
        let source = NonceSource::new("1", u32::MAX - 5);
        let drawn: HashSet<_> = (0..=COUNTER_MASK).map(|_| source.draw().bits()).collect();
        assert_eq!(drawn.len(), 1 << COUNTER_BITS);
        assert!(drawn.iter().all(|bits| bits >> COUNTER_BITS == 1), "the rest is the slot");
    }

    #[test]
    fn instances_with_different_numbers_never_share_a_nonce() {
        let (one, two) = (NonceSource::new("1", 0), NonceSource::new("2", 0));
        assert_ne!(one.draw(), two.draw());
        assert_eq!(slot("255"), 255);
        assert_eq!(slot("operator-a"), slot("operator-a"));
    }
}
