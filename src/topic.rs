//! Topics and patterns: names that events are published to, and what a reader may match of them. No
//! I/O.
//!
//! A topic has segments separated by `/`. A pattern is a topic, a prefix of whole segments
//! (`orders/*`, which does not match `orders` itself), or `*`. A topic that begins with `$` belongs
//! to the service: `*` does not match it.

use std::fmt;
use std::sync::{Arc, LazyLock};

/// Bound of a topic and of a pattern, in characters.
pub const LONGEST_TOPIC: usize = 128;
/// Bound of the segments of a topic.
pub const MOST_SEGMENTS: usize = 8;
/// Bound of the topics of an event, of the patterns of a grant, and of the patterns of a request.
pub const MOST_TOPICS: usize = 16;
/// Topic of events that are published without one, and of streams that name none.
pub const DEFAULT_TOPIC: &str = "default";
/// The pattern of all topics but the service's own.
const ALL: &str = "*";
/// End of a prefix pattern.
const BELOW: &str = "/*";

/// Reason why a text is no topic or pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The text is no topic.
    #[error(
        "a topic is 1 to {LONGEST_TOPIC} characters of A-Z a-z 0-9 . _ ~ : @ - % in 1 to {MOST_SEGMENTS} segments separated by /"
    )]
    Topic,
    /// The text is no pattern.
    #[error(
        "a pattern is a topic, a prefix of whole segments such as orders/*, or *; at most {LONGEST_TOPIC} characters"
    )]
    Pattern,
    /// None, or too many.
    #[error("1 to {MOST_TOPICS} topics are allowed")]
    Number,
    /// The same one twice.
    #[error("a topic occurs twice")]
    Twice,
}

/// Whether a text is a topic, the service's own included.
fn is_topic(text: &str) -> bool {
    let is_allowed = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b':' | b'@' | b'-' | b'%')
    };
    let named = text.strip_prefix('$').unwrap_or(text);
    let mut segments = 0;
    let are_segments = named.split('/').all(|segment| {
        segments += 1;
        !segment.is_empty() && segment.bytes().all(is_allowed)
    });
    are_segments && segments <= MOST_SEGMENTS && text.len() <= LONGEST_TOPIC
}

/// Whether a topic or pattern is about the service's own topics.
fn is_of_service(text: &str) -> bool {
    text.starts_with('$')
}

/// Checks number and uniqueness of the texts of a list.
fn checked<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Result<(), TopicError> {
    let number = texts.clone().count();
    if !(1..=MOST_TOPICS).contains(&number) {
        return Err(TopicError::Number);
    }
    let mut rest = texts;
    while let Some(text) = rest.next() {
        if rest.clone().any(|other| other == text) {
            return Err(TopicError::Twice);
        }
    }
    Ok(())
}

/// The topics of an event, 1 to 16. Written as one text, separated by spaces, as in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topics(Arc<str>);

impl Topics {
    /// Checks the topics of an event.
    ///
    /// # Errors
    /// The texts are no topics, too many, or the same one twice.
    pub fn new<'a>(topics: impl IntoIterator<Item = &'a str>) -> Result<Self, TopicError> {
        let topics: Vec<_> = topics.into_iter().collect();
        if !topics.iter().all(|topic| is_topic(topic)) {
            return Err(TopicError::Topic);
        }
        checked(topics.iter().copied())?;
        Ok(Self(topics.join(" ").into()))
    }

    /// Parses the written form.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text == DEFAULT_TOPIC { Ok(Self::default()) } else { Self::new(text.split(' ')) }
    }

    /// The written form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topics, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split(' ')
    }

    /// Whether the only topic is `default`.
    #[must_use]
    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT_TOPIC
    }

    /// The first topic that belongs to the service.
    #[must_use]
    pub fn of_service(&self) -> Option<&str> {
        self.iter().find(|topic| is_of_service(topic))
    }
}

impl Default for Topics {
    /// `default`.
    fn default() -> Self {
        static DEFAULT: LazyLock<Topics> = LazyLock::new(|| Topics(DEFAULT_TOPIC.into()));
        DEFAULT.clone()
    }
}

