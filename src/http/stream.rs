//! Opening a stream.

use actix_web::http::Version;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::{Data, ReqData};
use actix_web::{HttpRequest, HttpResponse};
use tokio::time::Instant;

use super::AppState;
use super::admission::{not_admitted, ticket};
use super::error::{Problem, ProblemBody};
use super::extract::{Bearer, only_parameters, query_values, refused, stream_credential};
use super::jwt::may_open;
use super::permission::{may_read, narrowed, not_permitted};
use super::problem_docs::Proxied;
use crate::events::{Earlier, Opener, Start, StreamOpening};
use crate::principal::Right;
use crate::telemetry::RequestId;
use crate::topic::Patterns;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Response header that switches nginx's buffering off.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Open a stream of events.
///
/// A token opens the topics of its grant, or `default` if it has none; `topic` narrows them. With a
/// principal's credential, `topic` selects them, and is `default` by default. An event of a topic
/// other than `default` has the line `topic: <topic>`.
///
/// The first frame has `retry:`, an `id:` to resume from and `{"type": "connected"}`.
/// `event: reset` reports events that are lost to the client. `event: degraded` reports that the
/// event log is unavailable, until `event: recovered`. `event: reconnect` is the last frame of a
/// stream that the service ends.
#[utoipa::path(
    get, path = "/operator/api/events/stream", tag = "events",
    security(("token" = []), ("cookie" = []), ("principal" = []), ("bearer" = [])),
    params(
        ("topic" = Option<Vec<String>>, Query, description = "Topics to read, at most 16: names, prefixes such as `orders/*`, or `*`"),
        ("from" = Option<String>, Query, description = "Begin with the oldest event that the log still has (`start`), or with the newest N events of these topics (`-N`, N at most 1,000). A last event id wins", pattern = "^(start|-([1-9][0-9]{0,2}|1000))$"),
        ("last_event_id" = Option<String>, Query, description = "Resume after this event; the header wins"),
        ("Last-Event-ID" = Option<String>, Header, description = "Resume after this event"),
    ),
    responses(
        (status = 200, description = "Events until either side ends the stream", body = String, content_type = "text/event-stream",
            example = "retry: 1500\nid: 00000007-12-3\nevent: message\ndata: {\"instance_id\":\"1\",\"type\":\"connected\"}\n\n"),
        Proxied,
        (status = 400, description = "Credentials that disagree (credentials_conflict), an unknown query parameter (unknown_parameter), or a bad value of topic or from (bad_request)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or not that of a known principal", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The token is not valid (token_refused), its grant or the topics of the principal do not include a topic, or the principal lacks the right to subscribe (not_permitted), or a principal's credential is in the URL where that is forbidden (principal_in_query)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The limit of open streams of the token or its principal is reached on this instance (too_many_streams), or that of the subject on all instances (subject_streams_full), or there are too many failures of this client (rate_limited); wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
        (status = 505, description = "The request uses HTTP/1.0; a stream needs HTTP/1.1", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The limit of open streams of the instance is reached, or the instance is stopping, or with redis.when_lost = refuse Redis cannot confirm now that the token is valid, was not used before, or that its subject has room (store_unavailable); wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn open(
    request: HttpRequest,
    state: Data<AppState>,
    request_id: ReqData<RequestId>,
) -> Result<HttpResponse, Problem> {
    if request.version() < Version::HTTP_11 {
        return Err(Problem::HttpVersion);
    }
    only_parameters(&request, &["token", "last_event_id", "topic", "from"])?;
    let (topics, earlier) = (topics(&request)?, earlier(&request)?);
    let opening = authenticate_stream(&request, &state, topics).await?;
    let last_event_id = last_event_id(&request);
    let start = Start { last_event_id: last_event_id.as_deref(), earlier };
    let stream = opening.open(start, request_id.into_inner());
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        // Close the connection with the stream, so that a draining instance keeps no idle ones.
        .force_close()
        .streaming(stream.into_chunks()))
}

/// Checks the credential and registers the stream, of the topics that the client asks for.
async fn authenticate_stream(
    request: &HttpRequest,
    state: &AppState,
    topics: Option<Patterns>,
) -> Result<StreamOpening, Problem> {
    let (bearer, shown) = stream_credential(request, state)?;
    let verified = match bearer {
        Bearer::Principal(principal) => {
            let patterns = topics.unwrap_or_else(|| principal.topics_by_default());
            may_read(&principal, &patterns).map_err(|lack| {
                not_permitted(request, state, principal.id(), None, Right::Subscribe, lack)
            })?;
            let principal_id = principal.id().clone();
            let user = principal.user();
            let subject = user.map(|user| &user.subject);
            let opener = Opener {
                principal: principal_id,
                token: None,
                subject: subject.cloned(),
                patterns,
                issued_at: subject.map(|subject| state.control.time_of_issue(subject)),
                until: user.map(|user| user.until),
            };
            let mut opening = StreamOpening::take(&state.hub, opener)?;
            if let Some(user) = user {
                may_open(state, user)?;
                let admitted = state.admission.admit(opening.id(), subject, None, Instant::now()).await;
                opening.keep(admitted.map_err(|reason| not_admitted(state, reason))?.into_companion());
            }
            let subject = subject.map(|subject| state.shown(subject));
            tracing::info!(
                credential = shown,
                principal = %principal.id(),
                subject = subject.as_deref().map(display),
                "stream opened by principal"
            );
            return Ok(opening);
        }
        Bearer::Token(verified) => verified,
    };
    // A token that is not valid gets the answer of all such tokens, whatever topics are asked for.
    let narrowed = narrowed(verified.patterns(), topics);
    let patterns = narrowed.clone().unwrap_or_else(|_| verified.patterns());
    // Register first, then ask the store: a revocation in between finds the stream and ends it.
    let id = verified.token.digest().id();
    let grant = verified.grant.as_deref();
    let opener = Opener {
        principal: verified.principal.clone(),
        token: Some(id),
        subject: grant.and_then(|grant| grant.subject.clone()),
        patterns,
        issued_at: grant.map(|grant| grant.issued_at),
        until: grant.and_then(|grant| grant.stream_until),
    };
    let mut opening = StreamOpening::take(&state.hub, opener)?;
    let began = Instant::now();
    let granted = state.tokens.authorise(&verified).await;
    let granted = granted.map_err(|refusal| refused(request, state, refusal))?;
    narrowed.map_err(|lack| {
        not_permitted(request, state, &verified.principal, Some(id), Right::Subscribe, lack)
    })?;
    let subject = granted.grant.as_ref().and_then(|grant| grant.subject.as_ref());
    let admitted = state.admission.admit(opening.id(), subject, ticket(&verified, &granted), began).await;
    opening.keep(admitted.map_err(|reason| not_admitted(state, reason))?.into_companion());
    let subject = subject.map(|subject| state.shown(subject));
    tracing::info!(
        credential = shown,
        token_id = %id,
        principal = %granted.principal,
        subject = subject.as_deref().map(display),
        "stream opened by token"
    );
    Ok(opening)
}

/// The topics that the client asks for; `None`: it names none.
fn topics(request: &HttpRequest) -> Result<Option<Patterns>, Problem> {
    let topics: Vec<_> = query_values(request, "topic").collect();
    if topics.is_empty() {
        return Ok(None);
    }
    let patterns = Patterns::new(topics.iter().map(String::as_str));
    patterns.map(Some).map_err(|error| Problem::bad_request(format!("topic: {error}")))
}

/// Earlier events that the client wants to begin with, if it does.
fn earlier(request: &HttpRequest) -> Result<Option<Earlier>, Problem> {
    const EXPECTED: &str = "from has to be given once, as start or as -1 to -1000";
    let mut values = query_values(request, "from");
    let Some(value) = values.next() else { return Ok(None) };
    let earlier = Earlier::parse(&value).filter(|_| values.next().is_none());
    earlier.map(Some).ok_or(Problem::bad_request(EXPECTED))
}

/// Position to resume from: the header, else the parameter. Empty means none (WHATWG HTML §9.2.4).
/// An invalid position still gets a stream, because an `EventSource` never reconnects after an
/// error.
fn last_event_id(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(LAST_EVENT_ID);
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    header.or_else(|| query_values(request, "last_event_id").next()).filter(|id| !id.is_empty())
}
