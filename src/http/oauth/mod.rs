//! The token endpoint: OAuth clients get tokens without code for this service. It serves
//! `client_credentials` (RFC 6749 §4.4) and token exchange (RFC 8693).
//!
//! Errors are those of OAuth (RFC 6749 §5.2) as far as it has them. Others are problems, as
//! everywhere: a full store, a limit, a body that is too large.

mod client;
mod error;
mod form;
pub(super) mod metadata;

use std::sync::Arc;

use actix_web::http::header::{HeaderValue, PRAGMA};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

pub(super) use self::client::client_of;
use self::client::{by_header, client};
use self::error::{ErrorBody, NO_CACHE, OAuthError};
use self::form::Form;
use super::AppState;
use super::error::{Problem, ProblemBody};
use super::extract::failed;
use super::jwt::user_of;
use super::permission::{has_right, not_permitted};
use super::problem_docs::Proxied;
use super::tokens::{issue_within, json as json_response};
use crate::principal::{Principal, Right};
use crate::service::IssueRequest;
use crate::topic::{Pattern, Patterns};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Beginning of each part of a scope; a pattern follows.
const READ: &str = "read:";

/// A token, as OAuth describes it (RFC 6749 §5.1, RFC 8693 §2.2.1).
#[derive(Serialize, ToSchema)]
pub(super) struct TokenBody {
    /// The stream token. Secret.
    #[schema(example = "6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908.AQE")]
    access_token: String,
    /// Only for a token exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "urn:ietf:params:oauth:token-type:access_token")]
    issued_token_type: Option<&'static str>,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Lifetime in seconds.
    #[schema(example = 60)]
    expires_in: u64,
    /// The topics that the token may read, each as `read:<pattern>`.
    #[schema(example = "read:users/7/* read:news")]
    scope: String,
}

/// The parameters of the token endpoint.
pub(super) struct TokenRequest;

impl PartialSchema for TokenRequest {
    fn schema() -> RefOr<Schema> {
        let text =
            |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
        ObjectBuilder::new()
            .description(Some("Each parameter once, but for `resource`; others are ignored."))
            .property("grant_type", text("What is asked for").enum_values(Some(["client_credentials", EXCHANGE])))
            .required("grant_type")
            .property("scope", text("A `read:<pattern>` for each, separated by spaces. By default the topics of the JWT, or `read:default`"))
            .property("resource", text("An address of this service (`http.public_url`)"))
            .property("client_id", text("The id of a principal, without HTTP Basic"))
            .property("client_secret", text("The credential of that principal"))
            .property("subject_token", text("A JWT of an identity provider, for a token exchange"))
            .property("subject_token_type", text("The type of the JWT").enum_values(Some([JWT, ACCESS_TOKEN])))
            .property("requested_token_type", text("The type of the answer").enum_values(Some([ACCESS_TOKEN])))
            .examples([json!({ "grant_type": "client_credentials", "scope": "read:news" })])
            .into()
    }
}

impl ToSchema for TokenRequest {}

