//! Errors of OAuth (RFC 6749 §5.2, RFC 8693 §2.2.2).

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE};
use serde::Serialize;
use utoipa::ToSchema;

use super::Failure;
use crate::http::error::{BASIC_CHALLENGE, Problem};
use crate::http::permission::Lack;
use crate::principal::Right;

/// Value of `Pragma`, which RFC 6749 §5.1 asks for in addition to `Cache-Control`.
pub(super) const NO_CACHE: &str = "no-cache";

/// An error of the token endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OAuthError {
    /// A parameter is missing, wrong or repeated, or the subject token is refused.
    InvalidRequest(Cow<'static, str>),
    /// The client did not authenticate.
    InvalidClient,
    /// The client may not issue tokens.
    UnauthorizedClient,
    /// The grant type is none that is served.
    UnsupportedGrantType,
    /// The scope cannot be read, or goes beyond the client or the JWT.
    InvalidScope(Cow<'static, str>),
    /// The token would be for another service.
    InvalidTarget,
}

/// An error of OAuth.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// Stable name for programs.
    #[schema(example = "invalid_scope")]
    error: &'static str,
    /// Text for people.
    #[schema(example = "the topics of this principal do not include users/8")]
    error_description: Cow<'static, str>,
}

impl OAuthError {
    pub(super) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidRequest(description.into())
    }

    pub(super) fn invalid_scope(description: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidScope(description.into())
    }

    /// The error of a failure. A problem that has no name in OAuth stays one.
    pub(super) fn of(failure: Failure) -> Result<Self, Problem> {
        let problem = match failure {
            Failure::OAuth(error) => return Ok(error),
            Failure::Problem(problem) => problem,
        };
        Ok(match problem {
            Problem::CredentialMissing | Problem::CredentialWrong | Problem::ClientWrong => {
                Self::InvalidClient
            }
            // RFC 8693 §2.2.2: a subject token that is invalid, or not acceptable.
            Problem::JwtRefused(refused) => Self::invalid_request(refused.to_string()),
            Problem::SubjectBlocked => Self::invalid_request("the subject is blocked"),
            Problem::NotPermitted(Lack::Right(Right::Issue)) => Self::UnauthorizedClient,
            Problem::NotPermitted(lack) => Self::invalid_scope(lack.to_string()),
            Problem::BadRequest(detail) => Self::InvalidRequest(detail),
            Problem::CredentialsConflict => {
                Self::invalid_request("the client authenticates in more than one way")
            }
            other => return Err(other),
        })
    }

    pub(super) fn response(&self) -> HttpResponse {
        let (error, description) = self.parts();
        let is_client = *self == Self::InvalidClient;
        let status = if is_client { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, "application/json"));
        response.insert_header((CACHE_CONTROL, "no-store"));
        response.insert_header((PRAGMA, NO_CACHE));
        if is_client {
            response.insert_header((WWW_AUTHENTICATE, BASIC_CHALLENGE));
        }
        let body = ErrorBody { error, error_description: description };
        response.body(serde_json::to_vec(&body).unwrap_or_default())
    }

    fn parts(&self) -> (&'static str, Cow<'static, str>) {
        match self {
            Self::InvalidRequest(description) => ("invalid_request", description.clone()),
            Self::InvalidClient => {
                ("invalid_client", "the client is no known principal, or its secret is wrong".into())
            }
            Self::UnauthorizedClient => {
                ("unauthorized_client", "this principal lacks the right issue".into())
            }
            Self::UnsupportedGrantType => (
                "unsupported_grant_type",
                "supported are client_credentials and urn:ietf:params:oauth:grant-type:token-exchange".into(),
            ),
            Self::InvalidScope(description) => ("invalid_scope", description.clone()),
            Self::InvalidTarget => {
                ("invalid_target", "resource and audience have to be an address of this service".into())
            }
        }
    }
}
