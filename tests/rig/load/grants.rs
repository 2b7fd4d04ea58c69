//! The topics of a load, and random grants on them. Everything is drawn from the seed of the load.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::history::{DEFAULT, Patterns, matches};

/// First segments of topics. Some begin like another one, and one contains an escape, which nobody
/// may decode.
const AREAS: [&str; 6] = ["orders", "order", "users", "users%2Feu", "stock:1", "stock:10"];
const SHELVES: usize = 7;
/// The pattern of all topics.
const ALL: &str = "*";
/// A topic of the service, for which no grant of the load is.
const OF_SERVICE: &str = "$streams/opened";

/// Size of a load with grants.
#[derive(Debug, Clone, Copy)]
pub struct TopicLoad {
    /// Number of topics.
    pub topics: usize,
    /// Time after which a subscriber leaves its stream to open another one, on average.
    pub stays: Duration,
}

/// The topics of a load.
pub struct TopicSpace {
    topics: Vec<String>,
    stays: Duration,
    /// The token that was presented to [`TopicSpace::swapped`] last.
    last_token: Mutex<String>,
}

impl TopicSpace {
    /// Topics of different depth, `default` among them.
    #[must_use]
    pub fn of(load: TopicLoad) -> Self {
        let others = (0..load.topics.saturating_sub(1)).map(topic);
        let topics = std::iter::once(DEFAULT.to_owned()).chain(others).collect();
        Self { topics, stays: load.stays, last_token: Mutex::default() }
    }

    /// All topics.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str)
    }

    /// Random topics of an event; none for an event that is published without one.
    #[must_use]
    pub fn of_event(&self, rng: &mut Rng) -> Vec<String> {
        let number = match rng.u8(..100) {
            0..10 => 0,
            10..80 => 1,
            _ => rng.usize(2..=4),
        };
        distinct((0..number).map(|_| self.any(rng)))
    }

    /// Time for which a subscriber keeps a stream.
    pub(super) fn stay(&self, rng: &mut Rng) -> Duration {
        self.stays.mul_f64(0.5 + rng.f64())
    }

    /// A token with the grant of the one that was given before, or without a grant if that had
    /// none. `None` if that is the token itself.
    #[must_use]
    pub fn swapped(&self, token: &str) -> Option<String> {
        let mut last = self.last_token.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *last, token.to_owned());
        drop(last);
        let split = |text: &str| match text.split_once('.') {
            Some((id, grant)) => (id.to_owned(), Some(grant.to_owned())),
            None => (text.to_owned(), None),
        };
        let ((id, own), (_, other)) = (split(token), split(&before));
        let is_other = !before.is_empty() && own != other;
        is_other.then(|| other.map_or_else(|| id.clone(), |grant| format!("{id}.{grant}")))
    }

    fn any(&self, rng: &mut Rng) -> String {
        self.topics[rng.usize(..self.topics.len())].clone()
    }

    /// A random topic, or a prefix of one.
    fn any_pattern(&self, rng: &mut Rng) -> String {
        let topic = self.any(rng);
        if rng.bool() { topic } else { prefix_of(&topic, rng) }
    }

    /// Patterns that match the same topic.
    fn overlapping(&self, rng: &mut Rng) -> Vec<String> {
        let topic = self.any(rng);
        vec![prefix_of(&topic, rng), prefix_of(&topic, rng), topic, self.any(rng)]
    }

    /// A pattern that matches nothing which `pattern` does not match.
    fn within(&self, pattern: &str, rng: &mut Rng) -> String {
        let topics: Vec<_> = self.topics().filter(|topic| matches(pattern, topic)).collect();
        if topics.is_empty() || rng.bool() {
            return pattern.to_owned();
        }
        let topic = topics[rng.usize(..topics.len())];
        let prefix = prefix_of(topic, rng);
        if matches(pattern, &prefix) && rng.bool() { prefix } else { topic.to_owned() }
    }
}

/// The right of a subject to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `None`: it has a plain token.
    subject: Option<String>,
    patterns: Patterns,
}

