//! Orders: commands about subjects and streams, which every instance carries out.
//!
//! Orders about the same thing are joined into one, in which the later counts. Joining is
//! commutative, associative and idempotent. Instances that have read the same orders therefore
//! agree, whatever the sequence and however often they read them.

use std::time::Duration;

use crate::clock::UnixMillis;
use crate::events::{Selector, StreamId};
use crate::limits::LONGEST_BLOCK_SECONDS;
use crate::principal::PrincipalId;
use crate::redis::announce::{Announcements, Position, field};
use crate::redis::control;
use crate::redis::stream::StreamEntry;
use crate::token::{LONGEST_TOMBSTONE, Subject, TokenId};
use crate::topic::Topics;

/// Longest block of a subject.
const LONGEST_BLOCK: Duration = Duration::from_secs(LONGEST_BLOCK_SECONDS as u64);
/// Lead over its announcement that the time of an order may have, by the clocks of an instance and
/// of Redis.
pub(super) const MOST_AHEAD: Duration = Duration::from_mins(1);
/// Lead over the present time of Redis beyond which an order is left out. The clock of Redis gives
/// no such position, unless it was set back by more than that.
const FURTHEST: Duration = LONGEST_BLOCK;
/// Longest id of a question, in bytes.
const LONGEST_QUESTION: usize = 64;

/// The thing that an order is about. There is one joined order for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// Everything issued to a subject.
    IssuedTo(Subject),
    /// Whether a subject is blocked.
    Blocked(Subject),
    /// Open streams.
    Streams(Selector),
}

impl About {
    /// The stream in Redis that orders about it are in.
    pub(super) fn stream(&self) -> &'static Announcements {
        match self {
            Self::IssuedTo(_) | Self::Streams(_) => &control::ORDERS,
            Self::Blocked(_) => &control::BLOCKS,
        }
    }

    /// Whether this is that stream.
    pub(super) fn is_in(&self, stream: &Announcements) -> bool {
        std::ptr::eq(self.stream(), stream)
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) about: About,
    /// Time of the order. Orders about the same thing are later than those that were known.
    pub(super) at: UnixMillis,
    /// End of the block. [`Self::at`] if the order ends a block, and for all other orders.
    pub(super) until: UnixMillis,
    /// Time until which it has to be remembered. Not before the end of a block that the order
    /// replaces: otherwise that block could come back.
    pub(super) kept: UnixMillis,
}

impl Order {
    /// Everything issued to the subject until `at` is revoked.
    pub(super) fn revoke(subject: Subject, at: UnixMillis) -> Self {
        Self { about: About::IssuedTo(subject), at, until: at, kept: at.plus(LONGEST_TOMBSTONE) }
    }

    /// The subject is blocked for `length`. `known` is the order that this one replaces.
    pub(super) fn block(subject: Subject, at: UnixMillis, length: Duration, known: Option<&Self>) -> Self {
        let until = at.plus(length);
        let kept = known.map_or(until, |known| known.kept.max(until));
        Self { about: About::Blocked(subject), at, until, kept }
    }

    /// The subject is not blocked any more. If no block is known, there may be one that this
    /// instance has not read, of the longest duration.
    pub(super) fn unblock(subject: Subject, at: UnixMillis, known: Option<&Self>) -> Self {
        let kept = known.map_or_else(|| at.plus(LONGEST_BLOCK), |known| known.kept.max(at));
        Self { about: About::Blocked(subject), at, until: at, kept }
    }

    /// Streams that were open at `at` end.
    pub(super) fn end(selector: Selector, at: UnixMillis) -> Self {
        Self { about: About::Streams(selector), at, until: at, kept: at.plus(LONGEST_TOMBSTONE) }
    }

    /// Joins an order about the same thing. Of two orders of the same time the longer block counts:
    /// neither of their instances knew of the other.
    pub(super) fn join(&mut self, other: &Self) {
        (self.at, self.until) = (self.at, self.until).max((other.at, other.until));
        self.kept = self.kept.max(other.kept);
    }

    /// Whether joining `other` would change nothing.
    pub(super) fn covers(&self, other: &Self) -> bool {
        (self.at, self.until) >= (other.at, other.until) && self.kept >= other.kept
    }

