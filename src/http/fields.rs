//! Fields that several calls take. `null` is no value, and no error repeats a value.

use serde_json::Value;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::error::Problem;
use super::extract::Members;
use crate::token::Subject;

/// Name of the field, and of the query parameter, of a subject.
pub(super) const SUBJECT: &str = "subject";
/// Subjects, as a regular expression of the document.
pub(super) const SUBJECT_PATTERN: &str = "^[!-~]{1,128}$";

/// The subject among the members of a body.
pub(super) fn subject(members: &Members) -> Result<Option<Subject>, Problem> {
    members.get(SUBJECT).map(|value| parse_subject(value.as_str())).transpose()
}

/// Checks the form of a subject; `None` is a value that is no text.
pub(super) fn parse_subject(text: Option<&str>) -> Result<Subject, Problem> {
    text.and_then(Subject::parse)
        .ok_or(Problem::bad_request("subject has to be a text of 1 to 128 visible ASCII characters"))
}

/// A whole number within bounds, also if it is written as 60.0: that is an integer of JSON Schema.
/// `expected` describes it and begins with the name of the field.
pub(super) fn whole_number(value: &Value, low: u32, high: u32, expected: &str) -> Result<u32, Problem> {
    let number = value.as_f64().filter(|number| number.fract() == 0.0);
    let number = number.filter(|number| (low.into()..=high.into()).contains(number));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds")]
    let number = number.map(|number| number as u32);
    number.ok_or_else(|| Problem::bad_request(format!("{expected}, {low} to {high}")))
}

/// The schema of a subject.
pub(super) fn subject_schema(description: &str) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.pattern(Some(SUBJECT_PATTERN)).build()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_is_read_in_each_way_of_writing_it() {
        let read = |text: &str| whole_number(&serde_json::from_str(text).unwrap(), 1, 900, "n").ok();
        for (text, number) in [("1", 1), ("60", 60), ("60.0", 60), ("6e1", 60), ("900.000", 900)] {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in
            ["0", "-1", "-0.0", "901", "900.5", "1e3", "1e300", "18446744073709551616", "\"60\"", "null"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        let problem = whole_number(&json!([60]), 1, 900, "seconds has to be a whole number").unwrap_err();
        assert_eq!(problem.to_string(), "seconds has to be a whole number, 1 to 900");
    }
}
