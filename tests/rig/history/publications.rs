//! Publications: requests of the publisher, and their answers.

use vx11_kit::{Answer, EventId};

use super::{DEFAULT, Endpoint, Moment};

/// An event that was to be published. Events have numbers, from zero; whatever its attempts, an
/// event keeps its number and its idempotency key.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// Time at which it was due.
    pub due: Moment,
    /// The topics that it names; without any it goes to `default`.
    pub topics: Vec<String>,
    /// In the order of their answers. An acknowledged event may be published once more, to see
    /// whether it is known.
    pub attempts: Vec<Attempt>,
}

/// One request to publish an event.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Who was asked.
    pub endpoint: Endpoint,
    /// Time at which it was sent.
    pub sent: Moment,
    /// Time of the answer.
    pub answered: Moment,
    /// The answer.
    pub answer: Answer,
}

impl Publication {
    /// The topics that it goes to.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        let default = self.topics.is_empty().then_some(DEFAULT);
        self.topics.iter().map(String::as_str).chain(default)
    }

    /// The first acknowledgement: when, and under which id.
    #[must_use]
    pub fn acknowledged(&self) -> Option<(Moment, EventId)> {
        self.attempts.iter().find_map(|attempt| match attempt.answer {
            Answer::Acknowledged { id, .. } => Some((attempt.answered, id)),
            _ => None,
        })
    }
}
