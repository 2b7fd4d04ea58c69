//! Orders that instances give and learn, through cuts and losses of data.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::events::Selector;

const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
const MINUTE: Duration = Duration::from_mins(1);

fn subject(number: usize) -> Subject {
    Subject::parse(&format!("user-{number}")).unwrap()
}

fn orders(limit: usize, now: UnixMillis) -> Orders {
    Orders::new(limit, Arc::new(ManualClock::at(now)), Arc::new(Metrics::new().unwrap()))
}

/// A position in a stream. Announcements are two minutes apart: longer than any of them needs to be
/// read.
fn position(number: usize) -> Position {
    Position::of(UnixMillis(NOW.0 + 120_000 * number as u64))
}

/// Learns an order that was read at the beginning of its stream.
fn learn(orders: &Orders, order: &Order) -> bool {
    orders.learn(order, position(0))
}

/// Kind of an order.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Revoke,
    Block,
    Unblock,
    End,
}

fn about(kind: Kind, number: usize) -> About {
    match kind {
        Kind::Revoke => About::IssuedTo(subject(number)),
        Kind::Block | Kind::Unblock => About::Blocked(subject(number)),
        Kind::End => About::Streams(Selector::Subject(subject(number))),
    }
}

fn give(orders: &Orders, kind: Kind, number: usize) -> Result<Order, StoreError> {
    let subject = subject(number);
    orders.give(&about(kind, number), |at, known| match kind {
        Kind::Revoke => Order::revoke(subject, at),
        Kind::Block => Order::block(subject, at, MINUTE, known),
        Kind::Unblock => Order::unblock(subject, at, known),
        Kind::End => Order::end(Selector::Subject(subject), at),
    })
}

#[test]
fn an_order_is_later_than_the_one_that_it_replaces_also_on_a_clock_that_is_behind() {
    let (ahead, behind) = (orders(10, NOW.plus(MINUTE)), orders(10, NOW));
    for (first, then) in
        [(Kind::Block, Kind::Unblock), (Kind::Unblock, Kind::Block), (Kind::Revoke, Kind::Revoke)]
    {
        let first = give(&ahead, first, 1).unwrap();
        learn(&behind, &first);
        let second = give(&behind, then, 1).unwrap();
        assert_eq!(second.at, first.at.plus(LATER));
        assert!(learn(&ahead, &second));
    }
    assert!(ahead.is_blocked(&subject(1)) && behind.is_blocked(&subject(1)));
}

#[test]
fn a_token_issued_after_a_known_revocation_is_not_revoked_by_it_also_on_a_clock_that_is_behind() {
    let (ahead, behind) = (orders(10, NOW.plus(MINUTE)), orders(10, NOW));
    assert_eq!(behind.time_of_issue(&subject(1)), NOW);
    learn(&behind, &give(&ahead, Kind::Revoke, 1).unwrap());
    let issued_at = behind.time_of_issue(&subject(1));
    let later = orders(10, NOW.plus(MINUTE * 2));
    learn(&later, &give(&ahead, Kind::Revoke, 2).unwrap());
    for order in behind.bans.orders() {
        learn(&later, &order);
    }
    assert_eq!(later.refusal(&subject(1), issued_at), None);
    assert_eq!(later.refusal(&subject(1), issued_at.minus(LATER)), Some(Barred::Revoked));
    assert_eq!(behind.time_of_issue(&subject(3)), NOW);
}

#[test]
fn without_room_an_order_is_not_given_and_a_received_one_is_carried_out_and_counted() {
    let orders = orders(1, NOW);
    for kind in [Kind::Revoke, Kind::Block, Kind::End] {
        give(&orders, kind, 1).unwrap();
        let retry_after = MINUTE;
        assert_eq!(give(&orders, kind, 2), Err(StoreError::Full { retry_after }));
        give(&orders, kind, 1).expect("it needs no room");
    }
    assert!(!orders.is_blocked(&subject(2)));
    let received = Order::block(subject(2), NOW, MINUTE, None);
    assert!(learn(&orders, &received) && learn(&orders, &received), "its streams end");
    assert!(!orders.is_blocked(&subject(2)));
    let page = String::from_utf8(orders.metrics.render().unwrap()).unwrap();
    assert!(page.contains("vx11_operator_orders_forgotten_total{service=\"operator-backend\"} 2"), "{page}");
}

