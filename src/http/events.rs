//! Publishing of events.

use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Type};

use super::AppState;
use super::effects::{begin, run_noted};
use super::error::{Problem, ProblemBody};
use super::extract::{is_object, json_body, only_parameters, principal};
use super::permission::{may_publish, not_permitted};
use super::problem_docs::{NeedsPrincipal, Proxied, ReadsBody};
use crate::audit::{Act, Begun, Effect, Named};
use crate::events::{
    EventLog, EventType, KeyDigest, NotAKey, Publication, PublishError, Published, data_bytes,
};
use crate::limits::LONGEST_DATA;
use crate::metrics::{Metrics, RefusedEvent};
use crate::principal::{PrincipalId, Right};
use crate::topic::{LONGEST_TOPIC, MOST_TOPICS, Topics};

/// Request header, draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Response header: the answer is that of an earlier request with the same key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const EXPECTED: &str = r#"expected: {"event": "<type, optional>", "topic": "<topic, optional>", "data": <any JSON>}, nested at most 127 deep"#;
/// Topics that anybody may publish to, as a regular expression of the document.
const TOPIC: &str = "^[A-Za-z0-9._~:@%-]+(/[A-Za-z0-9._~:@%-]+){0,7}$";

/// An event to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "event": "order.paid", "topic": "orders/42", "data": { "order": 42 } }))]
pub(super) struct PublishBody<'a> {
    /// Type of the event, `message` by default. `reset`, `reconnect`, `degraded`, `recovered`,
    /// `open` and `error` are reserved.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9._:/-]{1,64}$")]
    event: Option<String>,
    /// The topic. `null` is none: it would be published to everybody.
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = topic_schema)]
    topic: Option<String>,
    /// Several topics.
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = topics_schema)]
    topics: Option<Vec<String>>,
    /// Any JSON, nested at most 127 deep; subscribers receive it unchanged.
    #[serde(borrow)]
    #[schema(value_type = Value)]
    data: &'a RawValue,
}

/// The value of a field that may be left out, but not be `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn topic_schema() -> ObjectBuilder {
    let topic = ObjectBuilder::new().schema_type(Type::String).pattern(Some(TOPIC));
    let description = "Topic of the event, `default` by default; not together with `topics`";
    topic.max_length(Some(LONGEST_TOPIC)).description(Some(description))
}

fn topics_schema() -> ArrayBuilder {
    let topic = ObjectBuilder::new().schema_type(Type::String).pattern(Some(TOPIC));
    ArrayBuilder::new()
        .items(topic.max_length(Some(LONGEST_TOPIC)))
        .min_items(Some(1))
        .max_items(Some(MOST_TOPICS))
        .unique_items(true)
        .description(Some("Topics of the event. Each stream gets it once"))
}

/// An event that was published.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishedBody {
    /// Id of the event: an opaque text, from which a stream resumes.
    #[schema(example = "9c1f03ad-1735689600000-0")]
    id: String,
}

