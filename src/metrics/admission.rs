//! Metrics of limits of subjects and of single-use tokens.

use prometheus::{Error, IntCounter};

use super::names::Names;

/// Metrics of streams that need a lease or a ticket.
pub struct AdmissionMetrics {
    subject_caps_reached: IntCounter,
    subject_caps_local: IntCounter,
    leases_lost: IntCounter,
    tickets_local: IntCounter,
}

impl AdmissionMetrics {
    pub(super) fn register(names: &Names<'_>) -> Result<Self, Error> {
        Ok(Self {
            subject_caps_reached: names.counter(
                "vx11_operator_subject_caps_reached_total",
                "Openings of streams beyond the limit of their subject; each was refused or replaced another one.",
            )?,
            subject_caps_local: names.counter(
                "vx11_operator_subject_caps_local_total",
                "Openings of streams whose subject this instance alone counted, because Redis was unavailable or its user lacks a right.",
            )?,
            leases_lost: names.counter(
                "vx11_operator_leases_lost_total",
                "Streams that ended because their lease was lost and other streams of the subject had taken the place.",
            )?,
            tickets_local: names.counter(
                "vx11_operator_tickets_local_total",
                "Openings of single-use tokens that this instance alone decided, because Redis was unavailable or its user lacks a right.",
            )?,
        })
    }

    /// Counts an opening beyond the limit of its subject.
    pub fn subject_cap_reached(&self) {
        self.subject_caps_reached.inc();
    }

    /// Counts an opening whose subject was counted without Redis.
    pub fn subject_cap_local(&self) {
        self.subject_caps_local.inc();
    }

    /// Counts a stream that ended because its lease was lost.
    pub fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    /// Counts an opening of a single-use token that was decided without Redis.
    pub fn ticket_local(&self) {
        self.tickets_local.inc();
    }
}
