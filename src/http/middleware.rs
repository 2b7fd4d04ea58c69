//! The middleware around all handlers: assigns the request id, measures, logs, and writes the body
//! of a problem.

use std::sync::Arc;
use std::time::Instant;

use actix_cors::CorsError;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, WWW_AUTHENTICATE};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use tracing::Instrument;

use super::AppState;
use super::connections::{Answering, Connection};
use super::cors;
use super::error::{BEARER_CHALLENGE, Problem};
use super::extract::peer_address;
use super::held::until_sent;
use super::jwt::learn_key;
use super::oauth::metadata;
use super::unread_body::UnreadBody;
use crate::telemetry::RequestId;

/// The route label of a path that no route matches.
const UNMATCHED: &str = "unmatched";

pub(super) async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let state = request.app_data::<web::Data<AppState>>().cloned();
    let Some(state) = state else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let id = request_id(&request, &state);
    let Some(answering) = Answering::begin(request.conn_data::<Arc<Connection>>()) else {
        // Nobody would read an answer, so the handler is not run.
        return Ok(request.into_response(Problem::NotReady.response(&id)));
    };
    let span = id.span();
    let method = method_label(request.method());
    request.extensions_mut().insert(id.clone());
    let unread = UnreadBody::hold(&mut request);
    let answered = async {
        learn_key(request.request(), &state).await;
        let response = match next.call(request).await {
            Ok(response) => match response.response().error().map(problem_of) {
                Some(problem) => {
                    let mut answer = with_challenge(problem.response(&id), &state);
                    keep_headers(response.headers(), answer.headers_mut());
                    response.into_response(answer)
                }
                None => response.map_into_boxed_body(),
            },
            // Only a caught panic arrives here; the request is lost with it.
            Err(error) => {
                let response = problem_of(&error).response(&id);
                state.metrics.request(UNMATCHED, method, response.status().as_str(), started.elapsed());
                return Err(InternalError::from_response(error, response).into());
            }
        };
        let route = response.request().match_pattern();
        let route = route.as_deref().unwrap_or(UNMATCHED);
        let (status, took) = (response.status(), started.elapsed());
        state.metrics.request(route, method, status.as_str(), took);
        // Anybody can request a stream over HTTP/1.0 without a credential, so this is not logged.
        if status.is_server_error() && status != StatusCode::HTTP_VERSION_NOT_SUPPORTED {
            tracing::warn!(method, route, status = status.as_u16(), ?took, "request not served");
        } else {
            tracing::debug!(method, route, status = status.as_u16(), ?took, "request answered");
        }
        let response = match unread {
            Some(unread) => unread.until_sent(response),
            None => response,
        };
        // A complete response has its own deadline for sending; a stream is in progress until it
        // ends.
        Ok(match response.response().body().size() {
            BodySize::Stream => until_sent(response, answering),
            _ => response,
        })
    };
    answered.instrument(span).await
}

/// The response with the address of the document about the service in its demand for a credential.
/// A demand for HTTP Basic stays as it is.
fn with_challenge(mut response: HttpResponse, state: &AppState) -> HttpResponse {
    let demand = response.headers().get(WWW_AUTHENTICATE);
    let is_bearers = demand.is_some_and(|demand| demand == BEARER_CHALLENGE);
    if let Some(challenge) = state.public_url.as_deref().filter(|_| is_bearers).and_then(metadata::challenge)
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The id of a trusted proxy, or a new one.
fn request_id(request: &ServiceRequest, state: &AppState) -> RequestId {
    let by_proxy = || {
        let peer = peer_address(request.peer_addr());
        let trusted = state.trusted_proxies.iter().any(|network| network.contains(&peer));
        let chosen = request.headers().get("x-request-id").filter(|_| trusted)?;
        RequestId::parse(chosen.to_str().ok()?)
    };
    by_proxy().unwrap_or_else(|| state.request_ids.draw())
}

/// Adds headers of the middleware of a route, such as those of CORS, to the answer of a problem.
fn keep_headers(of_route: &HeaderMap, answer: &mut HeaderMap) {
    for (name, value) in of_route {
        if !answer.contains_key(name) {
            answer.insert(name.clone(), value.clone());
        }
    }
}

/// The problem of an error. Errors that are no problem come from a caught panic or from actix.
fn problem_of(error: &Error) -> Problem {
    if let Some(refusal) = error.as_error::<CorsError>() {
        return cors::preflight_refused(refusal);
    }
    error.as_error::<Problem>().cloned().unwrap_or_else(|| {
        tracing::error!(%error, "a request failed because of a defect");
        Problem::Internal
    })
}

/// The method, or one label for unusual ones, because clients can invent methods.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}
