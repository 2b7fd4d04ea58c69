//! Bodies of requests: JSON or form, of bounded size and time.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpMessage, HttpRequest};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::unknown;
use crate::http::error::Problem;
use crate::limits::LARGEST_BODY;

const FORM_OR_JSON: &str = "application/x-www-form-urlencoded or application/json";

/// Parses a JSON body.
pub(in crate::http) async fn json_body(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    if !is_json(request) {
        return Err(Problem::UnsupportedMediaType("application/json"));
    }
    read_body(request, payload, timeout).await
}

/// Parses a body as form or JSON.
pub(in crate::http) async fn form_or_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
    expected: &'static str,
) -> Result<T, Problem> {
    let json = is_json(request);
    if !json && !is_form(request) {
        return Err(Problem::UnsupportedMediaType(FORM_OR_JSON));
    }
    let body = read_body(request, payload, timeout).await?;
    let parsed = if json { from_json(&body) } else { from_form(&body) };
    parsed.ok_or(Problem::BadRequest(Cow::Borrowed(expected)))
}

/// The members of a JSON object, in their order.
#[derive(Default)]
pub(in crate::http) struct Members(Vec<(String, Value)>);

impl Members {
    /// Whether there are none.
    pub(in crate::http) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a member.
    pub(in crate::http) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// Refuses a member that is not `known`, or a second one of the same name. Ignoring it would
    /// look like granting it. `taken` says what the call takes.
    pub(in crate::http) fn only(&self, known: &[&str], taken: &str) -> Result<(), Problem> {
        let names = || self.0.iter().map(|(name, _)| name.as_str());
        if let Some(name) = names().filter(|name| !known.contains(name)).min() {
            return Err(unknown(name, taken));
        }
        let twice = known.iter().find(|known| names().filter(|name| name == *known).count() > 1);
        twice.map_or(Ok(()), |name| Err(Problem::bad_request(format!("{name} occurs more than once"))))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The members of a body that is a JSON object. Some clients always send a body, of any type; one
/// without fields has no members. A form with a field is refused.
pub(in crate::http) async fn members(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
) -> Result<Members, Problem> {
    let body = read_body(request, payload, timeout).await?;
    let body = body.trim_ascii();
    if body.is_empty() || body == b"null" {
        return Ok(Members::default());
    }
    if is_json(request) || is_object(body) {
        return from_json(body).ok_or(Problem::bad_request("the body is not a JSON object"));
    }
    if !is_form(request) {
        return Err(Problem::UnsupportedMediaType("application/json"));
    }
    let fields: Option<Vec<(String, IgnoredAny)>> = from_form(body);
    let fields = fields.ok_or(Problem::bad_request("the body is neither a JSON object nor an empty form"))?;
    fields.first().map_or(Ok(Members::default()), |(name, _)| {
        Err(unknown(name, "this call takes fields in a JSON object only"))
    })
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    is_object(body).then(|| serde_json::from_slice(body).ok())?
}

fn from_form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_urlencoded::from_bytes(body).ok()
}

/// Whether a JSON text is an object. The deserialiser would also accept a list as the members in
/// order.
pub(in crate::http) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

/// Media types are case-insensitive (RFC 9110 §8.3.1).
fn is_json(request: &HttpRequest) -> bool {
    let content_type = request.content_type().to_ascii_lowercase();
    content_type == "application/json" || content_type.ends_with("+json")
}

pub(in crate::http) fn is_form(request: &HttpRequest) -> bool {
    let content_type = request.content_type();
    content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads a body up to the bound.
pub(in crate::http) async fn read_body(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let declared =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > LARGEST_BODY) {
        return Err(Problem::BodyTooLarge);
    }
    match tokio::time::timeout(timeout, payload.to_bytes_limited(LARGEST_BODY)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(_))) => {
            Err(Problem::bad_request("the request body broke off or is not encoded as announced"))
        }
        Ok(Err(_)) => Err(Problem::BodyTooLarge),
        Err(_) => Err(Problem::BodyTimeout),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Like the bodies of revocation and introspection.
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Parameter {
        token: Option<String>,
        token_id: Option<String>,
    }

    proptest! {
        #[test]
        fn a_parameter_survives_both_encodings(token: Option<String>, token_id: Option<String>) {
            let parameter = Parameter { token, token_id };
            let form = serde_urlencoded::to_string(&parameter).unwrap();
            prop_assert_eq!(from_form(form.as_bytes()), Some(parameter.clone()));
            let json = serde_json::to_vec(&parameter).unwrap();
            prop_assert_eq!(from_json(&json), Some(parameter));
        }

        #[test]
        fn no_body_makes_a_parameter_panic_and_only_objects_are_read_as_json(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            text in r#"[\[\]{}",:=&%+a-f0-9\\ ]{0,60}|\{"token(_id)?": ?[\[{"a-z0-9,:\\]{0,20}\}?"#,
        ) {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let _ = from_form::<Parameter>(body);
                if from_json::<Parameter>(body).is_some() {
                    let ends = (body.trim_ascii().first(), body.trim_ascii().last());
                    prop_assert_eq!(ends, (Some(&b'{'), Some(&b'}')));
                }
            }
        }
    }
}
