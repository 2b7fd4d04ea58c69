//! Answers in the order of their commands, whoever gives them.

use std::collections::VecDeque;

/// The commands of one connection that are not answered yet.
#[derive(Default)]
pub(super) struct Unanswered(VecDeque<Option<Vec<u8>>>);

impl Unanswered {
    /// A command was passed on: Redis will answer it.
    pub(super) fn theirs(&mut self) {
        self.0.push_back(None);
    }

    /// A command is answered by the proxy; what to send now.
    pub(super) fn ours(&mut self, answer: Vec<u8>) -> Vec<u8> {
        self.0.push_back(Some(answer));
        self.due()
    }

    /// Redis has answered a command; what to send after its answer.
    pub(super) fn answered(&mut self) -> Vec<u8> {
        if self.0.front().is_some_and(Option::is_none) {
            self.0.pop_front();
        }
        self.due()
    }

    fn due(&mut self) -> Vec<u8> {
        let mut due = Vec::new();
        while let Some(Some(answer)) = self.0.front() {
            due.extend_from_slice(answer);
            self.0.pop_front();
        }
        due
    }
}
