//! Ids of questions.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Id of a question: which start of an instance asks, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QuestionId {
    start: u64,
    number: u64,
}

impl QuestionId {
    /// Reads an id as [`Display`](fmt::Display) writes it: 32 lower-case hexadecimal characters.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_hex) {
            return None;
        }
        let (start, number) = text.split_at(16);
        let read = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { start: read(start)?, number: read(number)? })
    }
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.start, self.number)
    }
}

/// Source of the ids of an instance.
pub(super) struct Source {
    start: u64,
    next: AtomicU64,
}

impl Source {
    pub(super) const fn new(start: u64) -> Self {
        Self { start, next: AtomicU64::new(0) }
    }

    pub(super) fn draw(&self) -> QuestionId {
        QuestionId { start: self.start, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether the id was drawn here.
    pub(super) const fn is_own(&self, id: QuestionId) -> bool {
        id.start == self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is_one() {
        let source = Source::new(0xab);
        for id in [source.draw(), source.draw()] {
            assert_eq!(QuestionId::parse(&id.to_string()), Some(id));
            assert!(source.is_own(id) && !Source::new(0xac).is_own(id));
        }
        let id = "00000000000000ab0000000000000001";
        assert!(QuestionId::parse(id).is_some());
        for wrong in [&id[1..], &id.to_uppercase(), &format!("{id}0"), &id.replace('a', "+"), ""] {
            assert_eq!(QuestionId::parse(wrong), None, "{wrong}");
        }
    }
}
