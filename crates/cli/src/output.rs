//! Events as lines: text for people, or one JSON object each. Characters that control a terminal
//! are escaped, because publishers may send anything.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::escape::visible;
use crate::subscription::Event;

/// Form of the lines.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    /// Id, type, data. A topic other than `default` follows the type after `@`, which no type
    /// contains.
    Readable,
    Json,
}

impl Format {
    /// The line, with its end.
    pub(super) fn line(self, event: &Event) -> String {
        let data = one_line(&event.data);
        let json = serde_json::from_str::<&RawValue>(&data);
        let mut line = match (self, json) {
            (Self::Readable, Ok(_)) => readable(event, &data),
            (Self::Readable, Err(_)) => readable(event, &event.data),
            (Self::Json, Ok(data)) => object(event, Data::Json(data)),
            (Self::Json, Err(_)) => object(event, Data::Text(&event.data)),
        };
        if let Cow::Owned(escaped) = visible(&line) {
            line = escaped;
        }
        line.push('\n');
        line
    }
}

fn readable(Event { id, kind, topic, .. }: &Event, data: &str) -> String {
    match topic {
        Some(topic) => format!("{id} {kind}@{topic} {data}"),
        None => format!("{id} {kind} {data}"),
    }
}

/// Data unchanged: numbers keep their digits, members their order.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

fn object(event: &Event, data: Data<'_>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        id: &'a str,
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
        data: Data<'a>,
    }
    let line = Line { id: &event.id, event: &event.kind, topic: event.topic.as_deref(), data };
    // Texts and JSON can always be serialised.
    serde_json::to_string(&line).unwrap_or_default()
}

/// JSON on one line: line ends and indentation between its parts become a space; strings contain
/// none.
fn one_line(data: &str) -> Cow<'_, str> {
    if data.contains(['\n', '\r', '\t']) {
        data.split(['\n', '\r', '\t'])
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
            .into()
    } else {
        data.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn event(data: &str) -> Event {
        let (id, kind) = ("0000abcd-12-3".to_owned(), "order.paid".to_owned());
        Event { id, kind, topic: None, data: data.to_owned() }
    }

    fn as_json(data: &str) -> Value {
        serde_json::from_str(&Format::Json.line(&event(data))).unwrap()
    }

    #[test]
    fn a_line_for_people_is_id_type_and_data() {
        for (data, shown) in [
            (r#"{"n": 1.10}"#, r#"{"n": 1.10}"#),
            ("{\n  \"n\":\t1,\r\n  \"s\": \"a  b\"\n}", r#"{ "n": 1, "s": "a  b" }"#),
            ("first\nsecond", "first\\nsecond"),
            ("grüße 👩‍👩‍👧", "grüße 👩‍👩‍👧"),
        ] {
            assert_eq!(Format::Readable.line(&event(data)), format!("0000abcd-12-3 order.paid {shown}\n"));
        }
    }

    #[test]
    fn a_line_for_programs_is_an_object_whose_data_is_what_was_published() {
        let line = |data| json!({"id": "0000abcd-12-3", "event": "order.paid", "data": data});
        assert_eq!(as_json("{\n \"a\": [1, null]\n}"), line(json!({"a": [1, null]})));
        assert_eq!(as_json("no\tJSON"), line(json!("no\tJSON")));
        assert_eq!(as_json("\"\u{9b}31m\u{202e}\""), line(json!("\u{9b}31m\u{202e}")));
        let exact = r#"{"big": 123456789012345678901234567890, "n": 1.10, "a": 1, "a": 2}"#;
        assert!(Format::Json.line(&event(exact)).contains(exact));
    }

    #[test]
    fn a_topic_is_shown_unless_it_is_default() {
        let event = Event { topic: Some("orders/17".to_owned()), ..event("1") };
        assert_eq!(Format::Readable.line(&event), "0000abcd-12-3 order.paid@orders/17 1\n");
        let object = r#"{"id":"0000abcd-12-3","event":"order.paid","topic":"orders/17","data":1}"#;
        assert_eq!(Format::Json.line(&event), format!("{object}\n"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let line = Format::Readable.line(&event("\u{1b}[2J\u{9b}31m\u{7f}\u{8}\u{202e}\0"));
        assert_eq!(line, "0000abcd-12-3 order.paid \\u001b[2J\\u009b31m\\u007f\\u0008\\u202e\\u0000\n");
    }

    proptest! {
        #[test]
        fn every_event_is_one_line_without_control_characters(data in any::<String>(), text in any::<String>()) {
            for format in [Format::Readable, Format::Json] {
                let line = format.line(&Event { id: text.clone(), topic: Some(text.clone()), ..event(&data) });
                let inside = line.strip_suffix('\n').unwrap();
                prop_assert!(!inside.contains(char::is_control), "{:?}", line);
            }
            prop_assert!(as_json(&data)["data"].is_string() || serde_json::from_str::<Value>(&data).is_ok());
        }

        #[test]
        fn any_json_survives_a_line_for_programs(text in any::<String>(), number in any::<i64>()) {
            let value = json!({ &text: [number, &text], "nested": { "deeper": text } });
            for data in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(&as_json(&data)["data"], &value);
            }
        }
    }
}