/// Publish an event to the streams that read its topics.
///
/// With an `Idempotency-Key` the request may be repeated after any outcome. Within 15 minutes, and
/// as far as the log reaches back, the answer is that of the first publish, with
/// `Idempotent-Replayed: true`, and nothing is published twice.
#[utoipa::path(
    post, path = "/operator/api/events", tag = "events", security(("principal" = []), ("bearer" = [])),
    params((
        "Idempotency-Key" = Option<String>, Header, description = "1 to 128 visible ASCII characters; each principal has separate keys",
        pattern = "^[!-~]{1,128}$", min_length = 1, max_length = 128,
    )),
    request_body = PublishBody,
    responses(
        (status = 202, description = "The event is published; it is as durable as the event log of the deployment", body = PublishedBody, headers(
            ("Idempotent-Replayed" = String, description = "`true` if the answer is that of an earlier request with the same key"),
        )),
        NeedsPrincipal, ReadsBody, Proxied,
        (status = 400, description = "The body is not an event, or has a bad topic (bad_request), a query parameter (unknown_parameter), or credentials that disagree (credentials_conflict)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 64 KiB, or the data, with 6 bytes for each line, is larger than 128 KiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The key was used for another event", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The event log is unavailable (log_unavailable), or the outcome is unknown (outcome_unknown); wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "The proxy lost the instance, so the outcome is unknown (outcome_unknown)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "The proxy had no answer in time, so the outcome is unknown (outcome_unknown)", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn publish(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let principal = principal(&request, &state)?;
    only_parameters(&request, &[])?;
    let key = idempotency_key(&request, principal.id())?;
    let body = json_body(&request, payload, state.body_timeout).await?;
    let (event_type, data, topics) = parse(&body)?;
    may_publish(&principal, &topics)
        .map_err(|lack| not_permitted(&request, &state, principal.id(), None, Right::Publish, lack))?;
    let effect = begin(&request, &state, principal.id(), Begun::Publish);
    let effect = effect.map(|effect| effect.about(named(&state, &topics)));
    let publication = Publication::new(event_type, data, topics, key);
    let (event_log, metrics) = (Arc::clone(&state.event_log), Arc::clone(&state.metrics));
    let published = publish_and_note(event_log, metrics, publication, principal.id().clone(), effect);
    let published = run_noted(&state, published).await??;
    let mut response = HttpResponse::Accepted();
    response.insert_header((CACHE_CONTROL, "no-store"));
    if published.repeated {
        response.insert_header((REPLAYED, "true"));
    }
    Ok(response.json(PublishedBody { id: published.id.to_string() }))
}

/// Publishes an event, and counts and audits the outcome.
async fn publish_and_note(
    event_log: Arc<dyn EventLog>,
    metrics: Arc<Metrics>,
    publication: Publication,
    principal: PrincipalId,
    effect: Option<Effect>,
) -> Result<Published, PublishError> {
    let published = event_log.publish(publication).await;
    let outcome = match published {
        Ok(Published { repeated: false, .. }) => Some("published"),
        Ok(Published { repeated: true, .. }) => {
            metrics.events.repeated();
            Some("repeated")
        }
        Err(PublishError::Unknown { .. }) => {
            metrics.events.refused(RefusedEvent::Unknown);
            Some("unknown")
        }
        Err(PublishError::Unavailable { .. }) => {
            metrics.events.refused(RefusedEvent::NotPublished);
            None
        }
        Err(PublishError::KeyReused) => None,
    };
    match (effect, outcome) {
        (Some(effect), Some(outcome)) => {
            let id = published.ok().map(|published| published.id.to_string());
            let principal = principal.as_str();
            effect.ended(Act::Publish { event_id: id.as_deref(), principal, outcome });
        }
        (Some(effect), None) => effect.came_to_nothing(),
        (None, _) => {}
    }
    published
}

/// Topics of an event in the audit trail; nothing for `default` alone.
fn named(state: &AppState, topics: &Topics) -> Named {
    if topics.is_default() {
        return Named::default();
    }
    let topic_names = state.log_subjects.then(|| topics.as_str().to_owned());
    Named { subject: None, topics: Some(topics.iter().count()), topic_names }
}

fn idempotency_key(request: &HttpRequest, principal: &PrincipalId) -> Result<Option<KeyDigest>, Problem> {
    let mut given = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(key) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Problem::bad_request("the request carries more than one Idempotency-Key"));
    }
    let key = key.to_str().map_err(|_| NotAKey).and_then(|key| KeyDigest::of(principal.as_str(), key));
    key.map(Some).map_err(|error| Problem::bad_request(error.to_string()))
}

