//! The body of a request for a token: the fields that give it a grant.

use std::time::Duration;

use serde_json::{Value, json};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::error::Problem;
use super::extract::Members;
use crate::limits::LONGEST_LIFE_SECONDS;
use crate::service::IssueRequest;
use crate::token::Subject;
use crate::topic::{LONGEST_TOPIC, MOST_TOPICS, Patterns};

const SUBJECT: &str = "subject";
const TOPICS: &str = "topics";
const EXPIRES_IN: &str = "expires_in";
/// Fields whose behaviour is not built yet. Ignoring one would open more than was asked for.
const NOT_BUILT_YET: [&str; 3] = ["stream_until", "single_use", "resource"];
/// Patterns of topics, as a regular expression of the document.
const PATTERN: &str = r"^(\*|\$?[A-Za-z0-9._~:@%-]+(/[A-Za-z0-9._~:@%-]+){0,7}|\$?[A-Za-z0-9._~:@%-]+(/[A-Za-z0-9._~:@%-]+){0,6}/\*)$";

/// Fields of a new token. Any of them gives it a grant.
pub(super) struct IssueBody;

impl PartialSchema for IssueBody {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let subject = text()
            .description(Some("End user whom the token is for: 1 to 128 visible ASCII characters"))
            .pattern(Some("^[!-~]{1,128}$"));
        let pattern = text().pattern(Some(PATTERN)).max_length(Some(LONGEST_TOPIC));
        let topics = ArrayBuilder::new()
            .items(pattern)
            .min_items(Some(1))
            .max_items(Some(MOST_TOPICS))
            .unique_items(true)
            .description(Some("Topics that the token may read: names, prefixes such as `orders/*`, or `*`. By default `default`"));
        let expires_in = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .description(Some("Lifetime in seconds. By default that of the configuration"))
            .minimum(Some(1_u32))
            .maximum(Some(LONGEST_LIFE_SECONDS));
        ObjectBuilder::new()
            .description(Some(
                "Fields of a new token. Any of them gives it a grant, which limits what it opens.",
            ))
            .property(SUBJECT, subject)
            .property(TOPICS, topics)
            .property(EXPIRES_IN, expires_in)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .examples([json!({ "subject": "user-7", "topics": ["users/7/*", "news"], "expires_in": 60 })])
            .into()
    }
}

impl ToSchema for IssueBody {}

/// Reads the fields. A body without any asks for a plain token. `null` is no value: a backend whose
/// user is missing must not get a token that is for nobody.
pub(super) fn parse(members: &Members) -> Result<Option<IssueRequest>, Problem> {
    if members.is_empty() {
        return Ok(None);
    }
    let known = [[SUBJECT, TOPICS, EXPIRES_IN], NOT_BUILT_YET].concat();
    members.only(&known, "this call takes the fields subject, topics and expires_in")?;
    if let Some(field) = NOT_BUILT_YET.iter().find(|field| members.get(field).is_some()) {
        return Err(Problem::bad_request(format!("{field} is not supported by this release yet")));
    }
    Ok(Some(IssueRequest {
        subject: members.get(SUBJECT).map(subject).transpose()?,
        topics: members.get(TOPICS).map(topics).transpose()?.unwrap_or_default(),
        expires_in: members.get(EXPIRES_IN).map(expires_in).transpose()?,
    }))
}

fn subject(value: &Value) -> Result<Subject, Problem> {
    let subject = value.as_str().and_then(Subject::parse);
    subject.ok_or(Problem::bad_request("subject has to be a text of 1 to 128 visible ASCII characters"))
}

fn topics(value: &Value) -> Result<Patterns, Problem> {
    let texts: Option<Vec<_>> = value.as_array().and_then(|items| items.iter().map(Value::as_str).collect());
    let texts = texts.ok_or(Problem::bad_request("topics has to be a list of texts"))?;
    Patterns::new(texts).map_err(|error| Problem::bad_request(format!("topics: {error}")))
}

