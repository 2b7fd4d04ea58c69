//! The open streams of all instances: listing and ending them.

use std::sync::Arc;

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{Object, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::AppState;
use super::effects::begin;
use super::error::{Problem, ProblemBody};
use super::extract::{Members, members, only_parameters, principal, query_values};
use super::fields::{SUBJECT, parse_subject, subject_schema};
use super::problem_docs::{Controlling, NeedsPrincipal, Proxied};
use super::tokens::{json, json_text};
use crate::audit::{Act, Begun, Effect, Named};
use crate::control::heavy::{self, MANY_STREAMS};
use crate::control::{Ended, ListedStream, Listing};
use crate::events::{Selector, StreamFilter, StreamId};
use crate::principal::PrincipalId;
use crate::store::{RevocationScope, StoreError};
use crate::token::TokenId;
use crate::topic::{LONGEST_TOPIC, Topics};

const TOKEN_ID: &str = "token_id";
const STREAM_ID: &str = "stream_id";
const PRINCIPAL: &str = "principal";
const TOPIC: &str = "topic";
const INSTANCE: &str = "instance";
const LIMIT: &str = "limit";
/// Fields that select streams to end.
const SELECTORS: [&str; 5] = [SUBJECT, TOKEN_ID, STREAM_ID, PRINCIPAL, TOPIC];
/// Number of streams in a list that names no limit.
const DEFAULT_LIMIT: usize = 100;
/// Most streams in a list.
const HIGHEST_LIMIT: usize = 10_000;
/// A topic's name, as a regular expression of the document.
const TOPIC_PATTERN: &str = r"^\$?[A-Za-z0-9._~:@%-]+(/[A-Za-z0-9._~:@%-]+){0,7}$";
const ID_PATTERN: &str = "^[0-9a-f]{16}$";
const NAME_PATTERN: &str = "^[A-Za-z0-9._-]{1,64}$";

/// The open streams of all instances.
#[derive(Serialize, ToSchema)]
pub(super) struct StreamsBody {
    /// The streams, the oldest first.
    streams: Vec<StreamBody>,
    /// Instances that did not answer within a second; their streams are not in the list.
    missing: Vec<String>,
    /// `true` if more streams match than the limit allows; otherwise absent.
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
}

/// An open stream.
#[derive(Serialize, ToSchema)]
pub(super) struct StreamBody {
    /// Id of the stream; not secret.
    #[schema(pattern = "^[0-9a-f]{16}$", example = "9b1f0c3a5d7e2f48")]
    stream_id: String,
    /// Id of the token that opened it; absent if a principal's credential did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{16}$", example = "3f9a1c0b5d7e2f48")]
    token_id: Option<String>,
    /// The end user whom the token is for; absent if it is for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "user-7")]
    subject: Option<String>,
    /// The topics that it delivers.
    #[schema(example = json!(["users/7/*", "news"]))]
    topics: Vec<String>,
    /// The principal that opened it, or to which its token was issued.
    #[schema(example = "shop-backend")]
    principal: String,
    /// Its instance.
    #[schema(example = "1")]
    instance_id: String,
    /// Time of opening, RFC 3339, by the clock of its instance.
    #[schema(format = DateTime, example = "2026-01-01T00:00:00.000Z")]
    opened_at: String,
}

impl From<ListedStream> for StreamBody {
    fn from(ListedStream { stream, instance_id }: ListedStream) -> Self {
        Self {
            stream_id: stream.stream_id.to_string(),
            token_id: stream.token_id.map(|id| id.to_string()),
            subject: stream.subject.map(|subject| subject.as_str().to_owned()),
            topics: stream.topics.iter().map(ToString::to_string).collect(),
            principal: stream.principal.to_string(),
            instance_id,
            opened_at: stream.opened_at.rfc3339(),
        }
    }
}

impl From<Listing> for StreamsBody {
    fn from(Listing { streams, missing, more }: Listing) -> Self {
        Self { streams: streams.into_iter().map(StreamBody::from).collect(), missing, more }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The streams to end, by exactly one field.
pub(super) struct EndBody;

impl PartialSchema for EndBody {
    fn schema() -> RefOr<Schema> {
        let subject = subject_schema("The streams of the tokens of this end user");
        let token_id = text("The streams that the token with this id opened", ID_PATTERN);
        let stream_id = text("The stream with this id", ID_PATTERN);
        let principal = text("The streams of this principal, and of tokens issued to it", NAME_PATTERN);
        let topic = ObjectBuilder::from(text("The streams that deliver this topic, a name", TOPIC_PATTERN));
        ObjectBuilder::new()
            .description(Some("The streams to end, by exactly one field."))
            .property(SUBJECT, subject)
            .property(TOKEN_ID, token_id)
            .property(STREAM_ID, stream_id)
            .property(PRINCIPAL, principal)
            .property(TOPIC, topic.max_length(Some(LONGEST_TOPIC)))
            .min_properties(Some(1))
            .max_properties(Some(1))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .examples([json!({ "subject": "user-7" })])
            .into()
    }
}

impl ToSchema for EndBody {}

fn text(description: &str, pattern: &str) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.pattern(Some(pattern)).build()
}

/// Number of streams that have ended, and the scope of the order.
#[derive(Serialize, ToSchema)]
pub(super) struct EndedBody {
    /// Number of streams that have ended, on the instances that answered.
    ended: u64,
    /// `cluster`, or `instance` while Redis is unavailable.
    effective: RevocationScope,
    /// Instances that did not answer within a second; their streams end when they read the order.
    missing: Vec<String>,
}

/// List the open streams of all instances.
///
/// Several parameters select the streams that match all of them.
#[utoipa::path(
    get, path = "/operator/api/streams", operation_id = "list_streams", tag = "control", security(("principal" = []), ("bearer" = [])),
    params(
        ("subject" = Option<String>, Query, description = "Streams of the tokens of this end user", pattern = "^[!-~]{1,128}$"),
        ("topic" = Option<String>, Query, description = "Streams that deliver this topic, a name", pattern = r"^\$?[A-Za-z0-9._~:@%-]+(/[A-Za-z0-9._~:@%-]+){0,7}$", max_length = 128),
        ("principal" = Option<String>, Query, description = "Streams of this principal, and of tokens issued to it", pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("instance" = Option<String>, Query, description = "Streams of this instance", pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("limit" = Option<u32>, Query, description = "Most streams in the list; by default 100", minimum = 1, maximum = 10_000),
    ),
    responses(
        (status = 200, description = "The streams; those of an instance in `missing` are not among them", body = StreamsBody),
        NeedsPrincipal, Proxied,
        (status = 400, description = "An unknown query parameter (unknown_parameter), a bad value (bad_request), or credentials that disagree (credentials_conflict)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests or failures of this client, or as many lists as this instance makes at once; wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, Problem> {
    principal(&request, &state)?;
    only_parameters(&request, &[SUBJECT, TOPIC, PRINCIPAL, INSTANCE, LIMIT])?;
    let parameter = |name| parameter(&request, name);
    let filter = StreamFilter {
        subject: parameter(SUBJECT)?.map(|text| parse_subject(Some(&text))).transpose()?,
        topic: parameter(TOPIC)?.map(|text| parse_topic(Some(&text))).transpose()?,
        principal: parameter(PRINCIPAL)?.map(|text| parse_name(PRINCIPAL, Some(&text))).transpose()?,
    };
    let instance = parameter(INSTANCE)?.map(|text| parse_name(INSTANCE, Some(&text))).transpose()?;
    let instance = instance.map(|name| name.as_str().to_owned());
    let limit = parameter(LIMIT)?.map_or(Ok(DEFAULT_LIMIT), |text| parse_limit(&text))?;
    let control = Arc::clone(&state.control);
    // To its end, also if the client leaves: it counts as one of those made at once until then, and
    // removes the answers in Redis.
    let listing = async move { control.list(filter, instance, limit).await };
    let listing = state.effects.run(listing).await??;
    let is_heavy = listing.streams.len() > MANY_STREAMS;
    let text = heavy::run(is_heavy, move || serde_json::to_vec(&StreamsBody::from(listing))).await;
    Ok(json_text(text))
}

/// End open streams on all instances.
///
/// A stream that a valid token has opened may be opened again with it: revoke the token, or revoke
/// or block the subject, to prevent that.
#[utoipa::path(
    post, path = "/operator/api/streams/end", operation_id = "end_streams", tag = "control", security(("principal" = []), ("bearer" = [])),
    request_body = EndBody,
    responses((status = 200, description = "The streams have ended, if there were any", body = EndedBody), Controlling)
)]
pub(super) async fn end(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let principal = principal(&request, &state)?;
    only_parameters(&request, &[])?;
    let members = members(&request, payload, state.body_timeout).await?;
    let selector = parse(&members)?;
    let (by, selected) = (field_of(&selector), shown(&selector));
    let effect = begin(&request, &state, principal.id(), Begun::EndStreams { by, selected });
    let effect = effect.map(|effect| effect.about(named(&state, &selector)));
    let ending = end_and_note(state.clone(), selector, principal.id().clone(), effect);
    let Ended { ended, effective, missing } = state.effects.run(ending).await??;
    Ok(json(&EndedBody { ended, effective, missing }))
}

/// Ends streams, and logs and audits that.
async fn end_and_note(
    state: Data<AppState>,
    selector: Selector,
    principal: PrincipalId,
    effect: Option<Effect>,
) -> Result<Ended, StoreError> {
    let (by, selected) = (field_of(&selector), shown(&selector));
    let selected = selected.as_deref();
    let subject = if let Selector::Subject(subject) = &selector { Some(state.shown(subject)) } else { None };
    let outcome = state.control.end(selector).await;
    let ended = outcome.as_ref().ok().map(|outcome| outcome.ended);
    let effective = outcome.as_ref().map_or("failed", |outcome| outcome.effective.as_str());
    // Without the topic, which may name a user.
    tracing::info!(%principal, by, selected, subject, ended, effective, "streams ended by an order");
    if let Some(effect) = effect {
        let principal = principal.as_str();
        effect.ended(Act::EndStreams { by, selected, principal, ended, effective });
    }
    outcome
}

/// Name of the field that selects these streams.
const fn field_of(selector: &Selector) -> &'static str {
    match selector {
        Selector::Subject(_) => SUBJECT,
        Selector::Token(_) => TOKEN_ID,
        Selector::Stream(_) => STREAM_ID,
        Selector::Principal(_) => PRINCIPAL,
        Selector::Topic(_) => TOPIC,
    }
}

/// Value of the field, unless it is a subject or a topic, which may name a user.
fn shown(selector: &Selector) -> Option<String> {
    match selector {
        Selector::Token(id) => Some(id.to_string()),
        Selector::Stream(id) => Some(id.to_string()),
        Selector::Principal(principal) => Some(principal.to_string()),
        Selector::Subject(_) | Selector::Topic(_) => None,
    }
}

/// Subject and topic of the order in the audit trail.
fn named(state: &AppState, selector: &Selector) -> Named {
    match selector {
        Selector::Subject(subject) => Named { subject: Some(state.shown(subject)), ..Named::default() },
        Selector::Topic(topic) => {
            let topic_names = state.log_subjects.then(|| topic.clone());
            Named { subject: None, topics: Some(1), topic_names }
        }
        Selector::Token(_) | Selector::Stream(_) | Selector::Principal(_) => Named::default(),
    }
}

fn parse(members: &Members) -> Result<Selector, Problem> {
    const ONE: &str = "name the streams by exactly one of subject, token_id, stream_id, principal and topic";
    members.only(
        &SELECTORS,
        "this call takes one of the fields subject, token_id, stream_id, principal and topic",
    )?;
    let mut given = SELECTORS.into_iter().filter_map(|name| Some((name, members.get(name)?)));
    let (name, value) = given.next().ok_or(Problem::bad_request(ONE))?;
    if let Some((other, _)) = given.next() {
        return Err(Problem::bad_request(format!("{name} and {other} are not taken together; {ONE}")));
    }
    let text = value.as_str();
    match name {
        TOKEN_ID => {
            let id = text.and_then(|text| TokenId::parse(text).ok());
            id.map(Selector::Token).ok_or_else(|| not_an_id(name))
        }
        STREAM_ID => text.and_then(StreamId::parse).map(Selector::Stream).ok_or_else(|| not_an_id(name)),
        PRINCIPAL => parse_name(name, text).map(Selector::Principal),
        TOPIC => parse_topic(text).map(Selector::Topic),
        _ => parse_subject(text).map(Selector::Subject),
    }
}

fn not_an_id(name: &str) -> Problem {
    Problem::bad_request(format!("{name} has to be a text of 16 hexadecimal characters in lower case"))
}

/// Checks the form of a name: that of a principal, and of an instance, which has the same.
fn parse_name(name: &str, text: Option<&str>) -> Result<PrincipalId, Problem> {
    text.and_then(PrincipalId::parse).ok_or_else(|| {
        Problem::bad_request(format!("{name} has to be a text of 1 to 64 characters of A-Z a-z 0-9 . _ -"))
    })
}

/// Checks that a text is the name of one topic.
fn parse_topic(text: Option<&str>) -> Result<String, Problem> {
    let text = text.ok_or(Problem::bad_request("topic has to be a text"))?;
    let topics = Topics::new([text]).map_err(|error| Problem::bad_request(format!("topic: {error}")))?;
    Ok(topics.as_str().to_owned())
}

fn parse_limit(text: &str) -> Result<usize, Problem> {
    let limit = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let limit = limit.and_then(|text| text.parse().ok());
    limit.filter(|limit| (1..=HIGHEST_LIMIT).contains(limit)).ok_or_else(|| {
        Problem::bad_request(format!("limit has to be a whole number of streams, 1 to {HIGHEST_LIMIT}"))
    })
}

/// The value of a query parameter, which may occur once.
fn parameter(request: &HttpRequest, name: &'static str) -> Result<Option<String>, Problem> {
    let mut values = query_values(request, name);
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Problem::bad_request(format!("{name} occurs more than once"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::Subject;

    const ID: &str = "0123456789abcdef";

    fn parsed(body: &str) -> Result<Selector, Problem> {
        parse(&serde_json::from_str(body).unwrap())
    }

    #[test]
    fn each_field_selects_streams_and_is_named_by_its_selector() {
        let topic = "users/7".to_owned();
        for (name, value, selector) in [
            (SUBJECT, "user-7", Subject::parse("user-7").map(Selector::Subject)),
            (TOKEN_ID, ID, TokenId::parse(ID).ok().map(Selector::Token)),
            (STREAM_ID, ID, StreamId::parse(ID).map(Selector::Stream)),
            (PRINCIPAL, "shop", PrincipalId::parse("shop").map(Selector::Principal)),
            (TOPIC, "users/7", Some(Selector::Topic(topic))),
            (TOPIC, "$streams/opened", Some(Selector::Topic("$streams/opened".to_owned()))),
        ] {
            let selected = parsed(&json!({ name: value }).to_string()).unwrap();
            assert_eq!(Some(&selected), selector.as_ref(), "{name}");
            assert_eq!(field_of(&selected), name);
            let may_name_a_user = [SUBJECT, TOPIC].contains(&name);
            assert_eq!(shown(&selected).as_deref(), (!may_name_a_user).then_some(value), "{name}");
        }
    }

    #[test]
    fn a_limit_is_a_number_of_digits_within_its_bounds() {
        for (text, limit) in [("1", 1), ("100", 100), ("0100", 100), ("10000", 10_000)] {
            assert_eq!(parse_limit(text).ok(), Some(limit), "{text}");
        }
        for text in ["", "0", "10001", "+1", "-1", "1.0", "1e3", " 1", "x", "99999999999999999999999"] {
            assert_eq!(parse_limit(text).unwrap_err().code(), "bad_request", "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_object_makes_parsing_panic(
            name in "(subject|token_id|stream_id|principal|topic|[a-z]{0,3})",
            value in r#"(null|true|-?[0-9]{1,20}(\.5)?|"[ -!#-\[\]-~]{0,20}"|\["a"\]|\{\})"#,
        ) {
            if let Ok(members) = serde_json::from_str(&format!(r#"{{"{name}": {value}}}"#)) {
                let _ = parse(&members);
            }
        }
    }
}
