//! Issuing, revoking and introspecting tokens.

use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::AppState;
use super::cookie;
use super::effects::{begin, run_noted};
use super::error::{Problem, ProblemBody};
use super::extract::{form_or_json, members, only_parameters, principal};
use super::issue_body::{self, IssueBody};
use super::jwt::within_jwt;
use super::permission::{may_read, not_permitted};
use super::problem_docs::{Issuing, NeedsPrincipal, Proxied, ReadsBody};
use crate::audit::{Act, Begun, Effect, Named};
use crate::principal::{Principal, PrincipalId, Right};
use crate::service::{Introspection, IssueError, IssueRequest, Issued, Revocation};
use crate::store::{Backend, RevocationScope, StoreError};
use crate::token::{Subject, TokenId};
use crate::topic::{Pattern, Patterns};

/// A token that was issued.
#[derive(Serialize, ToSchema)]
pub(super) struct IssuedBody<'a> {
    /// The token; opens streams until it expires. Secret. 36 characters, and up to 1,025 more if it
    /// has a grant.
    #[schema(min_length = 36, max_length = 1061, example = "6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908")]
    sse_token: String,
    /// Id of the token; not secret.
    #[schema(pattern = "^[0-9a-f]{16}$", example = "3f9a1c0b5d7e2f48")]
    token_id: String,
    /// Lifetime of the token in seconds.
    #[schema(example = 60)]
    expires_in: u64,
    /// Expiry, RFC 3339.
    #[schema(format = DateTime, example = "2026-01-01T00:01:00.000Z")]
    expires_at: String,
    /// The instance that issued it.
    #[schema(example = "1")]
    instance_id: &'a str,
    /// Backend that has its record.
    backend: Backend,
    /// The end user whom the token is for, if the request named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "user-7")]
    subject: Option<String>,
    /// The topics that the token may read; only if the request had a field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["users/7/*", "news"]))]
    topics: Option<Vec<String>>,
    /// Path and query of the token's stream, for `new EventSource(base + stream_url)`; only if the
    /// request had a field. Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/operator/api/events/stream?token=6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908.AQE")]
    stream_url: Option<String>,
}

/// The token to revoke, by exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "token_id": "3f9a1c0b5d7e2f48" }))]
pub(super) struct TokenParameter {
    /// The token in clear, with or without its grant.
    token: Option<String>,
    /// Id of the token.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    token_id: Option<String>,
}

/// A [`TokenParameter`] as a form, which has no `null`.
pub(super) struct TokenForm;

impl PartialSchema for TokenForm {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let id = text().description(Some("Id of the token"));
        ObjectBuilder::new()
            .description(Some("The token to revoke, by exactly one of the two."))
            .property("token", text().description(Some("The token in clear")))
            .property("token_id", id.pattern(Some("^[0-9a-f]{16}$")))
            .examples([json!({ "token_id": "3f9a1c0b5d7e2f48" })])
            .into()
    }
}

impl ToSchema for TokenForm {}

/// The token to introspect.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct IntrospectParameter(TokenParameter);

/// `token` is required; other parameters are ignored (RFC 7662 §2.1).
impl PartialSchema for IntrospectParameter {
    fn schema() -> RefOr<Schema> {
        let token = ObjectBuilder::new().schema_type(Type::String).description(Some("The token in clear"));
        let example = json!({ "token": "6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908" });
        let object = ObjectBuilder::new().property("token", token).required("token");
        object.description(Some("The token to introspect.")).examples([example]).into()
    }
}

impl ToSchema for IntrospectParameter {}

/// Scope of a revocation or of another order.
#[derive(Serialize, ToSchema)]
pub(super) struct EffectiveBody {
    /// `cluster`, or `instance` while Redis is unavailable.
    pub(super) effective: RevocationScope,
}

