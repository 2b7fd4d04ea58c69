//! Issuing, revoking and introspecting tokens.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::AppState;
use super::effects::{begin, run_noted};
use super::error::{Problem, ProblemBody};
use super::extract::{form_or_json, no_fields, only_parameters, principal};
use super::problem_docs::{Issuing, NeedsPrincipal, Proxied, ReadsBody};
use crate::audit::{Act, Begun, Effect};
use crate::principal::PrincipalId;
use crate::service::{Issued, Revocation};
use crate::store::{Backend, RevocationScope, StoreError};
use crate::token::TokenId;

/// A token that was issued.
#[derive(Serialize, ToSchema)]
pub(super) struct IssuedBody<'a> {
    /// The token; opens streams until it expires. Secret.
    #[schema(min_length = 36, max_length = 36, example = "6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908")]
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
}

/// The token to revoke, by exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "token_id": "3f9a1c0b5d7e2f48" }))]
pub(super) struct TokenParameter {
    /// The token in clear.
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

/// Scope of a revocation.
#[derive(Serialize, ToSchema)]
pub(super) struct RevokedBody {
    /// `cluster`, or `instance` while Redis is unavailable.
    effective: RevocationScope,
}

/// Properties of a token (RFC 7662 §2.2); only `active` for a token that is not valid.
#[derive(Serialize, ToSchema)]
pub(super) struct IntrospectionBody {
    /// Whether the token is valid.
    active: bool,
    /// The principal it was issued to.
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
}

/// Issue a token that opens a stream.
#[utoipa::path(
    post, path = "/operator/api/events/sse-token", tag = "tokens", security(("principal" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The token is issued", body = IssuedBody),
        Issuing,
    )
)]
pub(super) async fn issue(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let principal = principal(&request, &state)?;
    only_parameters(&request, &[])?;
    no_fields(&request, payload, state.body_timeout).await?;
    state.limits.issue(principal).map_err(|retry_after| Problem::RateLimited { retry_after })?;
    let effect = begin(&request, &state, principal, Begun::Issue);
    let issued = issue_and_note(state.clone(), principal.clone(), effect);
    let issued = run_noted(&state, issued).await??;
    Ok(json(&IssuedBody {
        sse_token: issued.token.reveal(),
        token_id: issued.id.to_string(),
        expires_in: issued.ttl.as_secs(),
        expires_at: issued.expires_at.rfc3339(),
        instance_id: &state.instance_id,
        backend: issued.backend,
    }))
}

/// Issues and audits a token.
async fn issue_and_note(
    state: Data<AppState>,
    principal: PrincipalId,
    effect: Option<Effect>,
) -> Result<Issued, StoreError> {
    let issued = state.tokens.issue(&principal).await;
    match (effect, &issued) {
        (Some(effect), Ok(issued)) => {
            let (token_id, principal) = (issued.id.to_string(), principal.as_str());
            effect.ended(Act::Issue { token_id: Some(&token_id), principal, outcome: None });
        }
        (Some(effect), Err(_)) => effect.came_to_nothing(),
        (None, _) => {}
    }
    issued
}

/// Issue a token, for clients of the predecessor. Prefer POST.
#[utoipa::path(
    get, path = "/operator/api/events/sse-token", tag = "tokens", security(("principal" = []), ("bearer" = [])),
    responses((status = 200, description = "The token is issued", body = IssuedBody), Issuing)
)]
pub(super) async fn issue_by_get(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    issue(request, payload, state).await
}

/// Revoke a token (RFC 7009); its open streams end.
///
/// By `token_id`, the open streams of a token that has expired end, too. By `token`, an expired
/// token is ignored like a text that is no token, and its open streams stay open.
#[utoipa::path(
    post, path = "/operator/api/tokens/revoke", tag = "tokens", security(("principal" = []), ("bearer" = [])),
    request_body(content(
        (TokenForm = "application/x-www-form-urlencoded"), (TokenParameter = "application/json")
    )),
    responses(
        (status = 200, description = "The token is not valid any more, whether or not it was before", body = RevokedBody),
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
    // A text that is no token of ours, or an expired one, is not valid anywhere.
    let mut effective = RevocationScope::Cluster;
    if let Some(revocation) = revocation {
        let begun = Begun::Revoke { token_id: revocation.id.to_string() };
        let effect = begin(&request, &state, principal, begun);
        let revoked = revoke_and_note(state.clone(), revocation, principal.clone(), effect);
        // Needed also without an audit trail: the token's streams have to end.
        effective = state.effects.run(revoked).await??;
    }
    Ok(json(&RevokedBody { effective }))
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
        let effective = remembered.as_ref().map_or("failed", |reach| reach.as_str());
        let (token_id, principal) = (revocation.id.to_string(), principal.as_str());
        effect.ended(Act::Revoke { token_id: &token_id, principal, effective });
    }
    remembered
}

/// Introspect a token (RFC 7662).
#[utoipa::path(
    post, path = "/operator/api/tokens/introspect", tag = "tokens", security(("principal" = []), ("bearer" = [])),
    request_body(content(
        (IntrospectParameter = "application/x-www-form-urlencoded"), (IntrospectParameter = "application/json")
    )),
    responses(
        (status = 200, description = "Properties of the token", body = IntrospectionBody),
        NeedsPrincipal, ReadsBody, Proxied,
        (status = 400, description = "No token parameter (bad_request), or credentials that disagree (credentials_conflict)", body = ProblemBody, content_type = "application/problem+json"),
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
    let found = state.tokens.introspect(&token).await;
    let active = found.is_some();
    let (sub, exp, iat, jti) = match found {
        Some(it) => (
            Some(it.principal.to_string()),
            Some(it.expires_at.seconds_rounded_up()),
            Some(it.issued_at.seconds()),
            Some(it.id.to_string()),
        ),
        None => (None, None, None, None),
    };
    Ok(json(&IntrospectionBody { active, sub, exp, iat, jti, token_type: active.then_some("sse") }))
}

/// A JSON response with `Cache-Control: no-store`.
pub(super) fn json(body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(bytes) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(bytes),
        Err(error) => HttpResponse::from_error(actix_web::error::ErrorInternalServerError(error)),
    }
}