/// A pattern of topics.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`TopicError::Pattern`].
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let topic = text.strip_suffix(BELOW).unwrap_or(text);
        // Nothing lies below a topic of the largest number of segments.
        let has_room = topic.len() == text.len() || topic.split('/').count() < MOST_SEGMENTS;
        let is_pattern = text == ALL || (text.len() <= LONGEST_TOPIC && is_topic(topic) && has_room);
        if is_pattern { Ok(Self(text.into())) } else { Err(TopicError::Pattern) }
    }

    /// The written form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The written form, shared.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Beginning of the topics of a prefix pattern, the `/` included.
    fn prefix(&self) -> Option<&str> {
        self.0.ends_with(BELOW).then(|| &self.0[..self.0.len() - 1])
    }

    /// Whether this pattern matches a topic.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match self.prefix() {
            Some(prefix) => topic.len() > prefix.len() && topic.starts_with(prefix),
            None if &*self.0 == ALL => !is_of_service(topic),
            None => *self.0 == *topic,
        }
    }

    /// Whether this pattern matches every topic that `other` matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.prefix(), other.prefix()) {
            _ if &*self.0 == ALL => !is_of_service(&other.0),
            (Some(prefix), Some(other)) => other.starts_with(prefix),
            (_, None) if &*other.0 != ALL => self.matches(&other.0),
            _ => false,
        }
    }

    /// Whether it is about the service's own topics.
    #[must_use]
    pub fn is_of_service(&self) -> bool {
        is_of_service(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The patterns of a grant, a principal or a stream, 1 to 16. Clones share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Arc<[Pattern]>);

impl Patterns {
    /// Checks the patterns of a grant or stream.
    ///
    /// # Errors
    /// The texts are no patterns, too many, or the same one twice.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, TopicError> {
        let patterns = patterns.into_iter().map(Pattern::parse).collect::<Result<Vec<_>, _>>()?;
        checked(patterns.iter().map(Pattern::as_str))?;
        Ok(Self(patterns.into()))
    }

    /// `*`: every topic but the service's own.
    #[must_use]
    pub fn all() -> Self {
        static EVERYTHING: LazyLock<Patterns> = LazyLock::new(|| Patterns([Pattern(ALL.into())].into()));
        EVERYTHING.clone()
    }

    /// The patterns, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter()
    }

    /// Whether one of them matches a topic.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.iter().any(|pattern| pattern.matches(topic))
    }

    /// Place of the first topic of an event that one of them matches; `None`: the event is not for
    /// this reader.
    #[must_use]
    pub fn first_match(&self, topics: &Topics) -> Option<usize> {
        topics.iter().position(|topic| self.matches(topic))
    }

    /// The first pattern of `others` that none of these covers.
    #[must_use]
    pub fn first_beyond<'a>(&self, others: &'a Self) -> Option<&'a Pattern> {
        others.iter().find(|other| !self.iter().any(|pattern| pattern.covers(other)))
    }

    /// The first of an event's topics that none of these matches.
    #[must_use]
    pub fn first_unmatched<'a>(&self, topics: &'a Topics) -> Option<&'a str> {
        topics.iter().find(|topic| !self.matches(topic))
    }

    /// Whether they are exactly `default`.
    #[must_use]
    pub fn is_default(&self) -> bool {
        matches!(&*self.0, [only] if only.as_str() == DEFAULT_TOPIC)
    }
}

impl Default for Patterns {
    /// `default`.
    fn default() -> Self {
        static DEFAULT: LazyLock<Patterns> =
            LazyLock::new(|| Patterns([Pattern(DEFAULT_TOPIC.into())].into()));
        DEFAULT.clone()
    }
}

