//! Opening a stream.

use actix_web::http::Version;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::{Data, ReqData};
use actix_web::{HttpRequest, HttpResponse};

use super::AppState;
use super::error::{Problem, ProblemBody};
use super::extract::{Bearer, credential, failed, only_parameters, query_values};
use super::problem_docs::Proxied;
use crate::events::{Opener, StreamOpening};
use crate::telemetry::RequestId;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Response header that switches nginx's buffering off.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Open a stream of events.
///
/// The first frame has `retry:`, an `id:` to resume from and `{"type": "connected"}`.
/// `event: reset` reports events that are lost to the client. `event: degraded` reports that the
/// event log is unavailable, until `event: recovered`. `event: reconnect` is the last frame of a
/// stream that the service ends.
#[utoipa::path(
    get, path = "/operator/api/events/stream", tag = "events",
    security(("token" = []), ("principal" = []), ("bearer" = [])),
    params(
        ("last_event_id" = Option<String>, Query, description = "Resume after this event; the header wins"),
        ("Last-Event-ID" = Option<String>, Header, description = "Resume after this event"),
    ),
    responses(
        (status = 200, description = "Events until either side ends the stream", body = String, content_type = "text/event-stream",
            example = "retry: 1500\nid: 00000007-12-3\nevent: message\ndata: {\"instance_id\":\"1\",\"type\":\"connected\"}\n\n"),
        Proxied,
        (status = 400, description = "Credentials that disagree (credentials_conflict), or an unknown query parameter (unknown_parameter)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or not that of a known principal", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The token is not valid (token_refused), or a principal's credential is in the URL where that is forbidden (principal_in_query)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The limit of open streams of the token or its principal is reached on this instance (too_many_streams), or there are too many failures of this client (rate_limited); wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
        (status = 505, description = "The request uses HTTP/1.0; a stream needs HTTP/1.1", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The limit of open streams of the instance is reached, or the instance is stopping; wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
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
    only_parameters(&request, &["token", "last_event_id"])?;
    let opening = authenticate_stream(&request, &state).await?;
    let resume_after = last_event_id(&request);
    let stream = opening.open(resume_after.as_deref(), request_id.into_inner());
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        // Close the connection with the stream, so that a draining instance keeps no idle ones.
        .force_close()
        .streaming(stream.into_chunks()))
}

/// Checks the credential and registers the stream.
async fn authenticate_stream(request: &HttpRequest, state: &AppState) -> Result<StreamOpening, Problem> {
    let (bearer, shown) = credential(request, state)?;
    let verified = match bearer {
        Bearer::Principal(principal) => {
            let opening =
                StreamOpening::take(&state.hub, Opener { principal: principal.clone(), token: None })?;
            tracing::info!(credential = shown, %principal, "stream opened by principal");
            return Ok(opening);
        }
        Bearer::Token(verified) => verified,
    };
    // Register first, then ask the store: a revocation in between finds the stream and ends it.
    let id = verified.token.digest().id();
    let opener = Opener { principal: verified.principal.clone(), token: Some(id) };
    let opening = StreamOpening::take(&state.hub, opener)?;
    let granted =
        state.tokens.authorise(&verified).await.map_err(|refusal| failed(request, state, refusal.into()))?;
    tracing::info!(credential = shown, token_id = %id, principal = %granted.principal, "stream opened by token");
    Ok(opening)
}

/// Position to resume from: the header, else the parameter. Empty means none (WHATWG HTML §9.2.4).
/// An invalid position still gets a stream, because an `EventSource` never reconnects after an
/// error.
fn last_event_id(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(LAST_EVENT_ID);
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    header.or_else(|| query_values(request, "last_event_id").next()).filter(|id| !id.is_empty())
}
