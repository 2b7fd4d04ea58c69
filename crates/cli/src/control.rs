//! `vx11-operator end`, `block`, `unblock` and `revoke`: orders about streams and subjects. Each is
//! sent once, and to repeat it does no harm.

use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::arguments::{BlockArguments, EndArguments, SubjectArguments};
use crate::escape::visible;
use crate::failure::Failure;
use crate::report::{counted, notice, refused_principal, unwritable};
use crate::session::Session;
use crate::stdout::Stdout;
use crate::streams::instances;

const END: &str = "/operator/api/streams/end";
const REVOKE: &str = "/operator/api/subjects/revoke";
const BLOCK: &str = "/operator/api/subjects/block";
const UNBLOCK: &str = "/operator/api/subjects/unblock";

/// Deadline of the answer. The instance waits a second for the others.
const ORDERING: Duration = Duration::from_secs(15);

/// Reach of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Effective {
    /// Every instance.
    Cluster,
    /// The instance that answered. The others follow when Redis is available again.
    Instance,
}

impl Effective {
    /// The end of a line.
    const fn reach(self) -> &'static str {
        match self {
            Self::Cluster => "on all instances",
            Self::Instance => {
                "on the instance that answered; on the others as soon as Redis is available again"
            }
        }
    }
}

/// The answer to `end`.
#[derive(Deserialize)]
struct Outcome {
    ended: u64,
    effective: Effective,
    #[serde(default)]
    missing: Vec<String>,
}

/// The answer to an order about a subject.
#[derive(Deserialize)]
struct Done {
    effective: Effective,
    /// End of a block, RFC 3339.
    #[serde(default)]
    until: String,
}

#[derive(Serialize)]
struct OfSubject<'a> {
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
}

/// Ends the streams of the arguments.
pub(super) async fn end(session: &Session, arguments: &EndArguments) -> ExitCode {
    let Outcome { ended, effective, missing } = match session.order(END, &arguments.selected, ORDERING).await
    {
        Ok(answer) => answer,
        Err(failure) => return not_done("no stream ended", session, &failure),
    };
    let code = print(&format!("{} ended, {}", counted(ended, "stream"), effective.reach())).await;
    if !missing.is_empty() {
        notice(format_args!(
            "no answer within a second from {}: streams there end when the order is read, and are not counted",
            instances(&missing)
        ));
    }
    code
}

/// Blocks a subject.
pub(super) async fn block(session: &Session, arguments: &BlockArguments) -> ExitCode {
    let subject = &arguments.subject.subject;
    let order = OfSubject { subject, seconds: Some(arguments.seconds) };
    about_subject(session, BLOCK, &order, "not blocked", |done| {
        format!("{subject} is blocked until {}", done.until)
    })
    .await
}

/// Ends the block of a subject.
pub(super) async fn unblock(
    session: &Session,
    SubjectArguments { subject, .. }: &SubjectArguments,
) -> ExitCode {
    let order = OfSubject { subject, seconds: None };
    about_subject(session, UNBLOCK, &order, "not unblocked", |_| format!("{subject} is not blocked any more"))
        .await
}

/// Revokes the tokens of a subject.
pub(super) async fn revoke(
    session: &Session,
    SubjectArguments { subject, .. }: &SubjectArguments,
) -> ExitCode {
    let order = OfSubject { subject, seconds: None };
    about_subject(session, REVOKE, &order, "not revoked", |_| {
        format!("the tokens that {subject} has are revoked")
    })
    .await
}

/// Gives an order about a subject, and prints the outcome: `what` was done, or `failed`.
async fn about_subject(
    session: &Session,
    path: &str,
    order: &OfSubject<'_>,
    failed: &str,
    what: impl FnOnce(&Done) -> String,
) -> ExitCode {
    match session.order::<Done>(path, order, ORDERING).await {
        Ok(done) => print(&format!("{}, {}", what(&done), done.effective.reach())).await,
        Err(failure) => not_done(failed, session, &failure),
    }
}

fn not_done(what: &str, session: &Session, failure: &Failure) -> ExitCode {
    if failure.refuses_principal() {
        return refused_principal(session.url(), failure);
    }
    if failure.may_have_been_done() {
        notice(format_args!(
            "not known whether it was done at {}: {failure}; to repeat the command does no harm",
            session.url()
        ));
        return ExitCode::FAILURE;
    }
    notice(format_args!("{what} at {}: {failure}{}", session.url(), failure.advice()));
    ExitCode::FAILURE
}

/// Prints a line. The order is carried out even if nobody reads it.
async fn print(text: &str) -> ExitCode {
    let printed = Stdout::open().write(&format!("{}\n", visible(text))).await;
    printed.map_or_else(|error| unwritable(&error), |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn the_body_of_an_order_has_seconds_for_a_block_only() {
        let body = |seconds| to_value(OfSubject { subject: "ada", seconds }).unwrap();
        assert_eq!(body(Some(60)), json!({"subject": "ada", "seconds": 60}));
        assert_eq!(body(None), json!({"subject": "ada"}));
    }

    #[test]
    fn the_reach_of_an_order_is_that_of_the_answer() {
        let done = |answer| from_value::<Done>(answer).map(|done| done.effective);
        assert_eq!(
            done(json!({"effective": "cluster", "until": "2026-01-01T00:00:00Z"})).unwrap(),
            Effective::Cluster
        );
        assert_eq!(done(json!({"effective": "instance"})).unwrap(), Effective::Instance);
        assert!(done(json!({"effective": "nowhere"})).is_err() && done(json!({})).is_err());
    }
}