/// Properties of a token (RFC 7662 §2.2); only `active` for a token that is not valid.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct IntrospectionBody {
    /// Whether the token is valid.
    active: bool,
    /// The subject, or the principal that the token was issued to if it is for no subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "operator")]
    sub: Option<String>,
    /// Expiry in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_767_225_660)]
    exp: Option<u64>,
    /// Time of issue in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_767_225_600)]
    iat: Option<u64>,
    /// Id of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "3f9a1c0b5d7e2f48")]
    jti: Option<String>,
    /// Always `sse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "sse")]
    token_type: Option<&'static str>,
    /// The principal that the token was issued to; only for a token with a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "operator")]
    client_id: Option<String>,
    /// The topics that the token may read, separated by spaces; only for a token with a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "users/7/* news")]
    scope: Option<String>,
    /// The only resource that the token opens, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    /// The address of the service, if it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://events.example")]
    iss: Option<String>,
}

impl From<Introspection> for IntrospectionBody {
    fn from(token: Introspection) -> Self {
        let subject = token.grant.as_ref().and_then(|grant| grant.subject.as_ref());
        let plain = Self {
            active: true,
            sub: Some(subject.map_or(token.principal.as_str(), Subject::as_str).to_owned()),
            exp: Some(token.expires_at.seconds_rounded_up()),
            iat: Some(token.issued_at.seconds()),
            jti: Some(token.id.to_string()),
            token_type: Some("sse"),
            ..Self::default()
        };
        let Some(grant) = token.grant else { return plain };
        Self {
            client_id: Some(token.principal.to_string()),
            scope: Some(scope(&grant.topics)),
            aud: grant.resource.as_ref().map(|resource| resource.as_str().to_owned()),
            ..plain
        }
    }
}

/// Patterns as a scope (RFC 6749 §3.3): separated by spaces, which no pattern contains.
pub(super) fn scope(patterns: &Patterns) -> String {
    patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" ")
}

/// Issue a token that opens a stream.
///
/// Without a field, the token opens the topic `default`. A field limits the token to an end user
/// and to topics, or changes its lifetime.
#[utoipa::path(
    post, path = "/operator/api/events/sse-token", tag = "tokens", security(("principal" = []), ("bearer" = [])),
    params(("cookie" = Option<String>, Query, description = "`1` also sets the cookie that opens the stream", pattern = "^1$")),
    request_body(content = Option<IssueBody>, content_type = "application/json", description = "No body, `{}` and `null` are the same"),
    responses(
        (status = 200, description = "The token is issued", body = IssuedBody, headers(
            ("Set-Cookie" = String, description = "The token as a cookie; only with `cookie=1`"),
        )),
        Issuing,
    )
)]
pub(super) async fn issue(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let principal = principal(&request, &state)?;
    only_parameters(&request, &[cookie::PARAMETER])?;
    let with_cookie = cookie::is_asked_for(&request)?;
    let members = members(&request, payload, state.body_timeout).await?;
    let wish = issue_body::parse(&members, &principal.topics_by_default(), state.clock.now())?;
    issue_as_wished(&request, state, principal, wish, with_cookie).await
}

/// Issue a token, for clients of the predecessor. Prefer POST, which also takes fields.
#[utoipa::path(
    get, path = "/operator/api/events/sse-token", tag = "tokens", security(("principal" = []), ("bearer" = [])),
    responses((status = 200, description = "The token is issued", body = IssuedBody), Issuing)
)]
pub(super) async fn issue_by_get(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let principal = principal(&request, &state)?;
    only_parameters(&request, &[])?;
    let members = members(&request, payload, state.body_timeout).await?;
    members.only(&[], "this call takes no fields; POST does")?;
    issue_as_wished(&request, state, principal, None, false).await
}