impl Grant {
    /// A random grant.
    #[must_use]
    pub fn draw(space: &TopicSpace, subject: String, rng: &mut Rng) -> Self {
        let patterns = match rng.u8(..100) {
            0..25 => vec![space.any(rng)],
            25..45 => (0..rng.usize(2..=6)).map(|_| space.any(rng)).collect(),
            45..60 => vec![prefix_of(&space.any(rng), rng)],
            60..80 => space.overlapping(rng),
            80..88 => (0..rng.usize(2..=8)).map(|_| space.any_pattern(rng)).collect(),
            88..90 => vec![ALL.to_owned(), space.any_pattern(rng)],
            90..94 => vec![DEFAULT.to_owned()],
            _ => return Self { subject: None, patterns: [DEFAULT.to_owned()].into() },
        };
        Self { subject: Some(subject), patterns: distinct(patterns).into() }
    }

    /// Its patterns.
    #[must_use]
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// The body that asks for a token with it; `None` for a plain token.
    pub(super) fn request(&self) -> Option<Value> {
        self.subject.as_ref().map(|subject| json!({ "subject": subject, "topics": &*self.patterns }))
    }

    /// Random patterns within it that a stream names; `None` for a stream that names none, and
    /// reads all of it.
    #[must_use]
    pub fn narrowing(&self, space: &TopicSpace, rng: &mut Rng) -> Option<Patterns> {
        if rng.bool() {
            return None;
        }
        let patterns = (0..rng.usize(1..=3)).map(|_| {
            let own = rng.usize(..self.patterns.len());
            space.within(&self.patterns[own], rng)
        });
        Some(distinct(patterns).into())
    }

    /// Random patterns of which the last one is beyond it.
    #[must_use]
    pub fn beyond(&self, space: &TopicSpace, rng: &mut Rng) -> Vec<String> {
        let is_beyond = |pattern: &String| !self.patterns.iter().any(|own| matches(own, pattern));
        let candidates = [self.wider(), space.any(rng), prefix_of(&space.any(rng), rng), ALL.to_owned()];
        let mut beyond: Vec<_> = candidates.into_iter().filter(is_beyond).collect();
        beyond.push(OF_SERVICE.to_owned());
        let asked = beyond.swap_remove(rng.usize(..beyond.len()));
        let own = rng.bool().then(|| self.patterns[0].clone());
        own.into_iter().chain([asked]).collect()
    }

    /// The first pattern with one segment less, and all that is below.
    fn wider(&self) -> String {
        let first = self.patterns[0].trim_end_matches("/*");
        first.rsplit_once('/').map_or_else(|| ALL.to_owned(), |(above, _)| format!("{above}/*"))
    }
}

/// Share of a subscriber: its grant, or a part of it that its streams name.
pub(super) struct Share {
    pub(super) grant: Grant,
    narrowing: Option<Patterns>,
}

impl Share {
    pub(super) fn draw(space: &TopicSpace, subscriber: usize, rng: &mut Rng) -> Self {
        let grant = Grant::draw(space, format!("subject-{subscriber}"), rng);
        let narrowing = grant.narrowing(space, rng);
        Self { grant, narrowing }
    }

    /// Chooses another part.
    pub(super) fn narrow(&mut self, space: &TopicSpace, rng: &mut Rng) {
        self.narrowing = self.grant.narrowing(space, rng);
    }

    /// The patterns that it reads.
    pub(super) fn patterns(&self) -> &Patterns {
        self.narrowing.as_ref().unwrap_or(&self.grant.patterns)
    }

    /// The patterns that a stream names.
    pub(super) fn named(&self) -> &[String] {
        self.narrowing.as_deref().unwrap_or_default()
    }
}

/// A topic for each number, with one to six segments. Some topics have others below them.
fn topic(number: usize) -> String {
    let (area, place) = (AREAS[number % AREAS.len()], number / AREAS.len());
    let shelf = place % SHELVES;
    match place % 5 {
        _ if place == 0 => area.to_owned(),
        0 => format!("{area}/{place}"),
        1 | 2 => format!("{area}/{shelf}/{place}"),
        _ => format!("{area}/{shelf}/a/b/c/{place}"),
    }
}

/// A prefix of a topic, more often a long one than a short one.
fn prefix_of(topic: &str, rng: &mut Rng) -> String {
    let ends: Vec<_> = topic.match_indices('/').map(|(at, _)| at).collect();
    let end = match ends.last() {
        None => topic.len(),
        Some(last) if rng.u8(..100) < 60 => *last,
        Some(_) => ends[rng.usize(..ends.len())],
    };
    format!("{}/*", &topic[..end])
}

/// Each once, in their order.
fn distinct(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for text in texts {
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    distinct
}
