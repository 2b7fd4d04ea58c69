//! The body of a request for a token: the fields that give it a grant.

use std::time::Duration;

use serde_json::{Value, json};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ArrayBuilder, KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use super::error::Problem;
use super::extract::Members;
use super::fields::{SUBJECT, subject, subject_schema, whole_number};
use crate::clock::UnixMillis;
use crate::limits::LONGEST_LIFE_SECONDS;
use crate::service::IssueRequest;
use crate::topic::{LONGEST_TOPIC, MOST_TOPICS, Patterns};

const TOPICS: &str = "topics";
const EXPIRES_IN: &str = "expires_in";
const STREAM_UNTIL: &str = "stream_until";
const SINGLE_USE: &str = "single_use";
/// The field whose behaviour is not built yet. Ignoring it would open more than was asked for.
const NOT_BUILT_YET: &str = "resource";
/// Patterns of topics, as a regular expression of the document.
const PATTERN: &str = r"^(\*|\$?[A-Za-z0-9._~:@%-]+(/[A-Za-z0-9._~:@%-]+){0,7}|\$?[A-Za-z0-9._~:@%-]+(/[A-Za-z0-9._~:@%-]+){0,6}/\*)$";

/// Fields of a new token. Any of them gives it a grant.
pub(super) struct IssueBody;

impl PartialSchema for IssueBody {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
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
        let stream_until = text()
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("The latest end of the streams of the token, for example with the session of the user: RFC 3339, in the future. The token opens nothing from then on"));
        let single_use = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .description(Some("Whether the token opens one stream only"));
        ObjectBuilder::new()
            .description(Some(
                "Fields of a new token. Any of them gives it a grant, which limits what it opens.",
            ))
            .property(
                SUBJECT,
                subject_schema("End user whom the token is for: 1 to 128 visible ASCII characters"),
            )
            .property(TOPICS, topics)
            .property(EXPIRES_IN, expires_in)
            .property(STREAM_UNTIL, stream_until)
            .property(SINGLE_USE, single_use)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .examples([json!({ "subject": "user-7", "topics": ["users/7/*", "news"], "expires_in": 60 })])
            .into()
    }
}

impl ToSchema for IssueBody {}

/// Reads the fields. A body without any asks for a plain token; one without topics asks for those
/// `by_default`. `null` is no value: a backend whose
/// user is missing must not get a token that is for nobody.
pub(super) fn parse(
    members: &Members,
    by_default: &Patterns,
    now: UnixMillis,
) -> Result<Option<IssueRequest>, Problem> {
    const TAKEN: &str = "this call takes the fields subject, topics, expires_in, stream_until and single_use";
    if members.is_empty() {
        return Ok(None);
    }
    members.only(&[SUBJECT, TOPICS, EXPIRES_IN, STREAM_UNTIL, SINGLE_USE, NOT_BUILT_YET], TAKEN)?;
    if members.get(NOT_BUILT_YET).is_some() {
        return Err(Problem::bad_request("resource is not supported by this release yet"));
    }
    Ok(Some(IssueRequest {
        subject: subject(members)?,
        topics: members.get(TOPICS).map(topics).transpose()?.unwrap_or_else(|| by_default.clone()),
        expires_in: members.get(EXPIRES_IN).map(expires_in).transpose()?,
        stream_until: members.get(STREAM_UNTIL).map(|value| stream_until(value, now)).transpose()?,
        single_use: members.get(SINGLE_USE).map(single_use).transpose()?.unwrap_or_default(),
        not_after: None,
    }))
}

fn topics(value: &Value) -> Result<Patterns, Problem> {
    let texts: Option<Vec<_>> = value.as_array().and_then(|items| items.iter().map(Value::as_str).collect());
    let texts = texts.ok_or(Problem::bad_request("topics has to be a list of texts"))?;
    Patterns::new(texts).map_err(|error| Problem::bad_request(format!("topics: {error}")))
}

fn expires_in(value: &Value) -> Result<Duration, Problem> {
    let expected = "expires_in has to be a whole number of seconds";
    let seconds = whole_number(value, 1, LONGEST_LIFE_SECONDS, expected)?;
    Ok(Duration::from_secs(seconds.into()))
}

fn stream_until(value: &Value, now: UnixMillis) -> Result<UnixMillis, Problem> {
    let moment = value.as_str().and_then(UnixMillis::parse_rfc3339);
    moment.filter(|moment| *moment > now).ok_or(Problem::bad_request(
        "stream_until has to be a moment in the future in RFC 3339, such as 2027-01-31T18:00:00Z",
    ))
}

fn single_use(value: &Value) -> Result<bool, Problem> {
    value.as_bool().ok_or(Problem::bad_request("single_use has to be true or false"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::Subject;

    /// 2026-01-03T20:00:00.123Z.
    const NOW: UnixMillis = UnixMillis(1_767_470_400_123);

    fn parsed(body: &str) -> Result<Option<IssueRequest>, Problem> {
        parse(&serde_json::from_str(body).unwrap(), &Patterns::default(), NOW)
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
        assert!(request.stream_until.is_none() && !request.single_use);
        let request = parsed(r#"{"stream_until": "2026-01-03T21:00:00.124+01:00"}"#).unwrap().unwrap();
        assert_eq!(request.stream_until, Some(UnixMillis(NOW.0 + 1)));
        for single_use in [true, false] {
            let body = json!({ "single_use": single_use }).to_string();
            assert_eq!(parsed(&body).unwrap().unwrap().single_use, single_use);
        }
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
            json!({ "stream_until": null }),
            json!({ "stream_until": "2026-01-03T20:00:00.123Z" }),
            json!({ "stream_until": "2025-12-31T23:59:59Z" }),
            json!({ "stream_until": "xylophone" }),
            json!({ "stream_until": 1_900_000_000 }),
            json!({ "single_use": null }),
            json!({ "single_use": 1 }),
            json!({ "single_use": "xylophone" }),
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
        let (code, detail) = refused(r#"{"subject": "user-7", "resource": "/a"}"#);
        assert_eq!((code, detail.as_str()), ("bad_request", "resource is not supported by this release yet"));
    }

    #[test]
    fn a_field_that_occurs_twice_is_refused() {
        let (code, detail) = refused(r#"{"topics": ["a"], "subject": "user-7", "topics": ["b"]}"#);
        assert_eq!((code, detail.as_str()), ("bad_request", "topics occurs more than once"));
    }

    proptest! {
        #[test]
        fn no_object_makes_parsing_panic(
            name in "(subject|topics|expires_in|stream_until|single_use|[a-z]{0,3})",
            value in r#"(null|true|-?[0-9]{1,20}(\.5)?|"[ -!#-\[\]-~]{0,20}"|\[("[a-z/*]{0,5}"(,"[a-z/*]{0,5}"){0,3})?\]|\{\})"#,
        ) {
            if let Ok(members) = serde_json::from_str(&format!(r#"{{"{name}": {value}}}"#)) {
                let _ = parse(&members, &Patterns::default(), NOW);
            }
        }
    }
}