/// Calls `found` with the written form of every pattern that matches `topic`: the topic, its
/// prefixes from the longest, and `*`. At most 9.
pub fn for_each_pattern(topic: &str, mut found: impl FnMut(&str)) {
    found(topic);
    let mut pattern = String::with_capacity(topic.len() + 1);
    for (at, _) in topic.rmatch_indices('/') {
        pattern.clear();
        pattern.push_str(&topic[..at]);
        pattern.push_str(BELOW);
        found(&pattern);
    }
    if !is_of_service(topic) {
        found(ALL);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    prop_compose! {
        fn any_topic()(service in any::<bool>(), segments in prop::collection::vec("[ab]{1,2}", 1..=MOST_SEGMENTS)) -> String {
            format!("{}{}", if service { "$" } else { "" }, segments.join("/"))
        }
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        prop_oneof![
            any_topic().prop_map(|topic| pattern(&topic)),
            any_topic()
                .prop_filter("nothing is below it", |topic| topic.split('/').count() < MOST_SEGMENTS)
                .prop_map(|topic| pattern(&format!("{topic}/*"))),
            Just(pattern("*")),
        ]
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(text in ".{0,20}|[a-z$/*%~ ]{0,140}") {
            if let Ok(topics) = Topics::parse(&text) {
                prop_assert_eq!(topics.as_str(), text.as_str());
            }
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(pattern.as_str(), text.as_str());
            }
        }

        #[test]
        fn a_pattern_that_covers_another_matches_whatever_that_matches(
            one in any_pattern(), other in any_pattern(), topic in any_topic(),
        ) {
            prop_assert!(one.covers(&one));
            if one.covers(&other) && other.matches(&topic) {
                prop_assert!(one.matches(&topic), "{} {} {}", one, other, topic);
            }
        }

        #[test]
        fn the_patterns_of_a_topic_are_those_that_match_it(topic in any_topic(), other in any_pattern()) {
            let mut listed = Vec::new();
            for_each_pattern(&topic, |text| listed.push(text.to_owned()));
            prop_assert!(listed.iter().all(|text| pattern(text).matches(&topic)));
            prop_assert_eq!(listed.iter().any(|text| text == other.as_str()), other.matches(&topic));
        }
    }

    #[test]
    fn the_form_of_a_topic_is_checked() {
        for good in
            ["a", "orders/42", "$streams/opened", "A-z.0_9~:@%2F", &"x".repeat(128), "1/2/3/4/5/6/7/8"]
        {
            assert!(Topics::new([good]).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a b",
            "a*",
            "*",
            "a/*",
            "a$",
            "$",
            "ä",
            "a\n",
            "a/$b",
            "1/2/3/4/5/6/7/8/9",
        ] {
            assert_eq!(Topics::new([bad]), Err(TopicError::Topic), "{bad}");
        }
        assert_eq!(Topics::new([&*"x".repeat(129)]), Err(TopicError::Topic));
    }

    #[test]
    fn the_form_of_a_pattern_is_checked() {
        for good in ["a", "*", "a/*", "a/b/*", "$streams/*", "1/2/3/4/5/6/7/*"] {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "**", "a*", "*/a", "a/*/b", "/*", "$*", "$/*", "a/**", "1/2/3/4/5/6/7/8/*", " *"] {
            assert_eq!(Pattern::parse(bad), Err(TopicError::Pattern), "{bad}");
        }
    }

    #[test]
    fn a_prefix_matches_what_is_below_it_at_any_depth_and_not_itself() {
        let orders = pattern("orders/*");
        for (topic, matches) in [
            ("orders/1", true),
            ("orders/1/2/3", true),
            ("orders", false),
            ("orders2/1", false),
            ("other", false),
        ] {
            assert_eq!(orders.matches(topic), matches, "{topic}");
        }
    }

    #[test]
    fn everything_is_not_the_service_s_own_topics() {
        assert!(pattern("*").matches("a/b"));
        assert!(!pattern("*").matches("$streams/opened"));
        assert!(!pattern("*").covers(&pattern("$streams/*")));
        assert!(pattern("$streams/*").covers(&pattern("$streams/opened")));
    }

    #[test]
    fn a_pattern_beyond_others_is_named() {
        let own = Patterns::new(["orders/*", "users/7"]).unwrap();
        for (asked, beyond) in [
            ("orders/1/*", None),
            ("orders/*", None),
            ("users/7", None),
            ("users/7/*", Some("users/7/*")),
            ("orders", Some("orders")),
            ("*", Some("*")),
        ] {
            let asked = Patterns::new([asked]).unwrap();
            assert_eq!(own.first_beyond(&asked).map(Pattern::as_str), beyond);
        }
    }

    #[test]
    fn a_list_has_one_to_sixteen_different_entries() {
        let names: Vec<_> = (0..17).map(|n| n.to_string()).collect();
        let first = |most: usize| names.iter().take(most).map(String::as_str);
        assert!(Topics::new(first(16)).is_ok() && Patterns::new(first(16)).is_ok());
        assert_eq!(Topics::new(first(17)), Err(TopicError::Number));
        assert_eq!(Topics::new([]), Err(TopicError::Number));
        assert_eq!(Topics::new(["a", "b", "a"]), Err(TopicError::Twice));
        assert_eq!(Patterns::new(["a", "a"]).err(), Some(TopicError::Twice));
        assert_eq!(Topics::parse("a b").unwrap().iter().collect::<Vec<_>>(), ["a", "b"]);
        for text in ["a  b", " a", "a ", ""] {
            assert_eq!(Topics::parse(text), Err(TopicError::Topic), "{text:?}");
        }
    }

    #[test]
    fn the_first_topic_that_matches_is_the_one_a_stream_shows() {
        let patterns = Patterns::new(["b/*", "c"]).unwrap();
        let topics = |text| Topics::parse(text).unwrap();
        assert_eq!(patterns.first_match(&topics("a b/1 c")), Some(1));
        assert_eq!(patterns.first_match(&topics("a c b/1")), Some(1));
        assert_eq!(patterns.first_match(&topics("a")), None);
        assert_eq!(Patterns::default().first_match(&Topics::default()), Some(0));
    }
}
