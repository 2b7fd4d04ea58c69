//! Questions to all instances: a stream in Redis, which every instance reads, and a stream of
//! answers for each question.

use std::time::Duration;

use redis::Cmd;
use serde::Serialize;

use super::namespace::Namespace;
use super::script::Script;
use crate::clock::UnixMillis;
use crate::limits::QUESTION_DEADLINE;

/// Bound of the questions in the stream. Each is of interest for two seconds.
const MOST_KEPT: usize = 256;
/// Lifetime of answers that are not removed: longer than an instance waits for them.
const ANSWERS_KEPT: Duration = QUESTION_DEADLINE.saturating_mul(2);
/// Answers read at once.
const ANSWERS_AT_ONCE: usize = 8;
/// Script that writes an answer.
static ANSWER: Script = Script::new(&[include_str!("answer.lua")]);

/// Arguments of [`ANSWER`].
#[derive(Serialize)]
struct Arguments<'a> {
    from: &'a str,
    answer: &'a str,
    latest: u64,
    seconds: u64,
}

/// Name of the stream of questions.
pub(crate) fn stream(namespace: &Namespace) -> String {
    namespace.together("questions")
}

/// Name of the stream of answers to a question.
pub(crate) fn answers(namespace: &Namespace, question: &str) -> String {
    namespace.together(format_args!("answers:{question}"))
}

/// Command that asks a question.
pub(crate) fn ask(stream: &str, fields: &[(&str, String)]) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("MAXLEN").arg("~").arg(MOST_KEPT).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command
}

/// Command that writes the answer of an instance to a question that was asked at `asked_at`, by the
/// clock of Redis.
pub(crate) fn answer(answers: &str, asked_at: UnixMillis, from: &str, answer: &str) -> Cmd {
    let latest = asked_at.plus(QUESTION_DEADLINE).0;
    ANSWER.call(&[answers], &Arguments { from, answer, latest, seconds: ANSWERS_KEPT.as_secs() })
}

/// Command that reads answers after `read_to`.
pub(crate) fn read(answers: &str, read_to: &str) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(ANSWERS_AT_ONCE).arg("STREAMS").arg(answers).arg(read_to);
    command
}

/// Command that removes the answers to a question. `DEL` would need a right that instances do not
/// have.
pub(crate) fn remove(answers: &str) -> Cmd {
    let mut command = redis::cmd("EXPIRE");
    command.arg(answers).arg(0);
    command
}
