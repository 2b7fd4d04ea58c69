//! A bounded set of joined orders. No locks, no I/O.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::order::{About, MOST_AHEAD, Order};
use crate::clock::UnixMillis;
use crate::redis::announce::Position;

/// Bounds of the time after which a full set is tried again.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// Orders that one call removes at most. Token checks wait for the lock meanwhile.
const SWEPT_AT_ONCE: usize = 1000;

/// Result of adding an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// The order has changed the set, or is too old to be remembered.
    New,
    /// The set knows this order or a later one about the same thing.
    Known,
    /// There is no room.
    NoRoom,
}

/// Orders, one about each thing.
pub(super) struct Known {
    orders: HashMap<About, Held>,
    /// Each order by the time until which it is remembered, and its number.
    by_end: BTreeMap<(UnixMillis, u64), About>,
    next_number: u64,
    limit: usize,
}

/// An order of the set.
struct Held {
    order: Order,
    number: u64,
    /// Position of the last announcement. Before the announcement is read: a position that it does
    /// not reach.
    announced: Position,
}

impl Known {
    pub(super) fn new(limit: usize) -> Self {
        Self { orders: HashMap::new(), by_end: BTreeMap::new(), next_number: 0, limit }
    }

    pub(super) fn get(&self, about: &About) -> Option<&Order> {
        self.orders.get(about).map(|held| &held.order)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Order> {
        self.orders.values().map(|held| &held.order)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.orders.len(), self.by_end.len());
        self.orders.len()
    }

