//! Typed labels: the values of a label are the variants of an enum.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};
use strum::VariantArray;

/// Values of a label. Implemented by enums that derive `VariantArray` and `IntoStaticStr`.
pub trait Label: Copy + VariantArray + Into<&'static str> {}

impl<L: Copy + VariantArray + Into<&'static str>> Label for L {}

/// Counter with one label.
pub struct CounterBy(pub(super) IntCounterVec);

impl CounterBy {
    /// Creates the series of all values. A rate over a series that begins with its first event
    /// misses that event.
    pub fn show_all<L: Label>(&self) {
        for value in L::VARIANTS {
            self.0.with_label_values(&[(*value).into()]);
        }
    }

    /// Counts one event.
    pub fn inc(&self, value: impl Label) {
        self.0.with_label_values(&[value.into()]).inc();
    }
}

/// Histogram with two labels.
pub struct HistogramBy(pub(super) HistogramVec);

impl HistogramBy {
    /// Creates the series of all pairs of values.
    pub fn show_all<A: Label, B: Label>(&self) {
        for a in A::VARIANTS {
            for b in B::VARIANTS {
                self.0.with_label_values(&[(*a).into(), (*b).into()]);
            }
        }
    }

    /// Adds a duration.
    pub fn observe(&self, a: impl Label, b: impl Label, took: Duration) {
        self.0.with_label_values(&[a.into(), b.into()]).observe(took.as_secs_f64());
    }
}
