//! Answers to questions, as JSON in Redis. Anybody who may write to Redis may have written them.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::clock::UnixMillis;
use crate::events::{OpenStream, StreamId};
use crate::principal::PrincipalId;
use crate::token::{Subject, TokenId};
use crate::topic::Patterns;

/// Bound of an answer in bytes. Streams beyond it are left out.
pub(super) const LARGEST: usize = 1_000_000;

/// Answer of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its open streams, the oldest first, and whether there are more.
    Streams { streams: Vec<OpenStream>, more: bool },
    /// Number of streams that an order has ended.
    Ended { ended: u64 },
}

/// An answer before its streams are parsed.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Streams { streams: Vec<WrittenStream>, more: bool },
    Ended { ended: u64 },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Writing {
    Streams { streams: Vec<Box<RawValue>>, more: bool },
    Ended { ended: u64 },
}

/// A stream as it is written.
#[derive(Serialize, Deserialize)]
struct WrittenStream {
    stream_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    topics: Vec<String>,
    principal: String,
    /// In ms since 1970.
    opened_at: u64,
}

impl From<&OpenStream> for WrittenStream {
    fn from(stream: &OpenStream) -> Self {
        Self {
            stream_id: stream.stream_id.to_string(),
            token_id: stream.token_id.map(|id| id.to_string()),
            subject: stream.subject.as_ref().map(|subject| subject.as_str().to_owned()),
            topics: stream.topics.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
            principal: stream.principal.to_string(),
            opened_at: stream.opened_at.0,
        }
    }
}

impl WrittenStream {
    /// The stream; `None` if a part of it is invalid.
    fn read(self) -> Option<OpenStream> {
        let token_id = self.token_id.map(|text| TokenId::parse(&text));
        let subject = self.subject.map(|text| Subject::parse(&text).ok_or(()));
        Some(OpenStream {
            stream_id: StreamId::parse(&self.stream_id)?,
            token_id: token_id.transpose().ok()?,
            subject: subject.transpose().ok()?,
            topics: Patterns::new(self.topics.iter().map(String::as_str)).ok()?,
            principal: PrincipalId::parse(&self.principal)?,
            opened_at: UnixMillis(self.opened_at),
        })
    }
}

impl Answer {
    /// Writes the answer, with as many of its streams as fit into so many bytes.
    pub(super) fn written(&self, most: usize) -> String {
        let writing = match self {
            Self::Ended { ended } => Writing::Ended { ended: *ended },
            Self::Streams { streams, more } => {
                let mut room = most.saturating_sub(r#"{"streams":[],"more":false}"#.len());
                let mut fitting = Vec::with_capacity(streams.len());
                for stream in streams {
                    let Ok(text) = to_raw_value(&WrittenStream::from(stream)) else { break };
                    // With the comma.
                    let Some(left) = room.checked_sub(text.get().len() + 1) else { break };
                    room = left;
                    fitting.push(text);
                }
                let more = *more || fitting.len() < streams.len();
                Writing::Streams { streams: fitting, more }
            }
        };
        // Texts and numbers always have a document.
        serde_json::to_string(&writing).unwrap_or_default()
    }

    /// Parses an answer; `None` if it is invalid.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text.len() > LARGEST {
            return None;
        }
        Some(match serde_json::from_str(text).ok()? {
            Written::Ended { ended } => Self::Ended { ended },
            Written::Streams { streams, more } => {
                let streams = streams.into_iter().map(WrittenStream::read).collect::<Option<_>>()?;
                Self::Streams { streams, more }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(number: u64, subject: Option<&str>) -> OpenStream {
        OpenStream {
            stream_id: StreamId::new(number),
            token_id: subject.map(|_| TokenId::parse("0123456789abcdef").unwrap()),
            subject: subject.and_then(Subject::parse),
            topics: Patterns::new(["orders/*", "default"]).unwrap(),
            principal: PrincipalId::parse("shop").unwrap(),
            opened_at: UnixMillis(number),
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,60}|\\{\"(streams|ended|more)\":(\\[.{0,20}\\]|[0-9]{0,22}|true)[,}].{0,20}") {
            let _ = Answer::read(&text);
        }

        #[test]
        fn an_answer_reads_back_as_itself(numbers in prop::collection::vec(any::<u64>(), 0..5), more in any::<bool>(), subject in "[!-~]{1,128}") {
            let streams = numbers.iter().map(|number| stream(*number, number.is_multiple_of(2).then_some(&subject)));
            let answer = Answer::Streams { streams: streams.collect(), more };
            prop_assert_eq!(Answer::read(&answer.written(LARGEST)), Some(answer));
        }
    }

    #[test]
    fn the_number_of_ended_streams_reads_back_as_itself() {
        for ended in [0, u64::MAX] {
            assert_eq!(
                Answer::read(&Answer::Ended { ended }.written(LARGEST)),
                Some(Answer::Ended { ended })
            );
        }
    }

    #[test]
    fn an_answer_that_is_too_large_keeps_the_oldest_streams_and_says_that_there_are_more() {
        let longest = "s".repeat(128);
        let streams: Vec<_> = (0..10_000).map(|number| stream(number, Some(&longest))).collect();
        let answer = Answer::Streams { streams: streams.clone(), more: false };
        for most in [LARGEST, LARGEST / 2] {
            let text = answer.written(most);
            assert!(text.len() <= most && text.len() > most - 1000, "{}", text.len());
            let Some(Answer::Streams { streams: kept, more: true }) = Answer::read(&text) else {
                panic!("{text}")
            };
            assert_eq!(kept[..], streams[..kept.len()]);
        }
        let none = Answer::Streams { streams: Vec::new(), more: true };
        assert_eq!(Answer::read(&answer.written(0)), Some(none));
    }

    #[test]
    fn an_answer_with_an_invalid_stream_is_no_answer() {
        let answer = Answer::Streams { streams: vec![stream(1, Some("a"))], more: false };
        let text = answer.written(LARGEST);
        for (part, wrong) in [
            ("0000000000000001", "1"),
            ("0123456789abcdef", "0123456789ABCDEF"),
            (r#""subject":"a""#, r#""subject":"a b""#),
            ("orders/*", "orders/"),
            ("shop", ""),
            (r#""opened_at":1"#, r#""opened_at":-1"#),
        ] {
            assert!(text.contains(part), "{text}");
            assert_eq!(Answer::read(&text.replace(part, wrong)), None, "{wrong}");
        }
        assert!(
            Answer::read(&text.replace("\"more\"", "\"later\":0,\"more\"")).is_some(),
            "of a later release"
        );
    }
}
