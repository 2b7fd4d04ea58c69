//! Ids of the streams of an instance.

use crate::events::selection::StreamId;

/// Ids of the streams of an instance, from their numbers.
///
/// The base is random, so that the ids of two instances differ. The product spreads consecutive
/// numbers, so that nobody takes one id for the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamIds {
    base: u64,
}

impl StreamIds {
    /// Any odd number has an inverse.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    const INVERSE: u64 = inverse(Self::FACTOR);

    pub(super) const fn new(base: u64) -> Self {
        Self { base }
    }

    pub(super) const fn id(self, number: u64) -> StreamId {
        StreamId::new(self.base.wrapping_add(number).wrapping_mul(Self::FACTOR))
    }

    /// The number of a stream; that of no stream for the id of another instance.
    pub(super) const fn number(self, id: StreamId) -> u64 {
        id.number().wrapping_mul(Self::INVERSE).wrapping_sub(self.base)
    }
}

/// The inverse of an odd number modulo 2^64. Each step doubles the number of right bits, which are
/// three at first.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut right_bits = 3;
    while right_bits < u64::BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        right_bits *= 2;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_leads_back_to_its_stream(base in any::<u64>(), number in any::<u64>()) {
            let ids = StreamIds::new(base);
            prop_assert_eq!(ids.number(ids.id(number)), number);
        }

        #[test]
        fn the_id_of_another_instance_leads_to_no_stream(base in any::<u64>(), other in any::<u64>(), number in 0_u64..1 << 32) {
            // With random bases, the two ranges of numbers overlap once in 2^31 pairs of instances.
            prop_assume!(base.wrapping_sub(other) >= 1 << 32 && other.wrapping_sub(base) >= 1 << 32);
            let number = StreamIds::new(base).number(StreamIds::new(other).id(number));
            prop_assert!(number >= 1 << 32);
        }
    }

    #[test]
    fn consecutive_streams_have_ids_that_differ_at_their_beginning() {
        let ids = StreamIds::new(7);
        let beginnings: Vec<_> = (0..3).map(|number| ids.id(number).to_string()[..2].to_owned()).collect();
        assert!(beginnings[0] != beginnings[1] && beginnings[1] != beginnings[2], "{beginnings:?}");
    }
}
