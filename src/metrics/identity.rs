//! Metrics of identity providers.

use prometheus::Error;
use strum::{IntoStaticStr, VariantArray};

use super::label::CounterBy;
use super::names::Names;

/// Outcome of fetching the keys of an issuer.
#[derive(Debug, Clone, Copy, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum KeyFetch {
    /// The issuer answered with keys.
    Success,
    /// It did not.
    Failure,
}

/// Metrics of identity providers.
pub struct IdentityMetrics {
    /// Refused JWTs.
    pub refused: CounterBy,
    /// Fetches of keys.
    pub fetches: CounterBy,
}

impl IdentityMetrics {
    pub(super) fn register(names: &Names<'_>) -> Result<Self, Error> {
        let metrics = Self {
            refused: names.counters(
                "vx11_operator_jwts_refused_total",
                "JWTs refused, by reason.",
                "reason",
            )?,
            fetches: names.counters(
                "vx11_operator_issuer_key_fetches_total",
                "Fetches of the keys of identity providers, by outcome.",
                "outcome",
            )?,
        };
        metrics.fetches.show_all::<KeyFetch>();
        Ok(metrics)
    }
}
