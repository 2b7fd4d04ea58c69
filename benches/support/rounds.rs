//! Loads in turn, round after round: what else the machine does then falls on all of them alike.

use crate::instance::Instance;
use crate::load::{Load, Round};
use crate::sample::quantile;

/// Result of a round of a load, and the server's processor time per request in µs.
pub(crate) type Costed = (Round, f64);

/// Runs all `loads`, in order, `count` times; they are created for each round.
pub(crate) fn alternate<const N: usize, T>(
    count: usize,
    loads: impl Fn() -> [Load; N],
    run: impl Fn(&Load) -> T,
) -> Vec<[T; N]> {
    // One round each that does not count: connections, caches, the processor's clock.
    let _ = loads().each_ref().map(&run);
    (0..count).map(|_| loads().each_ref().map(&run)).collect()
}

/// Runs one load for `seconds` against an instance, and says what that cost the instance.
pub(crate) fn costed(instance: &Instance, load: &Load, seconds: u32) -> Costed {
    let before = instance.processor_seconds();
    let round = load.run(seconds);
    let cost = (instance.processor_seconds() - before) * 1e6 / round.requests;
    (round, cost)
}

/// The median over all rounds. A ratio is taken round by round, and then its median.
pub(crate) fn median<const N: usize, T>(rounds: &[[T; N]], of: impl Fn(&[T; N]) -> f64) -> f64 {
    quantile(rounds.iter().map(of).collect(), 0.5)
}