    /// Joins an order with the one about the same thing.
    pub(super) fn add(&mut self, order: &Order, now: UnixMillis) -> Added {
        if let Some(held) = self.orders.get_mut(&order.about) {
            let is_known = held.order.covers(order);
            let end = held.order.kept;
            held.order.join(order);
            if held.order.kept != end {
                self.by_end.remove(&(end, held.number));
                self.by_end.insert((held.order.kept, held.number), order.about.clone());
            }
            return if is_known { Added::Known } else { Added::New };
        }
        if order.kept <= now {
            return Added::New;
        }
        if self.orders.len() >= self.limit {
            return Added::NoRoom;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.by_end.insert((order.kept, number), order.about.clone());
        let announced = Position::of(order.at.plus(MOST_AHEAD));
        self.orders.insert(order.about.clone(), Held { order: order.clone(), number, announced });
        Added::New
    }

    /// Notes the position of an announcement, unless more than it is known about the same thing.
    pub(super) fn announced(&mut self, order: &Order, position: Position) {
        if let Some(held) = self.orders.get_mut(&order.about)
            && order.covers(&held.order)
        {
            held.announced = position;
        }
    }

    /// Orders that were last announced before a position.
    pub(super) fn announced_before(&self, position: Position) -> impl Iterator<Item = &Order> {
        self.orders.values().filter(move |held| held.announced < position).map(|held| &held.order)
    }

    /// Removes orders that this set holds and `order` makes superfluous.
    pub(super) fn remove_covered_by(&mut self, order: &Order) {
        if self.get(&order.about).is_some_and(|known| order.covers(known))
            && let Some(Held { order, number, .. }) = self.orders.remove(&order.about)
        {
            self.by_end.remove(&(order.kept, number));
        }
    }

    /// Removes orders that need not be remembered any more, [`SWEPT_AT_ONCE`] at most. Returns
    /// whether it has removed so many.
    pub(super) fn sweep(&mut self, now: UnixMillis) -> bool {
        for _ in 0..SWEPT_AT_ONCE {
            let Some(first) = self.by_end.first_entry().filter(|first| first.key().0 <= now) else {
                return false;
            };
            self.orders.remove(&first.remove());
        }
        true
    }

    /// Time after which a full set has room again, about.
    pub(super) fn retry_after(&self, now: UnixMillis) -> Duration {
        let next = self.by_end.first_key_value().map_or(now.0, |((end, _), _)| end.0);
        Duration::from_millis(next.saturating_sub(now.0)).clamp(SHORTEST_RETRY, LONGEST_RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Subject;

    fn revoked(subject: u64, at: u64) -> Order {
        Order::revoke(Subject::parse(&format!("user-{subject}")).unwrap(), UnixMillis(at))
    }

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);

    #[test]
    fn a_full_set_learns_more_about_what_it_knows_and_nothing_else() {
        let mut known = Known::new(2);
        for subject in 0..2 {
            assert_eq!(known.add(&revoked(subject, NOW.0), NOW), Added::New);
        }
        assert_eq!(known.add(&revoked(2, NOW.0), NOW), Added::NoRoom);
        assert_eq!(known.add(&revoked(1, NOW.0 + 1), NOW), Added::New);
        assert_eq!(known.add(&revoked(1, NOW.0 + 1), NOW), Added::Known);
        assert_eq!(known.add(&revoked(1, NOW.0), NOW), Added::Known);
        assert_eq!(known.len(), 2);
        let end = revoked(0, NOW.0).kept;
        assert_eq!(known.retry_after(UnixMillis(end.0 - 1500)), Duration::from_millis(1500));
        assert_eq!((known.retry_after(end), known.retry_after(NOW)), (SHORTEST_RETRY, LONGEST_RETRY));
        known.sweep(UnixMillis(end.0 - 1));
        assert_eq!(known.len(), 2);
        assert!(!known.sweep(end));
        assert_eq!(known.len(), 1, "the other was extended");
        assert_eq!(known.add(&revoked(2, NOW.0 + 1), NOW), Added::New);
    }

    #[test]
    fn an_order_that_is_over_is_carried_out_and_not_remembered() {
        let mut known = Known::new(2);
        let old = revoked(0, 1);
        assert_eq!(known.add(&old, NOW), Added::New);
        assert_eq!((known.len(), known.get(&old.about)), (0, None));
    }

    /// Token checks wait for the lock in which orders are removed.
    #[test]
    fn a_sweep_removes_a_bounded_number_of_orders_those_that_ended_first() {
        let count = SWEPT_AT_ONCE as u64 + 1;
        let mut known = Known::new(2 * SWEPT_AT_ONCE);
        for subject in (0..count).rev() {
            known.add(&revoked(subject, NOW.0 + subject), NOW);
        }
        let last = revoked(count - 1, NOW.0 + count - 1);
        assert!(known.sweep(last.kept));
        assert_eq!(known.iter().collect::<Vec<_>>(), [&last]);
        assert!(!known.sweep(last.kept));
        assert_eq!(known.len(), 0);
    }

    #[test]
    fn an_order_was_announced_where_all_that_is_known_about_its_thing_was() {
        let mut known = Known::new(2);
        let (first, second) = (revoked(0, NOW.0), revoked(0, NOW.0 + 1));
        let before = |known: &Known, millis| known.announced_before(Position::of(UnixMillis(millis))).count();
        let unread = NOW.plus(MOST_AHEAD).0;
        known.add(&first, NOW);
        assert_eq!((before(&known, unread), before(&known, unread + 1)), (0, 1), "not read yet");
        known.announced(&first, Position::of(UnixMillis(5)));
        assert_eq!((before(&known, 5), before(&known, 6)), (0, 1));
        known.add(&second, NOW);
        known.announced(&first, Position::of(UnixMillis(7)));
        assert_eq!(before(&known, 6), 1, "the second was not announced");
        known.announced(&second, Position::of(UnixMillis(8)));
        assert_eq!((before(&known, 8), before(&known, 9)), (0, 1));
    }

    #[test]
    fn only_what_an_order_covers_is_removed() {
        let mut known = Known::new(2);
        known.add(&revoked(0, NOW.0), NOW);
        for other in [revoked(0, NOW.0 - 1), revoked(1, NOW.0)] {
            known.remove_covered_by(&other);
            assert_eq!(known.len(), 1);
        }
        known.remove_covered_by(&revoked(0, NOW.0));
        assert_eq!(known.len(), 0);
    }
}