fn expires_in(value: &Value) -> Result<Duration, Problem> {
    let seconds = value.as_u64().filter(|seconds| (1..=u64::from(LONGEST_LIFE_SECONDS)).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let expected = format!("expires_in has to be a whole number of seconds, 1 to {LONGEST_LIFE_SECONDS}");
        Problem::bad_request(expected)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(body: &str) -> Result<Option<IssueRequest>, Problem> {
        parse(&serde_json::from_str(body).unwrap())
    }

    fn refused(body: &str) -> (&'static str, String) {
        let problem = parsed(body).unwrap_err();
        (problem.code(), problem.to_string())
    }

    #[test]
    fn no_field_asks_for_a_plain_token_and_any_field_for_a_grant() {
        assert!(parsed("{}").unwrap().is_none());
        let request = parsed(r#"{"subject": "user-7"}"#).unwrap().unwrap();
        assert_eq!(request.subject.as_ref().map(Subject::as_str), Some("user-7"));
        assert!(request.topics.is_default() && request.expires_in.is_none());
        let request = parsed(r#"{"topics": ["orders/*", "*"]}"#).unwrap().unwrap();
        assert_eq!(request.topics, Patterns::new(["orders/*", "*"]).unwrap());
        assert!(request.subject.is_none());
        let request = parsed(r#"{"expires_in": 900}"#).unwrap().unwrap();
        assert_eq!(request.expires_in, Some(Duration::from_mins(15)));
    }

    #[test]
    fn a_bad_value_is_refused_by_the_name_of_its_field_and_not_repeated() {
        let seventeen: Vec<_> = (0..17).map(|n| format!("xylophone{n}")).collect();
        let bodies = [
            json!({ "subject": null }),
            json!({ "subject": "" }),
            json!({ "subject": "xylo phone" }),
            json!({ "subject": "x".repeat(129) }),
            json!({ "subject": ["xylophone"] }),
            json!({ "topics": null }),
            json!({ "topics": "xylophone" }),
            json!({ "topics": [] }),
            json!({ "topics": ["xylophone", null] }),
            json!({ "topics": ["xylophone", "xylophone"] }),
            json!({ "topics": ["xylophone/"] }),
            json!({ "topics": seventeen }),
            json!({ "expires_in": null }),
            json!({ "expires_in": 0 }),
            json!({ "expires_in": 901 }),
            json!({ "expires_in": -1 }),
            json!({ "expires_in": 1.5 }),
            json!({ "expires_in": "60" }),
        ];
        for body in bodies {
            let name = body.as_object().unwrap().keys().next().unwrap();
            let (code, detail) = refused(&body.to_string());
            assert_eq!(code, "bad_request", "{body}");
            assert!(detail.starts_with(name.as_str()) && !detail.contains("xylo"), "{body}: {detail}");
        }
    }

    #[test]
    fn a_field_whose_behaviour_is_not_built_yet_is_refused() {
        for (name, value) in [
            ("stream_until", json!("2026-01-01T00:00:00Z")),
            ("single_use", json!(false)),
            ("resource", json!("/a")),
        ] {
            let (code, detail) = refused(&json!({ "subject": "user-7", name: value }).to_string());
            assert_eq!(
                (code, detail),
                ("bad_request", format!("{name} is not supported by this release yet"))
            );
        }
    }

    #[test]
    fn a_field_that_occurs_twice_is_refused() {
        let (code, detail) = refused(r#"{"topics": ["a"], "subject": "user-7", "topics": ["b"]}"#);
        assert_eq!((code, detail.as_str()), ("bad_request", "topics occurs more than once"));
    }

    proptest! {
        #[test]
        fn no_object_makes_parsing_panic(
            name in "(subject|topics|expires_in|single_use|[a-z]{0,3})",
            value in r#"(null|true|-?[0-9]{1,20}(\.5)?|"[ -!#-\[\]-~]{0,20}"|\[("[a-z/*]{0,5}"(,"[a-z/*]{0,5}"){0,3})?\]|\{\})"#,
        ) {
            if let Ok(members) = serde_json::from_str(&format!(r#"{{"{name}": {value}}}"#)) {
                let _ = parse(&members);
            }
        }
    }
}