#[test]
fn an_order_waits_until_it_is_announced_or_read() {
    let orders = orders(10, NOW);
    let stream = about(Kind::Block, 1).stream();
    let waiting = || orders.unannounced(stream, 9);
    let first = give(&orders, Kind::Block, 1).unwrap();
    orders.not_announced(&first);
    let second = give(&orders, Kind::Unblock, 1).unwrap();
    orders.not_announced(&second);
    let both = waiting();
    assert_eq!(both.len(), 1, "one for each subject");
    assert!(!learn(&orders, &first), "it is known");
    assert_eq!(waiting(), both, "a later one is still to be announced");
    assert_eq!(orders.unannounced(about(Kind::Revoke, 1).stream(), 9), []);
    orders.announced(&both, &[position(1)]);
    assert_eq!(waiting(), []);
    orders.announce_all();
    assert_eq!(waiting(), both);
    learn(&orders, &both[0]);
    assert_eq!(waiting(), []);
}

/// Instances that share a stream in Redis, which is bounded and loses its data, and from which they
/// are cut off.
struct Deployment {
    instances: Vec<Instance>,
    /// The stream, each order with its position.
    stream: VecDeque<(usize, Order)>,
    /// Number of announcements so far.
    announcements: usize,
    losses: u32,
    /// Everything that was ordered.
    given: Vec<Order>,
}

struct Instance {
    orders: Orders,
    is_cut_off: bool,
    read_to: usize,
    losses: u32,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Give(usize, Kind, usize),
    CutOff(usize),
    Reconnect(usize),
    Read(usize),
    LoseData,
}

/// Subjects that orders are about.
const SUBJECTS: usize = 3;
/// Bound of the stream. Orders may be about three things of each subject.
const MOST: usize = 3 * SUBJECTS + 3;

impl Deployment {
    /// Instances whose clocks differ by a second.
    fn new() -> Self {
        let instance = |number| {
            let orders = orders(100, NOW.plus(Duration::from_secs(number)));
            Instance { orders, is_cut_off: false, read_to: 0, losses: 0 }
        };
        Self {
            instances: (0..3).map(instance).collect(),
            stream: VecDeque::new(),
            announcements: 0,
            losses: 0,
            given: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Give(number, kind, about) => {
                let instance = &self.instances[number];
                let order = give(&instance.orders, kind, about).unwrap();
                self.given.push(order.clone());
                if instance.is_cut_off {
                    instance.orders.not_announced(&order);
                } else {
                    self.announce(order);
                }
            }
            Step::CutOff(number) => self.instances[number].is_cut_off = true,
            Step::Reconnect(number) => self.instances[number].is_cut_off = false,
            Step::Read(number) => self.read(number),
            Step::LoseData => {
                self.stream.clear();
                self.losses += 1;
            }
        }
    }

    /// Adds an order to the stream, which pushes out the oldest one beyond its bound.
    fn announce(&mut self, order: Order) -> Position {
        self.announcements += 1;
        self.stream.push_back((self.announcements, order));
        if self.stream.len() > MOST {
            self.stream.pop_front();
        }
        position(self.announcements)
    }

    /// Reads to the end, then announces what is missing, as the reader does.
    fn read(&mut self, number: usize) {
        let instance = &mut self.instances[number];
        if instance.is_cut_off {
            return;
        }
        if instance.losses != self.losses {
            (instance.losses, instance.read_to) = (self.losses, 0);
            instance.orders.announce_all();
        }
        for (place, order) in self.stream.iter().filter(|(place, _)| *place > instance.read_to) {
            instance.orders.learn(order, position(*place));
        }
        let first = self.stream.front().map_or(self.announcements + 1, |(place, _)| *place);
        for stream in [about(Kind::Revoke, 0), about(Kind::Block, 0)].map(|about| about.stream()) {
            self.instances[number].orders.begins_at(stream, position(first));
            let missing = self.instances[number].orders.unannounced(stream, 100);
            for order in &missing {
                let is_there =
                    self.stream.iter().any(|(_, other)| other.about == order.about && other.covers(order));
                assert!(!is_there, "{order:?} is announced twice");
            }
            let positions: Vec<_> = missing.iter().map(|order| self.announce(order.clone())).collect();
            self.instances[number].orders.announced(&missing, &positions);
        }
        self.instances[number].read_to = self.announcements;
    }

    /// Lets all instances read until nothing is new to any.
    fn settle(&mut self) {
        const MOST_ROUNDS: usize = 10;
        for instance in &mut self.instances {
            instance.is_cut_off = false;
        }
        for _ in 0..MOST_ROUNDS {
            let before = self.announcements;
            (0..self.instances.len()).for_each(|number| self.read(number));
            let has_read = |instance: &Instance| instance.read_to == before;
            if self.announcements == before && self.instances.iter().all(has_read) {
                return;
            }
        }
        panic!("instances go on to announce: {:?}", self.stream);
    }

    /// The orders in the stream.
    fn orders(&self) -> impl Iterator<Item = &Order> {
        self.stream.iter().map(|(_, order)| order)
    }
}

