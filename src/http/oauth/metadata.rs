//! Documents that describe the service to OAuth clients: as an authorization server (RFC 8414) and
//! as a protected resource (RFC 9728). There are none without an address to describe.

use actix_web::HttpResponse;
use actix_web::http::header::HeaderValue;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::EXCHANGE;
use crate::http::AppState;
use crate::http::error::{BEARER_CHALLENGE, Problem, ProblemBody};
use crate::http::problem_docs::Proxied;
use crate::http::tokens::json;

/// Path of the document about the authorization server.
pub(in crate::http) const SERVER: &str = "/.well-known/oauth-authorization-server";
/// Path of the document about the protected resource.
pub(in crate::http) const RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// The service as an authorization server (RFC 8414 §2).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ServerBody {
    /// The address of the service.
    #[schema(example = "https://events.example")]
    issuer: String,
    /// The token endpoint.
    token_endpoint: String,
    /// Ways to authenticate there; `none` for a token exchange.
    token_endpoint_auth_methods_supported: [&'static str; 3],
    /// Grant types that it serves.
    grant_types_supported: [&'static str; 2],
    /// Always empty: there is no authorization endpoint.
    response_types_supported: [&'static str; 0],
    /// Introspection.
    introspection_endpoint: String,
    /// Ways to authenticate there.
    introspection_endpoint_auth_methods_supported: [&'static str; 1],
    /// Revocation.
    revocation_endpoint: String,
    /// Ways to authenticate there.
    revocation_endpoint_auth_methods_supported: [&'static str; 1],
}

/// The service as a protected resource (RFC 9728 §2).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ResourceBody {
    /// The address of the service.
    #[schema(example = "https://events.example")]
    resource: String,
    /// Issuers of tokens for it: the service itself.
    authorization_servers: [String; 1],
    /// Places of a token that OAuth knows. A stream also takes `?token=`.
    bearer_methods_supported: [&'static str; 1],
}

/// Describe the authorization server (RFC 8414).
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", tag = "documentation",
    responses(
        (status = 200, description = "Its endpoints", body = ServerBody),
        (status = 404, description = "http.public_url is not configured", body = ProblemBody, content_type = "application/problem+json"),
        Proxied,
    )
)]
pub(in crate::http) async fn server(state: Data<AppState>) -> Result<HttpResponse, Problem> {
    let url = state.public_url.as_deref().ok_or(Problem::NotFound)?;
    Ok(json(&ServerBody {
        issuer: url.to_owned(),
        token_endpoint: format!("{url}/oauth/token"),
        token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
        grant_types_supported: ["client_credentials", EXCHANGE],
        response_types_supported: [],
        introspection_endpoint: format!("{url}/operator/api/tokens/introspect"),
        introspection_endpoint_auth_methods_supported: ["client_secret_basic"],
        revocation_endpoint: format!("{url}/operator/api/tokens/revoke"),
        revocation_endpoint_auth_methods_supported: ["client_secret_basic"],
    }))
}

/// Describe the protected resource (RFC 9728).
#[utoipa::path(
    get, path = "/.well-known/oauth-protected-resource", tag = "documentation",
    responses(
        (status = 200, description = "Its authorization server", body = ResourceBody),
        (status = 404, description = "http.public_url is not configured", body = ProblemBody, content_type = "application/problem+json"),
        Proxied,
    )
)]
pub(in crate::http) async fn resource(state: Data<AppState>) -> Result<HttpResponse, Problem> {
    let url = state.public_url.clone().ok_or(Problem::NotFound)?;
    Ok(json(&ResourceBody {
        resource: url.clone(),
        authorization_servers: [url],
        bearer_methods_supported: ["header"],
    }))
}

/// The demand for a credential with the address of the document about the resource (RFC 9728 §5.1).
pub(in crate::http) fn challenge(public_url: &str) -> Option<HeaderValue> {
    let challenge = format!(r#"{BEARER_CHALLENGE}, resource_metadata="{public_url}{RESOURCE}""#);
    HeaderValue::from_str(&challenge).ok()
}
