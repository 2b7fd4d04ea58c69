//! `vx11-operator token issue`: issues a token and prints it. Programs get the token alone.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use crate::arguments::IssueArguments;
use crate::escape::visible;
use crate::report::{refused_principal, unanswered, unwritable};
use crate::session::{Issued, Session, TokenRequest};
use crate::stdout::Stdout;

/// Deadline of the answer.
const ISSUING: Duration = Duration::from_secs(15);

/// Issues the token of the arguments and prints it.
pub(super) async fn run(session: &Session, arguments: &IssueArguments) -> ExitCode {
    let wanted = TokenRequest {
        subject: arguments.subject.as_deref(),
        topics: &arguments.topic,
        expires_in: arguments.ttl,
    };
    let issued = match session.issue(&wanted, ISSUING).await {
        Ok(issued) => issued,
        Err(failure) if failure.refuses_principal() => return refused_principal(session.url(), &failure),
        Err(failure) => return unanswered("no token", session.url(), &failure),
    };
    let text = if arguments.json {
        // Texts and numbers can always be serialised.
        visible(&serde_json::to_string(&issued).unwrap_or_default()).into_owned() + "\n"
    } else if io::stdout().is_terminal() {
        lines(&issued, session.url())
    } else {
        format!("{}\n", visible(&issued.sse_token))
    };
    let printed = Stdout::open().write(&text).await;
    printed.map_or_else(|error| unwritable(&error), |()| ExitCode::SUCCESS)
}

/// The answer for a person.
fn lines(issued: &Issued, url: &str) -> String {
    let Issued { sse_token, token_id, expires_in, expires_at, stream_url, .. } = issued;
    let mut lines = String::new();
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(lines, "{name:<9}{}", visible(text));
    };
    line("token", sse_token);
    line("id", token_id);
    line("expires", &format!("{expires_at}, in {expires_in} s"));
    if let Some(subject) = &issued.subject {
        line("subject", subject);
    }
    if let Some(topics) = &issued.topics {
        line("topics", &topics.join(" "));
    }
    line("stream", &format!("{url}{stream_url}"));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_person_gets_what_the_answer_says_without_what_a_terminal_would_obey() {
        let plain = json!({
            "sse_token": "6f0d", "token_id": "3f9a", "expires_in": 60, "expires_at": "2026-01-01T00:01:00Z",
            "instance_id": "1", "backend": "redis", "stream_url": "/stream?token=6f0d",
        });
        let shown = "token    6f0d\nid       3f9a\nexpires  2026-01-01T00:01:00Z, in 60 s\n\
                     stream   http://host/stream?token=6f0d\n";
        assert_eq!(lines(&from_value(plain.clone()).unwrap(), "http://host"), shown);
        let mut limited = plain;
        limited["subject"] = json!("ada\u{1b}[2J");
        limited["topics"] = json!(["orders/*", "users/7"]);
        let shown = lines(&from_value(limited).unwrap(), "http://host");
        assert!(shown.contains("\nsubject  ada\\u001b[2J\ntopics   orders/* users/7\n"), "{shown}");
    }
}