fn known(orders: &Orders) -> Vec<String> {
    let mut all = orders.bans.orders();
    all.extend(orders.ends.lock().iter().cloned());
    let mut all: Vec<_> = all.iter().map(|order| order.fields(None).join(" ")).collect();
    all.sort();
    all
}

/// Orders known to an instance that learns these in this sequence.
fn known_after<'a>(sequence: impl Iterator<Item = &'a Order>) -> Vec<String> {
    let orders = orders(100, NOW);
    sequence.for_each(|order| {
        learn(&orders, order);
    });
    known(&orders)
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Revoke), Just(Kind::Block), Just(Kind::Unblock), Just(Kind::End)];
    prop_oneof![
        6 => (0..3_usize, kind, 0..SUBJECTS).prop_map(|(number, kind, about)| Step::Give(number, kind, about)),
        2 => (0..3_usize).prop_map(Step::CutOff),
        2 => (0..3_usize).prop_map(Step::Reconnect),
        6 => (0..3_usize).prop_map(Step::Read),
        1 => Just(Step::LoseData),
    ]
}

proptest! {
    #[test]
    fn all_instances_know_all_orders_in_the_end_whatever_is_cut_off_or_lost(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut deployment = Deployment::new();
        for step in steps {
            deployment.step(step);
        }
        deployment.settle();
        let expected = known_after(deployment.given.iter());
        for instance in &deployment.instances {
            prop_assert_eq!(&known(&instance.orders), &expected);
        }
        // An instance that starts now reads all of it.
        prop_assert_eq!(known_after(deployment.orders()), expected);
    }

    #[test]
    fn orders_that_are_lost_and_brought_back_change_nothing(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut deployment = Deployment::new();
        for step in steps {
            deployment.step(step);
        }
        deployment.settle();
        let before = known(&deployment.instances[0].orders);
        for _ in 0..3 {
            deployment.step(Step::LoseData);
            deployment.settle();
            for instance in &deployment.instances {
                prop_assert_eq!(&known(&instance.orders), &before);
            }
            // One announcement of each, and no more with each loss.
            prop_assert_eq!(deployment.stream.len(), before.len());
        }
    }

    #[test]
    fn the_sequence_in_which_orders_arrive_makes_no_difference(
        steps in proptest::collection::vec(step(), 0..30),
        places in proptest::collection::vec(any::<u64>(), 60),
    ) {
        let mut deployment = Deployment::new();
        for step in steps {
            deployment.step(step);
        }
        let mut shuffled: Vec<_> = places.iter().zip(deployment.given.iter().cycle()).collect();
        shuffled.truncate(deployment.given.len() * 2);
        shuffled.sort_by_key(|(place, _)| **place);
        let all = deployment.given.iter();
        prop_assert_eq!(known_after(shuffled.into_iter().map(|(_, order)| order).chain(all.clone().rev())), known_after(all));
    }
}

/// Many orders about one subject push those about others out of the stream.
#[test]
fn an_instance_that_starts_learns_a_block_that_later_orders_have_pushed_out_of_the_stream() {
    let mut deployment = Deployment::new();
    deployment.step(Step::Give(0, Kind::Block, 1));
    for _ in 0..2 * MOST {
        deployment.step(Step::Give(0, Kind::Revoke, 2));
    }
    assert!(!deployment.orders().any(Order::is_block), "it was pushed out");
    deployment.settle();
    assert_eq!(deployment.orders().filter(|order| order.is_block()).count(), 1);
}

#[test]
fn all_orders_are_announced_again_if_their_stream_was_deleted() {
    let mut deployment = Deployment::new();
    for kind in [Kind::Block, Kind::Revoke, Kind::End] {
        deployment.step(Step::Give(0, kind, 1));
    }
    deployment.settle();
    let before = known_after(deployment.orders());
    deployment.stream.clear();
    deployment.settle();
    assert_eq!((known_after(deployment.orders()), deployment.stream.len()), (before, 3));
}

#[test]
fn a_block_that_was_ended_is_not_brought_back_by_an_instance_that_missed_its_end() {
    let mut deployment = Deployment::new();
    deployment.step(Step::Give(0, Kind::Block, 1));
    deployment.step(Step::Read(1));
    deployment.step(Step::CutOff(1));
    deployment.step(Step::Give(0, Kind::Unblock, 1));
    deployment.step(Step::Read(0));
    deployment.step(Step::LoseData);
    deployment.step(Step::Reconnect(1));
    // It is the first to announce what it knows, which is the block.
    deployment.step(Step::Read(1));
    deployment.settle();
    for instance in &deployment.instances {
        assert!(!instance.orders.is_blocked(&subject(1)));
    }
}
