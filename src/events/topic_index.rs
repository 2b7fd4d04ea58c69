//! The index of the ring: for each pattern the events that it matches, and the streams that read
//! it. No locks, no time.
//!
//! A stream steps from one of its events to the next without visiting the others, and an event
//! wakes the streams that it is for. Both follow from the written form of patterns: an event is
//! entered under its topic, every prefix of it, and `*` ([`for_each_pattern`]), and a stream looks
//! under its own patterns only.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::registry::Signal;
use super::ring::Cursor;
use crate::topic::{Patterns, Topics, for_each_pattern};

/// Entry of a pattern that an event in the ring or an open stream has.
#[derive(Default)]
struct Entry {
    /// Cursors of the events in the ring that it matches, in order.
    events: VecDeque<Cursor>,
    /// Cursor after the last of them that has left the ring.
    evicted: Cursor,
    /// The streams that read it.
    readers: Slab<Arc<Signal>>,
    /// Whether its streams have to be woken.
    has_news: bool,
}

impl Entry {
    fn is_unused(&self) -> bool {
        self.events.is_empty() && self.readers.is_empty()
    }

    /// The first event at or after `cursor`.
    fn first_from(&self, cursor: Cursor) -> Option<Cursor> {
        let last = *self.events.back()?;
        if last < cursor {
            return None;
        }
        // Most streams have read all but the last event.
        let has_earlier = self.events.iter().nth_back(1).is_some_and(|earlier| *earlier >= cursor);
        if !has_earlier {
            return Some(last);
        }
        self.events.get(self.events.partition_point(|event| *event < cursor)).copied()
    }
}

/// Places of a stream in the index: for each of its patterns the entry, and the place there.
#[derive(Default)]
pub(super) struct Subscription(Box<[(u32, u32)]>);

/// Entries whose streams have to be woken.
#[derive(Default)]
pub(super) struct News(Vec<u32>);

/// The next event of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextEvent {
    At(Cursor),
    /// There is none in the ring, and none has left it unread.
    None,
    /// It has left the ring.
    FellOut,
}

/// The index.
#[derive(Default)]
pub(super) struct TopicIndex {
    /// Places of `entries` by the written form of the pattern.
    places: HashMap<Arc<str>, u32>,
    entries: Slab<Entry>,
    news: News,
}

impl TopicIndex {
    /// The entry of a pattern, and its place; created if there is none.
    fn entry(&mut self, pattern: &str, shared: impl FnOnce() -> Arc<str>) -> (u32, &mut Entry) {
        let place = self.places.get(pattern).copied().unwrap_or_else(|| {
            let place = self.entries.insert(Entry::default());
            let place = u32::try_from(place).expect("memory does not hold 2^32 entries");
            self.places.insert(shared(), place);
            place
        });
        (place, &mut self.entries[place as usize])
    }

    /// Enters an event. Returns the number of streams that it is for; a stream that several of its
    /// patterns match counts as often.
    pub(super) fn append(&mut self, cursor: Cursor, topics: &Topics) -> usize {
        let mut audience = 0;
        for topic in topics.iter() {
            for_each_pattern(topic, |pattern| {
                let (place, entry) = self.entry(pattern, || pattern.into());
                if entry.events.back() == Some(&cursor) {
                    return;
                }
                entry.events.push_back(cursor);
                audience += entry.readers.len();
                if !entry.readers.is_empty() && !std::mem::replace(&mut entry.has_news, true) {
                    self.news.0.push(place);
                }
            });
        }
        audience
    }

    /// Removes an event that leaves the ring: the oldest one.
    pub(super) fn evict(&mut self, cursor: Cursor, topics: &Topics) {
        for topic in topics.iter() {
            for_each_pattern(topic, |pattern| {
                let Some(&place) = self.places.get(pattern) else { return };
                let entry = &mut self.entries[place as usize];
                if entry.events.front() == Some(&cursor) {
                    entry.events.pop_front();
                }
                entry.evicted = cursor + 1;
                self.remove_unused(pattern, place);
            });
        }
    }

    fn remove_unused(&mut self, pattern: &str, place: u32) {
        if self.entries[place as usize].is_unused() {
            self.entries.remove(place as usize);
            self.places.remove(pattern);
        }
    }

    /// Adds a stream to the readers of its patterns.
    pub(super) fn subscribe(&mut self, patterns: &Patterns, signal: &Arc<Signal>) -> Subscription {
        let places = patterns.iter().map(|pattern| {
            let (place, entry) = self.entry(pattern.as_str(), || pattern.text());
            let reader = entry.readers.insert(Arc::clone(signal));
            (place, u32::try_from(reader).expect("an instance has fewer than 2^32 streams"))
        });
        Subscription(places.collect())
    }

    /// Removes a stream.
    pub(super) fn unsubscribe(&mut self, patterns: &Patterns, subscription: &Subscription) {
        for (pattern, &(place, reader)) in patterns.iter().zip(&subscription.0) {
            self.entries[place as usize].readers.remove(reader as usize);
            self.remove_unused(pattern.as_str(), place);
        }
    }

    /// The next event of a stream at or after `cursor`.
    pub(super) fn next(&self, subscription: &Subscription, cursor: Cursor) -> NextEvent {
        let mut next = NextEvent::None;
        for &(place, _) in &subscription.0 {
            let entry = &self.entries[place as usize];
            if entry.evicted > cursor {
                return NextEvent::FellOut;
            }
            next = match (next, entry.first_from(cursor)) {
                (NextEvent::At(one), Some(other)) => NextEvent::At(one.min(other)),
                (_, Some(other)) => NextEvent::At(other),
                (next, None) => next,
            };
        }
        next
    }

    /// Cursor of the first of the last `number` events from `begin` on that the patterns match, and
    /// how many there are.
    pub(super) fn last(&self, patterns: &Patterns, begin: Cursor, number: usize) -> (Option<Cursor>, usize) {
        let entries = patterns.iter().filter_map(|pattern| self.places.get(pattern.as_str()));
        let mut cursors: Vec<_> = entries
            .flat_map(|place| self.entries[*place as usize].events.iter().rev().take(number))
            .copied()
            .filter(|cursor| *cursor >= begin)
            .collect();
        cursors.sort_unstable_by(|one, other| other.cmp(one));
        cursors.dedup();
        cursors.truncate(number);
        (cursors.last().copied(), cursors.len())
    }

    /// The entries whose streams have to be woken since the last call.
    pub(super) fn take_news(&mut self) -> News {
        let news = std::mem::take(&mut self.news);
        for place in &news.0 {
            if let Some(entry) = self.entries.get_mut(*place as usize) {
                entry.has_news = false;
            }
        }
        news
    }

    /// The streams of these entries.
    pub(super) fn readers(&self, news: &News) -> impl Iterator<Item = &Arc<Signal>> {
        let entries = news.0.iter().filter_map(|place| self.entries.get(*place as usize));
        entries.flat_map(|entry| entry.readers.iter().map(|(_, signal)| signal))
    }
}