/// Get a token as an OAuth client.
///
/// `client_credentials`: a principal, which is the client, gets a token for topics of its choice.
/// Token exchange: the JWT of an end user is exchanged for a token of that user. The JWT is the
/// credential, and no client is needed.
#[utoipa::path(
    post, path = "/oauth/token", tag = "tokens", security((), ("basic" = []), ("principal" = []), ("bearer" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token is issued", body = TokenBody),
        Proxied,
        (status = 400, description = "invalid_request, invalid_scope, invalid_target, unauthorized_client or unsupported_grant_type (RFC 6749 §5.2, RFC 8693 §2.2.2). A JWT that is refused is an invalid_request", body = ErrorBody),
        (status = 401, description = "invalid_client: no client, or a wrong credential", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 64 KiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "No further token can be recorded at present, or the keys of the JWT's issuer were not fetched yet (issuer_unavailable); wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn token(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let answered = answer(&request, payload, &state).await;
    answered.or_else(|failure| OAuthError::of(failure).map(|error| error.response()))
}

/// Failure of a request: an error of OAuth, or a problem that may have a name in OAuth.
enum Failure {
    OAuth(OAuthError),
    Problem(Problem),
}

impl From<OAuthError> for Failure {
    fn from(error: OAuthError) -> Self {
        Self::OAuth(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

async fn answer(
    request: &HttpRequest,
    payload: Payload,
    state: &Data<AppState>,
) -> Result<HttpResponse, Failure> {
    let by_header = by_header(request, state)?;
    let form = Form::read(request, payload, state.body_timeout).await?;
    let client = client(request, state, by_header, &form)?;
    let (principal, issued_token_type) = match form.get("grant_type") {
        Some("client_credentials") => (client.ok_or(OAuthError::InvalidClient)?, None),
        Some(EXCHANGE) => (exchanged(request, state, &form).await?, Some(ACCESS_TOKEN)),
        Some(_) => return Err(OAuthError::UnsupportedGrantType.into()),
        None => return Err(OAuthError::invalid_request("grant_type is missing").into()),
    };
    has_right(&principal, Right::Issue)
        .map_err(|lack| not_permitted(request, state, principal.id(), None, Right::Issue, lack))?;
    form.check_target(state.public_url.as_deref())?;
    let topics = form.get("scope").map(patterns).transpose()?;
    let wish = topics.map(|topics| IssueRequest { topics, ..IssueRequest::default() });
    let issued = issue_within(request, state, principal, wish).await?;
    let granted = issued.grant.map(|grant| grant.topics).unwrap_or_default();
    let mut response = json_response(&TokenBody {
        access_token: issued.text,
        issued_token_type,
        token_type: "Bearer",
        expires_in: issued.ttl.as_secs(),
        scope: scope(&granted),
    });
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static(NO_CACHE));
    Ok(response)
}

/// The user of the JWT that is to be exchanged.
async fn exchanged(request: &HttpRequest, state: &AppState, form: &Form) -> Result<Arc<Principal>, Failure> {
    let invalid = OAuthError::invalid_request;
    let jwt = form.get("subject_token").ok_or(invalid("subject_token is missing"))?;
    match form.get("subject_token_type") {
        Some(JWT | ACCESS_TOKEN) => {}
        Some(_) => return Err(invalid("subject_token_type is none that can be exchanged").into()),
        None => return Err(invalid("subject_token_type is missing").into()),
    }
    if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(invalid("requested_token_type is none that can be issued").into());
    }
    // A token for somebody who acts for the user would have to name both.
    if form.get("actor_token").or(form.get("actor_token_type")).is_some() {
        return Err(invalid("an actor_token is not supported").into());
    }
    if !state.identity.is_for_us(jwt.as_bytes()) {
        let problem = failed(request, state, Problem::CredentialWrong);
        return Err(if matches!(problem, Problem::RateLimited { .. }) {
            problem.into()
        } else {
            invalid("subject_token is no JWT of an issuer that is configured").into()
        });
    }
    state.identity.learn_key_of(jwt).await;
    Ok(user_of(request, state, jwt)?)
}

/// The patterns of a scope. One that occurs twice counts once.
fn patterns(scope: &str) -> Result<Patterns, OAuthError> {
    let mut patterns = Vec::new();
    for part in scope.split(' ').filter(|part| !part.is_empty()) {
        let pattern = part
            .strip_prefix(READ)
            .ok_or(OAuthError::invalid_scope("a scope consists of read:<pattern>, separated by spaces"))?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Patterns::new(patterns).map_err(|error| OAuthError::invalid_scope(error.to_string()))
}

/// Patterns as a scope.
fn scope(patterns: &Patterns) -> String {
    patterns.iter().map(|pattern: &Pattern| format!("{READ}{pattern}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scope_consists_of_patterns_to_read() {
        for (text, read) in [
            ("read:news", "read:news"),
            ("read:users/7/*  read:news read:news", "read:users/7/* read:news"),
            ("read:*", "read:*"),
        ] {
            assert_eq!(scope(&patterns(text).unwrap()), read);
        }
        let seventeen: Vec<_> = (0..17).map(|n| format!("read:t{n}")).collect();
        for wrong in [
            "",
            " ",
            "news",
            "read:",
            "read:a/",
            "write:news",
            "read:news openid",
            "Read:news",
            &seventeen.join(" "),
        ] {
            assert!(matches!(patterns(wrong), Err(OAuthError::InvalidScope(_))), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_scope_makes_parsing_panic(text in "(read:|[a-z/*$]{0,5}| |[ -~]){0,20}") {
            if let Ok(patterns) = patterns(&text) {
                prop_assert_eq!(super::patterns(&scope(&patterns)).unwrap(), patterns);
            }
        }
    }
}