    /// A block lasts, and is remembered, for the longest duration at most.
    fn within_range(self) -> Self {
        let latest = self.at.plus(LONGEST_BLOCK);
        let until = self.until.min(latest);
        Self { until, kept: self.kept.min(latest).max(until), ..self }
    }

    /// Whether it is a block, not the end of one.
    pub(super) fn is_block(&self) -> bool {
        self.until > self.at
    }

    /// Whether it is a block that is not over.
    pub(super) fn blocks_at(&self, now: UnixMillis) -> bool {
        self.is_block() && self.until > now
    }

    /// Fields in Redis, as names and values in turn. `question` asks all instances how many streams
    /// the order has ended.
    pub(super) fn fields(&self, question: Option<&str>) -> Vec<String> {
        let kind = match &self.about {
            About::IssuedTo(_) => "revoke",
            About::Blocked(_) if self.is_block() => "block",
            About::Blocked(_) => "unblock",
            About::Streams(_) => "end",
        };
        let mut fields = vec![field("kind", &kind), field("at", &self.at.0)];
        fields.push(match &self.about {
            About::IssuedTo(subject) | About::Blocked(subject) => field("subject", &subject.as_str()),
            About::Streams(selector) => selector_field(selector),
        });
        if matches!(self.about, About::Blocked(_)) {
            fields.extend([field("until", &self.until.0), field("kept", &self.kept.0)]);
        }
        fields.extend(question.map(|question| field("question", &question)));
        fields.concat()
    }
}

/// Field of the streams that an order ends.
fn selector_field(selector: &Selector) -> [String; 2] {
    match selector {
        Selector::Subject(subject) => field("subject", &subject.as_str()),
        Selector::Token(token) => field("token_id", token),
        Selector::Stream(stream) => field("stream_id", stream),
        Selector::Principal(principal) => field("principal", principal),
        Selector::Topic(topic) => field("topic", topic),
    }
}

/// The streams that an entry selects, by exactly one field.
fn read_selector(entry: &StreamEntry<'_>) -> Option<Selector> {
    let selectors = [
        entry.field("subject").map(|text| Subject::parse(text).map(Selector::Subject)),
        entry.field("token_id").map(|text| TokenId::parse(text).ok().map(Selector::Token)),
        entry.field("stream_id").map(|text| StreamId::parse(text).map(Selector::Stream)),
        entry.field("principal").map(|text| PrincipalId::parse(text).map(Selector::Principal)),
        entry.field("topic").map(|text| is_topic(text).then(|| Selector::Topic(text.to_owned()))),
    ];
    let mut selectors = selectors.into_iter().flatten();
    selectors.next().filter(|_| selectors.next().is_none())?
}

fn is_topic(text: &str) -> bool {
    Topics::new([text]).is_ok()
}

/// An order that was read in Redis. Anybody who may write to Redis may have written it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) order: Order,
    /// The question of how many streams the order has ended.
    pub(super) question: Option<String>,
    /// Position of the entry.
    pub(super) position: Position,
    /// Whether a time was out of range.
    pub(super) is_clamped: bool,
}

