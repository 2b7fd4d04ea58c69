//! Revoked and blocked subjects of this instance, which every token with a subject is checked
//! against.

use parking_lot::{RwLock, RwLockWriteGuard};

use super::known::Known;
use super::order::{About, Order};
use crate::clock::UnixMillis;
use crate::limits::CLOCK_SKEW;
use crate::redis::announce::{Announcements, Position};
use crate::token::Subject;

/// Reason why a token of a subject is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// Everything issued to the subject until a moment was revoked, and the token was issued before
    /// it.
    Revoked,
    /// The subject is blocked.
    Blocked,
}

/// Orders about subjects.
pub(super) struct Bans {
    revocations: RwLock<Known>,
    blocks: RwLock<Known>,
}

impl Bans {
    /// Creates an empty set with room for so many orders of each kind.
    pub(super) fn new(limit: usize) -> Self {
        Self { revocations: RwLock::new(Known::new(limit)), blocks: RwLock::new(Known::new(limit)) }
    }

    /// Reason to refuse a token of `subject` that was issued at `issued_at`. That is a time by the
    /// clock of its instance, which may be ahead by [`CLOCK_SKEW`]. A later time counts as now.
    pub(super) fn refusal(
        &self,
        subject: &Subject,
        issued_at: UnixMillis,
        now: UnixMillis,
    ) -> Option<Barred> {
        if self.is_blocked(subject, now) {
            return Some(Barred::Blocked);
        }
        let revoked_at = self.revoked_at(subject)?;
        let issued_at = if issued_at > now.plus(CLOCK_SKEW) { now } else { issued_at };
        (issued_at <= revoked_at).then_some(Barred::Revoked)
    }

    /// Whether a subject is blocked.
    pub(super) fn is_blocked(&self, subject: &Subject, now: UnixMillis) -> bool {
        let about = About::Blocked(subject.clone());
        self.blocks.read().get(&about).is_some_and(|order| order.blocks_at(now))
    }

    /// Time until which everything issued to a subject is revoked.
    pub(super) fn revoked_at(&self, subject: &Subject) -> Option<UnixMillis> {
        let about = About::IssuedTo(subject.clone());
        self.revocations.read().get(&about).map(|order| order.at)
    }

    /// Orders that revoke what was issued to subjects.
    pub(super) fn revocations(&self) -> RwLockWriteGuard<'_, Known> {
        self.revocations.write()
    }

    /// Orders that block subjects, or end a block.
    pub(super) fn blocks(&self) -> RwLockWriteGuard<'_, Known> {
        self.blocks.write()
    }

    /// All orders.
    pub(super) fn orders(&self) -> Vec<Order> {
        let (revocations, blocks) = (self.revocations.read(), self.blocks.read());
        revocations.iter().chain(blocks.iter()).cloned().collect()
    }

    /// Orders of this stream that were last announced before a position.
    pub(super) fn announced_before(&self, stream: &Announcements, position: Position) -> Vec<Order> {
        let of_stream = |order: &&Order| order.about.is_in(stream);
        let mut orders = Vec::new();
        for known in [&self.revocations, &self.blocks] {
            orders.extend(known.read().announced_before(position).filter(of_stream).cloned());
        }
        orders
    }

    /// Removes orders that are over. Returns the number of blocked subjects.
    pub(super) fn sweep(&self, now: UnixMillis) -> usize {
        for known in [&self.revocations, &self.blocks] {
            while known.write().sweep(now) {}
        }
        self.blocks.read().iter().filter(|order| order.blocks_at(now)).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token::LONGEST_TOMBSTONE;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
    const MINUTE: Duration = Duration::from_mins(1);

    fn subject(name: &str) -> Subject {
        Subject::parse(name).unwrap()
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_revocation_concerns_what_was_issued_until_its_moment_and_no_other_subject() {
        let bans = Bans::new(10);
        bans.revocations().add(&Order::revoke(subject("a"), NOW), NOW);
        let refusal = |name, issued_at| bans.refusal(&subject(name), issued_at, NOW.plus(MINUTE));
        assert_eq!(refusal("a", NOW.minus(MINUTE)), Some(Barred::Revoked));
        assert_eq!(refusal("a", NOW), Some(Barred::Revoked));
        assert_eq!(refusal("a", NOW.plus(millis(1))), None);
        assert_eq!(refusal("b", NOW), None);
    }

    #[test]
    fn a_token_issued_after_a_revocation_is_accepted_where_the_clock_is_behind() {
        let bans = Bans::new(10);
        bans.revocations().add(&Order::revoke(subject("a"), NOW), NOW);
        for ahead in [millis(1), CLOCK_SKEW] {
            assert_eq!(bans.refusal(&subject("a"), NOW.plus(ahead), NOW), None, "{ahead:?}");
        }
    }

    #[test]
    fn a_token_from_further_in_the_future_than_clocks_differ_counts_as_issued_now() {
        let bans = Bans::new(10);
        bans.revocations().add(&Order::revoke(subject("a"), NOW), NOW);
        for ahead in [CLOCK_SKEW + millis(2), MINUTE] {
            let refusal = |now| bans.refusal(&subject("a"), NOW.plus(ahead), now);
            assert_eq!(refusal(NOW), Some(Barred::Revoked), "{ahead:?}");
            assert_eq!(refusal(NOW.plus(millis(1))), None, "{ahead:?}");
        }
    }

    #[test]
    fn a_block_holds_until_its_end_and_an_unblock_ends_it_at_once_also_on_a_clock_that_is_behind() {
        let bans = Bans::new(10);
        let block = Order::block(subject("a"), NOW, MINUTE, None);
        bans.blocks().add(&block, NOW);
        let refusal = |now: UnixMillis| bans.refusal(&subject("a"), now.minus(MINUTE), now);
        for now in [NOW.minus(MINUTE), NOW, NOW.plus(MINUTE).minus(millis(1))] {
            assert_eq!(refusal(now), Some(Barred::Blocked));
            assert!(bans.is_blocked(&subject("a"), now) && !bans.is_blocked(&subject("b"), now));
        }
        assert_eq!(refusal(NOW.plus(MINUTE)), None);
        assert_eq!(bans.sweep(NOW), 1);
        bans.blocks().add(&Order::unblock(subject("a"), NOW.plus(millis(1)), Some(&block)), NOW);
        for now in [NOW.minus(MINUTE), NOW] {
            assert_eq!(refusal(now), None);
        }
        assert_eq!(bans.sweep(NOW), 0);
    }

    #[test]
    fn an_order_is_remembered_for_as_long_as_it_can_matter() {
        let bans = Bans::new(10);
        bans.revocations().add(&Order::revoke(subject("a"), NOW), NOW);
        let block = Order::block(subject("a"), NOW, MINUTE, None);
        // It ends a block that another instance may still announce.
        let unblock = Order::unblock(subject("a"), NOW.plus(millis(1)), Some(&block));
        bans.blocks().add(&unblock, NOW);
        let kept = |after| {
            bans.sweep(NOW.plus(after));
            bans.orders().len()
        };
        assert_eq!(kept(millis(59_999)), 2);
        assert_eq!(kept(MINUTE), 1);
        assert_eq!(kept(Duration::from_secs(LONGEST_TOMBSTONE.as_secs() - 1)), 1);
        assert_eq!(kept(LONGEST_TOMBSTONE), 0);
    }
}