fn parse(body: &[u8]) -> Result<(EventType, &str, Topics), Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    if !is_object(body) {
        return Err(Problem::bad_request(format!("the body is not a JSON object; {EXPECTED}")));
    }
    let PublishBody { event, topic, topics, data } =
        serde_json::from_str(text).map_err(|error| not_an_event(&error))?;
    // Subscribers must be able to parse the data: numbers, strings and depth are within the limits
    // of common JSON parsers (RFC 7493).
    serde_json::from_str::<serde_json::Value>(data.get()).map_err(|error| not_an_event(&error))?;
    if data_bytes(data.get()) > LONGEST_DATA {
        return Err(Problem::EventTooLarge);
    }
    let event_type = match event {
        Some(event) => EventType::parse(&event).map_err(|error| Problem::bad_request(error.to_string()))?,
        None => EventType::default(),
    };
    Ok((event_type, data.get(), parse_topics(topic.as_deref(), topics)?))
}

fn parse_topics(topic: Option<&str>, topics: Option<Vec<String>>) -> Result<Topics, Problem> {
    let (field, parsed) = match (topic, topics) {
        (None, None) => return Ok(Topics::default()),
        (Some(topic), None) => ("topic", Topics::new([topic])),
        (None, Some(topics)) => ("topics", Topics::new(topics.iter().map(String::as_str))),
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("an event has either topic or topics; send one of them"));
        }
    };
    parsed.map_err(|error| Problem::bad_request(format!("{field}: {error}")))
}