impl Received {
    /// Parses an entry; `None` if it is invalid. Times that no order has are moved into their range
    /// in a way that depends on the entry only, so that all instances agree. `redis_now` is the
    /// present time of Redis.
    pub(super) fn read(entry: &StreamEntry<'_>, redis_now: UnixMillis) -> Option<Self> {
        let moment = |name| Some(UnixMillis(entry.field(name)?.parse().ok()?));
        let subject = || Subject::parse(entry.field("subject")?);
        let written = moment("at")?;
        let position = Position::parse(entry.position)?;
        let at = if written > position.time().plus(MOST_AHEAD) { position.time() } else { written };
        if at > redis_now.plus(FURTHEST) {
            return None;
        }
        let (order, is_in_range) = match entry.field("kind")? {
            "revoke" => (Order::revoke(subject()?, at), true),
            "end" => (Order::end(read_selector(entry)?, at), true),
            "block" => {
                let (until, kept) = (moment("until")?, moment("kept")?);
                let order = Order { about: About::Blocked(subject()?), at, until, kept }.within_range();
                if !order.is_block() {
                    return None;
                }
                let is_in_range = order.until == until && order.kept == kept;
                (order, is_in_range)
            }
            "unblock" => {
                let kept = moment("kept")?;
                let order = Order { about: About::Blocked(subject()?), at, until: at, kept }.within_range();
                let is_in_range = order.kept == kept;
                (order, is_in_range)
            }
            _ => return None,
        };
        let question = entry.field("question").filter(|text| text.len() <= LONGEST_QUESTION);
        Some(Self {
            order,
            question: question.map(str::to_owned),
            position,
            is_clamped: at != written || !is_in_range,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis::Value;

    use super::*;
    use crate::redis::stream::entries;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn subject() -> Subject {
        Subject::parse("user-7").unwrap()
    }

    /// Reads an entry with these fields that was announced at a position. The clock of Redis shows
    /// `now`.
    fn read_at(position: &str, fields: &[String], now: UnixMillis) -> Option<Received> {
        let word = |word: &str| Value::BulkString(word.as_bytes().to_vec());
        let fields = Value::Array(fields.iter().map(|field| word(field)).collect());
        let answer = Value::Array(vec![Value::Array(vec![word(position), fields])]);
        Received::read(&entries(&answer).unwrap()[0], now)
    }

    fn read(fields: &[String]) -> Option<Received> {
        read_at(&format!("{}-0", NOW.0), fields, NOW)
    }

    /// The fields, each as `name=value`.
    fn fields(text: &str) -> Vec<String> {
        text.split_whitespace()
            .filter_map(|field| field.split_once('='))
            .flat_map(|(name, value)| field(name, &value))
            .collect()
    }

    fn selectors() -> [Selector; 5] {
        [
            Selector::Subject(subject()),
            Selector::Token(TokenId::parse("3f9a1c0b5d7e2f48").unwrap()),
            Selector::Stream(StreamId::new(7)),
            Selector::Principal(PrincipalId::parse("shop").unwrap()),
            Selector::Topic("orders/42".to_owned()),
        ]
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let block = Order::block(subject(), NOW, SECOND * 60, None);
        let mut orders = vec![
            Order::revoke(subject(), NOW),
            Order::unblock(subject(), NOW, None),
            Order::unblock(subject(), NOW.plus(SECOND), Some(&block)),
            Order::block(subject(), NOW, LONGEST_BLOCK, None),
            block,
        ];
        orders.extend(selectors().map(|selector| Order::end(selector, NOW)));
        for order in orders {
            for question in [None, Some("00000000000000aa")] {
                let expected = Received {
                    order: order.clone(),
                    question: question.map(str::to_owned),
                    position: Position::of(NOW),
                    is_clamped: false,
                };
                assert_eq!(read(&order.fields(question)), Some(expected));
            }
        }
    }

    #[test]
    fn an_entry_that_is_no_order_is_left_out() {
        let long = "x".repeat(129);
        for wrong in [
            "at=1 subject=user-7".to_owned(),
            "kind=revoke at=1".to_owned(),
            "kind=revoke subject=user-7".to_owned(),
            "kind=revoke at=-1 subject=user-7".to_owned(),
            "kind=revoke at=18446744073709551616 subject=user-7".to_owned(),
            format!("kind=revoke at=1 subject={long}"),
            "kind=banish at=1 subject=user-7".to_owned(),
            "kind=block at=5 subject=user-7 kept=9".to_owned(),
            "kind=block at=5 subject=user-7 until=5 kept=9".to_owned(),
            "kind=block at=5 subject=user-7 until=4 kept=9".to_owned(),
            "kind=unblock at=5 subject=user-7".to_owned(),
            "kind=end at=1".to_owned(),
            "kind=end at=1 subject=user-7 topic=news".to_owned(),
            "kind=end at=1 topic=/".to_owned(),
            "kind=end at=1 topic=orders/*".to_owned(),
            format!("kind=end at=1 topic={long}"),
            "kind=end at=1 token_id=3F9A".to_owned(),
            "kind=end at=1 stream_id=7".to_owned(),
            "kind=end at=1 principal=a/b".to_owned(),
        ] {
            assert_eq!(read(&fields(&wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_out_of_range_is_moved_to_the_same_on_every_instance() {
        let announced_at = NOW.minus(SECOND);
        let position = format!("{}-0", announced_at.0);
        let latest = u64::MAX;
        let read = |text: String, now| {
            let received = read_at(&position, &fields(&text), now).unwrap();
            assert!(received.is_clamped, "{text}");
            received.order
        };
        for now in [announced_at, NOW, NOW.plus(SECOND * 3600)] {
            let at = |text: &str| format!("{text} at={latest} subject=user-7");
            assert_eq!(read(at("kind=revoke"), now), Order::revoke(subject(), announced_at));
            let longest = Order::block(subject(), announced_at, LONGEST_BLOCK, None);
            assert_eq!(read(at(&format!("kind=block until={latest} kept={latest}")), now), longest);
            let unblocked = Order::unblock(subject(), announced_at, None);
            assert_eq!(read(at(&format!("kind=unblock kept={latest}")), now), unblocked);
        }
        // Its time is in range, its end is not.
        let at = announced_at.0;
        let text = format!("kind=block at={at} subject=user-7 until={latest} kept=0");
        assert_eq!(read(text, NOW), Order::block(subject(), announced_at, LONGEST_BLOCK, None));
    }

    #[test]
    fn a_time_within_a_minute_after_the_announcement_is_kept() {
        for (lead, is_clamped) in [(MOST_AHEAD, false), (MOST_AHEAD + Duration::from_millis(1), true)] {
            let order = Order::revoke(subject(), NOW.plus(lead));
            assert_eq!(read(&order.fields(None)).unwrap().is_clamped, is_clamped);
        }
    }

    /// Otherwise an instance that reads an order later would think that it is later than its end.
    #[test]
    fn an_order_is_the_same_whenever_it_is_read_and_whatever_the_clock_shows_then() {
        let block = Order::block(subject(), NOW.plus(MOST_AHEAD), LONGEST_BLOCK, None);
        for announced_at in [NOW, NOW.plus(SECOND * 3600)] {
            for now in [NOW.minus(SECOND * 3600), NOW, NOW.plus(SECOND * 3600)] {
                let position = format!("{}-0", announced_at.0);
                let received = read_at(&position, &block.fields(None), now).unwrap();
                assert_eq!((received.order, received.is_clamped), (block.clone(), false));
            }
        }
    }

    #[test]
    fn an_order_at_a_position_that_redis_does_not_give_is_left_out_if_it_is_far_in_the_future() {
        for (ahead, is_read) in [(FURTHEST, true), (FURTHEST + Duration::from_millis(1), false)] {
            let order = Order::revoke(subject(), NOW.plus(ahead));
            let received = read_at("18446744073709551615-0", &order.fields(None), NOW);
            assert_eq!(received.is_some(), is_read, "{ahead:?}");
        }
        assert_eq!(read_at("none", &Order::revoke(subject(), NOW).fields(None), NOW), None);
    }

    /// Orders about one subject, within a few moments of one another.
    fn order() -> impl Strategy<Value = Order> {
        (0_u64..4, 0_u64..4, 0_u64..4).prop_map(|(at, length, kept)| Order {
            about: About::Blocked(subject()),
            at: UnixMillis(at),
            until: UnixMillis(at + length),
            kept: UnixMillis(at + length + kept),
        })
    }

    fn joined(a: &Order, b: &Order) -> Order {
        let mut joined = a.clone();
        joined.join(b);
        joined
    }

    proptest! {
        #[test]
        fn joining_is_commutative_associative_and_idempotent(a in order(), b in order(), c in order()) {
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(&joined(&a, &a), &a);
            prop_assert_eq!(a.covers(&b), joined(&a, &b) == a);
        }

        #[test]
        fn no_bytes_from_redis_make_reading_fail(
            kind in "(revoke|block|unblock|end|.*)",
            times in proptest::collection::vec(any::<u64>(), 3),
            text in ".*",
            position in "([0-9]{1,20}-[0-9]|.*)",
            now in any::<u64>(),
        ) {
            let all = [
                field("kind", &kind), field("at", &times[0]), field("until", &times[1]),
                field("kept", &times[2]), field("subject", &text), field("question", &text),
            ];
            if let Some(received) = read_at(&position, &all.concat(), UnixMillis(now)) {
                let Order { at, until, kept, .. } = received.order;
                prop_assert!(at <= until && until <= kept);
                prop_assert!(kept <= at.plus(LONGEST_BLOCK.max(LONGEST_TOMBSTONE)));
                prop_assert!(at <= UnixMillis(now).plus(FURTHEST));
            }
        }
    }
}
