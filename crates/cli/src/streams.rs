//! `vx11-operator streams`: the open streams of all instances, as a table or as one JSON object.

use std::process::ExitCode;
use std::time::Duration;

use crate::arguments::StreamsArguments;
use crate::escape::visible;
use crate::report::{notice, refused_principal, unanswered, unwritable};
use crate::session::{OpenStream, Session, StreamList};
use crate::stdout::Stdout;

/// Deadline of the answer. The instance waits a second for the others.
const ASKING: Duration = Duration::from_secs(15);
const HEADINGS: [&str; 6] = ["STREAM", "SUBJECT", "PRINCIPAL", "INSTANCE", "OPENED", "TOPICS"];
/// Cell without a value.
const NONE: &str = "-";

/// Prints the streams that the arguments select.
pub(super) async fn run(session: &Session, arguments: &StreamsArguments) -> ExitCode {
    let list = match session.streams(&filter(arguments), ASKING).await {
        Ok(list) => list,
        Err(failure) if failure.refuses_principal() => return refused_principal(session.url(), &failure),
        Err(failure) => return unanswered("no list of streams", session.url(), &failure),
    };
    let text = if arguments.json {
        // Texts can always be serialised.
        visible(&serde_json::to_string(&list).unwrap_or_default()).into_owned() + "\n"
    } else {
        table(&list)
    };
    if let Err(error) = Stdout::open().write(&text).await {
        return unwritable(&error);
    }
    if !list.missing.is_empty() {
        notice(format_args!(
            "no answer within a second from {}, whose streams are not in the list",
            instances(&list.missing)
        ));
    }
    if list.more {
        notice(format_args!(
            "there are more streams; these are the oldest. --limit says how many are listed"
        ));
    }
    ExitCode::SUCCESS
}

/// Names of instances, with the noun.
pub(super) fn instances(names: &[String]) -> String {
    format!("{} {}", if names.len() == 1 { "instance" } else { "instances" }, names.join(", "))
}

/// The parameters of the request.
fn filter(arguments: &StreamsArguments) -> Vec<(&'static str, String)> {
    let StreamsArguments { subject, topic, principal, instance, limit, .. } = arguments;
    let limit = limit.map(|limit| limit.to_string());
    [
        ("subject", subject.clone()),
        ("topic", topic.clone()),
        ("principal", principal.clone()),
        ("instance", instance.clone()),
        ("limit", limit),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// A heading, and a line for each stream.
fn table(list: &StreamList) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(list.streams.iter().map(cells));
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        rows.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default()
    });
    let line = |cells: &[String; HEADINGS.len()]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn cells(stream: &OpenStream) -> [String; HEADINGS.len()] {
    [
        stream.stream_id.clone(),
        stream.subject.clone().unwrap_or_else(|| NONE.to_owned()),
        stream.principal.clone(),
        stream.instance_id.clone(),
        stream.opened_at.clone(),
        stream.topics.join(" "),
    ]
    .map(|cell| visible(&cell).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn answer() -> Value {
        json!({
            "streams": [
                {
                    "stream_id": "00000000000000a1", "token_id": "3f9a1c0b5d7e2f48", "subject": "ada\u{1b}[2J",
                    "topics": ["orders/*", "users/7"], "principal": "shop", "instance_id": "1",
                    "opened_at": "2026-01-03T20:00:00.000Z",
                },
                {
                    "stream_id": "00000000000000a2", "topics": ["default"], "principal": "operator",
                    "instance_id": "2", "opened_at": "2026-01-03T20:00:01.000Z",
                },
            ],
            "missing": ["3"],
        })
    }

    #[test]
    fn a_table_has_a_line_for_each_stream_and_nothing_that_a_terminal_would_obey() {
        let shown = table(&from_value(answer()).unwrap());
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), HEADINGS);
        assert_eq!(
            lines[1],
            "00000000000000a1  ada\\u001b[2J  shop       1         2026-01-03T20:00:00.000Z  \
             orders/* users/7"
        );
        assert_eq!(
            lines[2],
            "00000000000000a2  -             operator   2         2026-01-03T20:00:01.000Z  \
             default"
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_list_is_printed_as_it_was_answered() {
        let mut answer = answer();
        for more in [false, true] {
            if more {
                answer["more"] = json!(true);
            }
            let list: StreamList = from_value(answer.clone()).unwrap();
            assert_eq!(serde_json::to_value(&list).unwrap(), answer);
        }
    }
}