/// Answers with a token if the principal may grant what it asks for.
async fn issue_as_wished(
    request: &HttpRequest,
    state: Data<AppState>,
    principal: Arc<Principal>,
    wish: Option<IssueRequest>,
    with_cookie: bool,
) -> Result<HttpResponse, Problem> {
    let has_fields = wish.is_some() || principal.user().is_some();
    let issued = issue_within(request, &state, principal, wish).await?;
    let set_cookie = with_cookie.then(|| cookie::of_issued(&state, &issued)).transpose()?;
    let grant = issued.grant.filter(|_| has_fields);
    let texts = |topics: &Patterns| topics.iter().map(ToString::to_string).collect();
    let mut response = json(&IssuedBody {
        subject: grant.as_ref().and_then(|grant| grant.subject.as_ref()).map(|it| it.as_str().to_owned()),
        topics: grant.as_ref().map(|grant| texts(&grant.topics)),
        stream_url: has_fields.then(|| stream_url(&issued.text)),
        sse_token: issued.text,
        token_id: issued.id.to_string(),
        expires_in: issued.ttl.as_secs(),
        expires_at: issued.expires_at.rfc3339(),
        instance_id: &state.instance_id,
        backend: issued.backend,
    });
    if let Some(set_cookie) = set_cookie {
        response.headers_mut().insert(SET_COOKIE, set_cookie);
    }
    Ok(response)
}

/// Issues a token if the principal may grant what it asks for, and its limit allows it.
pub(super) async fn issue_within(
    request: &HttpRequest,
    state: &Data<AppState>,
    principal: Arc<Principal>,
    wish: Option<IssueRequest>,
) -> Result<Issued, Problem> {
    let lacks = |lack| not_permitted(request, state, principal.id(), None, Right::Issue, lack);
    let wish = within_jwt(&principal, wish).map_err(lacks)?;
    let topics = wish.as_ref().map_or_else(Patterns::default, |wish| wish.topics.clone());
    may_read(&principal, &topics).map_err(lacks)?;
    state.limits.issue(&principal).map_err(|retry_after| Problem::RateLimited { retry_after })?;
    let effect = begin(request, state, principal.id(), Begun::Issue);
    let effect = effect.map(|effect| effect.about(named(state, wish.as_ref())));
    Ok(run_noted(state, issue_and_note(state.clone(), principal, wish, effect)).await??)
}

/// Path and query of a token's stream. A token consists of characters that need no encoding in a
/// query (RFC 3986 §2.3).
fn stream_url(token: &str) -> String {
    format!("/operator/api/events/stream?token={token}")
}

/// Subject and topics of a request in the audit trail; nothing for a plain token.
fn named(state: &AppState, wish: Option<&IssueRequest>) -> Named {
    let Some(IssueRequest { subject, topics, .. }) = wish else { return Named::default() };
    Named {
        subject: subject.as_ref().map(|subject| state.shown(subject)),
        topics: Some(topics.iter().count()),
        topic_names: state.log_subjects.then(|| scope(topics)),
    }
}

/// Issues and audits a token.
async fn issue_and_note(
    state: Data<AppState>,
    principal: Arc<Principal>,
    wish: Option<IssueRequest>,
    effect: Option<Effect>,
) -> Result<Issued, IssueError> {
    let issued = state.tokens.issue(&principal, wish).await;
    match (effect, &issued) {
        (Some(effect), Ok(issued)) => {
            let (token_id, principal) = (issued.id.to_string(), principal.id().as_str());
            effect.ended(Act::Issue { token_id: Some(&token_id), principal, outcome: None });
        }
        (Some(effect), Err(_)) => effect.came_to_nothing(),
        (None, _) => {}
    }
    issued
}

