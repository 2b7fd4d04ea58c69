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

/// A whole number within bounds. `expected` describes it and begins with the name of the field.
pub(super) fn whole_number(value: &Value, low: u32, high: u32, expected: &str) -> Result<u32, Problem> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| Problem::bad_request(format!("{expected}, {low} to {high}")))
}

/// The schema of a subject.
pub(super) fn subject_schema(description: &str) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.pattern(Some(SUBJECT_PATTERN)).build()
}
