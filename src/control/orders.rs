//! The orders that this instance knows: those that it gives, and those that it has read.
//!
//! They are remembered for as long as they matter, and announced to a Redis that has lost them.
//! Those that are not announced yet wait here until this instance announces them, or reads them
//! among the announcements of the others (docs/adr/0031).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::bans::{Bans, Barred};
use super::known::{Added, Known};
use super::order::{About, Order};
use crate::clock::{Clock, UnixMillis};
use crate::metrics::Metrics;
use crate::redis::announce::{Announcements, Position};
use crate::store::StoreError;
use crate::token::Subject;

/// Interval between two warnings about forgotten orders.
const BETWEEN_WARNINGS: Duration = Duration::from_mins(1);
/// Step between the times of an order and of the one that it replaces.
const LATER: Duration = Duration::from_millis(1);

/// Known orders.
pub(super) struct Orders {
    bans: Bans,
    /// Orders that end streams.
    ends: Mutex<Known>,
    unannounced: Mutex<Known>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Time of the last warning about forgotten orders.
    warned_at: Mutex<Option<Instant>>,
}

impl Orders {
    /// Creates an empty set with room for so many orders of each kind.
    pub(super) fn new(limit: usize, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            bans: Bans::new(limit),
            ends: Mutex::new(Known::new(limit)),
            // They are among those that are known, of three kinds.
            unannounced: Mutex::new(Known::new(3 * limit)),
            clock,
            metrics,
            warned_at: Mutex::default(),
        }
    }

    pub(super) fn refusal(&self, subject: &Subject, issued_at: UnixMillis) -> Option<Barred> {
        self.bans.refusal(subject, issued_at, self.clock.now())
    }

    pub(super) fn is_blocked(&self, subject: &Subject) -> bool {
        self.bans.is_blocked(subject, self.clock.now())
    }

    /// Time of issue of a token for `subject`. It is after every known revocation of the subject,
    /// also if the clock of the instance that revoked is ahead.
    pub(super) fn time_of_issue(&self, subject: &Subject) -> UnixMillis {
        let now = self.clock.now();
        self.bans.revoked_at(subject).map_or(now, |revoked_at| now.max(revoked_at.plus(LATER)))
    }

    /// Gives an order. `order` makes it from its time, which is after the known order, and from
    /// that order.
    ///
    /// # Errors
    /// [`StoreError::Full`] without room to remember it. It has no effect then.
    pub(super) fn give(
        &self,
        about: &About,
        order: impl FnOnce(UnixMillis, Option<&Order>) -> Order,
    ) -> Result<Order, StoreError> {
        let now = self.clock.now();
        self.with(about, |orders| {
            let known = orders.get(about);
            let at = known.map_or(now, |known| now.max(known.at.plus(LATER)));
            let order = order(at, known);
            match orders.add(&order, now) {
                Added::NoRoom => Err(StoreError::Full { retry_after: orders.retry_after(now) }),
                Added::New | Added::Known => Ok(order),
            }
        })
    }

    /// Learns an order that was read in Redis at a position. Returns whether it has to be carried
    /// out: this instance did not know it, or has no room to remember it.
    pub(super) fn learn(&self, order: &Order, position: Position) -> bool {
        self.unannounced.lock().remove_covered_by(order);
        let now = self.clock.now();
        let added = self.with(&order.about, |orders| {
            let added = orders.add(order, now);
            orders.announced(order, position);
            added
        });
        if added == Added::NoRoom {
            self.note_forgotten();
        }
        added != Added::Known
    }

    /// Changes the known orders of a kind.
    fn with<T>(&self, about: &About, change: impl FnOnce(&mut Known) -> T) -> T {
        match about {
            About::IssuedTo(_) => change(&mut self.bans.revocations()),
            About::Blocked(_) => change(&mut self.bans.blocks()),
            About::Streams(_) => change(&mut self.ends.lock()),
        }
    }

    /// Notes that an order is not announced.
    pub(super) fn not_announced(&self, order: &Order) {
        self.unannounced.lock().add(order, self.clock.now());
    }

    /// Up to `count` orders of this stream that are not announced.
    pub(super) fn unannounced(&self, stream: &Announcements, count: usize) -> Vec<Order> {
        let unannounced = self.unannounced.lock();
        let of_stream = unannounced.iter().filter(|order| order.about.is_in(stream));
        of_stream.take(count).cloned().collect()
    }

    /// Notes that these orders are announced, each at its position.
    pub(super) fn announced(&self, orders: &[Order], positions: &[Position]) {
        for (order, position) in orders.iter().zip(positions) {
            self.unannounced.lock().remove_covered_by(order);
            self.with(&order.about, |known| known.announced(order, *position));
        }
    }

    /// Notes the position of the first entry of a stream: every known order that was announced
    /// before counts as not announced. The stream is bounded in number, and repetitions push out
    /// what an instance that starts has to read.
    pub(super) fn begins_at(&self, stream: &Announcements, first: Position) {
        let of_stream = |order: &&Order| order.about.is_in(stream);
        let mut missing = self.bans.announced_before(stream, first);
        missing.extend(self.ends.lock().announced_before(first).filter(of_stream).cloned());
        let now = self.clock.now();
        for order in &missing {
            self.unannounced.lock().add(order, now);
        }
        if !missing.is_empty() {
            tracing::debug!(
                orders = missing.len(),
                "orders have left their stream, which gets them once more"
            );
        }
    }

    /// Notes that announcements were lost with the data: every known order counts as not announced
    /// until it is read again.
    pub(super) fn announce_all(&self) {
        let ends: Vec<_> = self.ends.lock().iter().cloned().collect();
        let now = self.clock.now();
        for order in self.bans.orders().iter().chain(&ends) {
            self.unannounced.lock().add(order, now);
        }
    }

    /// Frees orders that are over; called about once a second.
    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        self.metrics.control.blocked(self.bans.sweep(now));
        for known in [&self.ends, &self.unannounced] {
            while known.lock().sweep(now) {}
        }
    }

    fn note_forgotten(&self) {
        self.metrics.control.forgotten();
        let now = Instant::now();
        let mut warned_at = self.warned_at.lock();
        if warned_at.is_none_or(|last| now.duration_since(last) >= BETWEEN_WARNINGS) {
            *warned_at = Some(now);
            tracing::warn!(
                "this instance has no room for further orders about subjects and streams. It carries them out once, and accepts new tokens of subjects that they block or revoke. Unblock subjects, or block them for a shorter time"
            );
        }
    }
}

#[cfg(test)]
mod tests;
