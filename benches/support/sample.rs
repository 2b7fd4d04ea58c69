//! Statistics of a set of measurements.

/// The measurement below which the share `rank` of all lies; `rank` 0.5 is the median.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into a set that is counted in thousands"
)]
pub(crate) fn quantile(mut measurements: Vec<f64>, rank: f64) -> f64 {
    assert!(!measurements.is_empty(), "nothing was measured");
    measurements.sort_unstable_by(f64::total_cmp);
    let last = measurements.len() - 1;
    measurements[(last as f64 * rank).round() as usize]
}