/// Revoke a token (RFC 7009); its open streams end.
///
/// The open streams of a token that has expired end, too. A text that has not the form of a token
/// is ignored.
#[utoipa::path(
    post, path = "/operator/api/tokens/revoke", tag = "tokens", security(("basic" = []), ("principal" = []), ("bearer" = [])),
    request_body(content(
        (TokenForm = "application/x-www-form-urlencoded"), (TokenParameter = "application/json")
    )),
    responses(
        (status = 200, description = "The token is not valid any more, whether or not it was before", body = EffectiveBody),
        NeedsPrincipal, ReadsBody, Proxied,
        (status = 400, description = "Neither or both parameters (bad_request), or credentials that disagree (credentials_conflict)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The revocation cannot be recorded at present; wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    const EXPECTED: &str = "expected: one of token=<token> or token_id=<16 hex characters>";
    let principal = principal(&request, &state)?;
    let parameter: TokenParameter = form_or_json(&request, payload, state.body_timeout, EXPECTED).await?;
    let revocation = match (&parameter.token, &parameter.token_id) {
        (Some(token), None) => state.tokens.revocation_of_token(token),
        (None, Some(id)) => {
            let id = TokenId::parse(id).map_err(|_| Problem::bad_request(EXPECTED))?;
            Some(state.tokens.revocation_of_id(id))
        }
        _ => return Err(Problem::bad_request(EXPECTED)),
    };
    // A text that has not the form of a token is not valid anywhere.
    let mut effective = RevocationScope::Cluster;
    if let Some(revocation) = revocation {
        let begun = Begun::Revoke { token_id: revocation.id.to_string() };
        let effect = begin(&request, &state, principal.id(), begun);
        let revoked = revoke_and_note(state.clone(), revocation, principal.id().clone(), effect);
        // Needed also without an audit trail: the token's streams have to end.
        effective = state.effects.run(revoked).await??;
    }
    Ok(json(&EffectiveBody { effective }))
}

/// Revokes a token, ends its streams and audits it.
async fn revoke_and_note(
    state: Data<AppState>,
    revocation: Revocation,
    principal: PrincipalId,
    effect: Option<Effect>,
) -> Result<RevocationScope, StoreError> {
    // Write the tombstone first, so that no stream opens in between. The streams end even if that
    // failed.
    let remembered = state.tokens.revoke(revocation).await;
    let streams = state.hub.end_streams_of(revocation.id);
    tracing::info!(token_id = %revocation.id, streams, remembered = remembered.is_ok(), "token revoked");
    if let Some(effect) = effect {
        let effective = remembered.as_ref().map_or("failed", |scope| scope.as_str());
        let (token_id, principal) = (revocation.id.to_string(), principal.as_str());
        effect.ended(Act::Revoke { token_id: &token_id, principal, effective });
    }
    remembered
}

/// Introspect a token (RFC 7662).
#[utoipa::path(
    post, path = "/operator/api/tokens/introspect", tag = "tokens", security(("basic" = []), ("principal" = []), ("bearer" = [])),
    request_body(content(
        (IntrospectParameter = "application/x-www-form-urlencoded"), (IntrospectParameter = "application/json")
    )),
    responses(
        (status = 200, description = "Properties of the token", body = IntrospectionBody),
        NeedsPrincipal, ReadsBody, Proxied,
        (status = 400, description = "No token parameter (bad_request), or credentials that disagree (credentials_conflict)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "With redis.when_lost = refuse: Redis cannot confirm now whether the token is valid (store_unavailable); wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn introspect(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    const EXPECTED: &str = "expected: token=<token>";
    principal(&request, &state)?;
    let IntrospectParameter(parameter) =
        form_or_json(&request, payload, state.body_timeout, EXPECTED).await?;
    let token = parameter.token.ok_or(Problem::bad_request(EXPECTED))?;
    let found = state.tokens.introspect(&token).await?;
    let body = found.map(|token| IntrospectionBody { iss: state.public_url.clone(), ..token.into() });
    Ok(json(&body.unwrap_or_default()))
}

/// A JSON response with `Cache-Control: no-store`.
pub(super) fn json(body: &impl Serialize) -> HttpResponse {
    json_text(serde_json::to_vec(body))
}

/// A JSON response of this text, with `Cache-Control: no-store`.
pub(super) fn json_text(text: serde_json::Result<Vec<u8>>) -> HttpResponse {
    match text {
        Ok(bytes) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(bytes),
        Err(error) => HttpResponse::from_error(actix_web::error::ErrorInternalServerError(error)),
    }
}