/// Position of the error in the body, without the parser's text, which quotes the body.
fn not_an_event(error: &serde_json::Error) -> Problem {
    let what = if error.is_data() { "the body is not an event" } else { "the body is not JSON" };
    Problem::bad_request(format!("{what} (line {}, column {}); {EXPECTED}", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;

    use async_trait::async_trait;
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::audit::{Asker, Audit, AuditSettings, ClientAddress};
    use crate::clock::SystemClock;

    /// A log with one answer to every publish; `None` never answers.
    struct Bus(Option<Result<Published, PublishError>>);

    #[async_trait]
    impl EventLog for Bus {
        async fn publish(&self, _: Publication) -> Result<Published, PublishError> {
            match self.0 {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    /// Publishes on `event_log` until it waits, drops the request, and returns the audit trail.
    fn audited(file: &Path, event_log: Bus) -> Vec<Value> {
        let metrics = Arc::new(Metrics::new().unwrap());
        let settings = AuditSettings { file: file.to_owned(), client_address: ClientAddress::Full };
        let clock = Arc::new(SystemClock);
        let audit = Audit::open(Some(&settings), "1".to_owned(), clock, &metrics).unwrap();
        let audit = Arc::new(audit);
        let principal = PrincipalId::parse("backend").unwrap();
        let asker = Asker { client: IpAddr::V4(Ipv4Addr::LOCALHOST), request_id: None, user: None };
        let effect = Effect::begin(&audit, Begun::Publish, &principal, asker);
        let publication = Publication::new(EventType::default(), "1", Topics::default(), None);
        let publishing = publish_and_note(Arc::new(event_log), metrics, publication, principal, Some(effect));
        let _ = publishing.now_or_never();
        audit.flush();
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_event_is_noted_exactly_once_and_as_unknown_where_its_publishing_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let id = "00000001-2-3".parse().unwrap();
        let retry_after = std::time::Duration::from_secs(1);
        let cases = [
            (None, Some(json!("unknown"))),
            (Some(Ok(Published { id, repeated: false })), Some(json!("published"))),
            (Some(Ok(Published { id, repeated: true })), Some(json!("repeated"))),
            (Some(Err(PublishError::Unknown { retry_after })), Some(json!("unknown"))),
            (Some(Err(PublishError::Unavailable { retry_after })), None),
            (Some(Err(PublishError::KeyReused)), None),
        ];
        for (n, (answer, outcome)) in cases.into_iter().enumerate() {
            let lines = audited(&folder.path().join(n.to_string()), Bus(answer));
            let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].clone()).collect();
            assert_eq!(outcomes, outcome.into_iter().collect::<Vec<_>>(), "{answer:?}");
            let names = |line: &Value| (line["action"].clone(), line["principal"].clone());
            assert!(
                lines.iter().all(|line| names(line) == (json!("publish"), json!("backend"))),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn data_reaches_subscribers_as_it_was_written() {
        let (event_type, data, _) = parse(br#"{"data": {"b": 1.10, "a": [1e2]}, "event": "x.y"}"#).unwrap();
        assert_eq!((event_type.to_string().as_str(), data), ("x.y", r#"{"b": 1.10, "a": [1e2]}"#));
        let (event_type, data, _) = parse(br#"{"data": null}"#).unwrap();
        assert_eq!((event_type.to_string().as_str(), data), ("message", "null"));
    }

    #[test]
    fn an_event_has_one_topic_or_several_and_default_without_any() {
        let topics =
            |fields: &str| parse(format!(r#"{{{fields}"data": 1}}"#).as_bytes()).map(|parsed| parsed.2);
        for (fields, expected) in [
            ("", "default"),
            (r#""topic": "orders/42", "#, "orders/42"),
            (r#""topics": ["orders/42", "users/7"], "#, "orders/42 users/7"),
        ] {
            assert_eq!(topics(fields).unwrap().as_str(), expected, "{fields}");
        }
        let seventeen: Vec<_> = (0..17).map(|n| format!("xylophone{n}")).collect();
        let seventeen = format!(r#""topics": {}, "#, json!(seventeen));
        for fields in [
            r#""topic": "a", "topics": ["b"], "#,
            r#""topic": null, "#,
            r#""topics": null, "#,
            r#""topics": [], "#,
            r#""topics": [null], "#,
            r#""topics": "a", "#,
            r#""topic": ["a"], "#,
            r#""topic": "xylophone/*", "#,
            r#""topic": "xylo phone", "#,
            r#""topics": ["xylophone", "xylophone"], "#,
            &seventeen,
        ] {
            let problem = topics(fields).unwrap_err();
            assert_eq!(problem.code(), "bad_request", "{fields}");
            assert!(!problem.to_string().contains("xylo"), "{fields}: {problem}");
        }
    }

    #[test]
    fn data_grows_to_twice_a_body_at_most_where_it_is_sent() {
        let of = |data: String| format!(r#"{{"data": {data}}}"#);
        let most = 65_000;
        let ends = of(format!("[{}1]", "\n".repeat(most)));
        assert_eq!(parse(ends.as_bytes()).unwrap_err().code(), "body_too_large");
        // Indented JSON.
        let lines = of(format!("[\n{}\n  1]", "  123,\n".repeat(most / 7)));
        assert!(parse(lines.as_bytes()).is_ok());
        // Characters that only resemble line ends cost nothing.
        let text = of(format!("\"{}\"", "\\n".repeat(most / 2)));
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_event_is_refused_without_quoting_it() {
        let deep = format!(r#"{{"data": {}{}}}"#, "[".repeat(200), "]".repeat(200));
        let cases: [&[u8]; 10] = [
            b"",
            b"secret-word",
            b"[1]",
            b"{}",
            br#"{"data": 1, "data": 2}"#,
            br#"{"data": 1, "secret-word": 2}"#,
            br#"{"data": 1, "event": "secret-word\n"}"#,
            br#"{"data": 1, "event": "reset"}"#,
            b"{\"data\": \"\xff\"}",
            deep.as_bytes(),
        ];
        for case in cases {
            let problem = parse(case).unwrap_err();
            assert_eq!(problem.code(), "bad_request");
            assert!(!problem.to_string().contains("secret-word"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_parsing_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in r#"[\[\]{}",:a-z0-9\\ ]{0,80}"#) {
            let _ = parse(&body);
            let _ = parse(format!(r#"{{"data": {text}}}"#).as_bytes());
        }
    }
}
