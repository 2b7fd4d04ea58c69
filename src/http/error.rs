//! Problem documents (RFC 9457). All status codes are chosen here.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::permission::Lack;
use crate::control::TooManyLists;
use crate::events::{OpenError, PublishError};
use crate::identity::{JwtRefusal, RefusedJwt};
use crate::limits::{LARGEST_BODY, LONGEST_DATA};
use crate::service::{IssueError, Refusal};
use crate::store::StoreError;
use crate::telemetry::RequestId;

/// Demand for a credential, as everywhere.
pub(super) const BEARER_CHALLENGE: &str = r#"Bearer realm="vx11-operator""#;
/// Demand for a credential by HTTP Basic, which an OAuth client has used.
pub(super) const BASIC_CHALLENGE: &str = r#"Basic realm="vx11-operator""#;

/// Failures of a request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    /// 401: no credential.
    #[error("a principal's credential is missing; send it as X-VX11-Token: … or Authorization: Bearer …")]
    CredentialMissing,
    /// 401: no credential, on a path for stream tokens.
    #[error(
        "a stream token is missing; your backend issues one with POST /operator/api/events/sse-token, and the page sends it as Authorization: Bearer …, or to a stream as ?token=…"
    )]
    StreamTokenMissing,
    /// 401: a credential that is no principal's.
    #[error("the credential belongs to no known principal; check that it is complete and was not replaced")]
    CredentialWrong,
    /// 401: an OAuth client whose secret is wrong.
    #[error("the client is no known principal, or its secret is wrong")]
    ClientWrong,
    /// 401: a JWT that is refused.
    #[error("{0}; get a new one from the issuer")]
    JwtRefused(RefusedJwt),
    /// 400: two different credentials.
    #[error("the request carries two different credentials; send one")]
    CredentialsConflict,
    /// 403: the token does not open a stream; all reasons have this answer.
    #[error("the token is not valid; get a new one from your backend")]
    TokenRefused,
    /// 403: a principal's credential in a URL, where that is forbidden. Only the holder of a
    /// credential gets this answer.
    #[error(
        "a principal's credential is not accepted in a URL; let your backend issue a stream token with POST /operator/api/events/sse-token, and send that"
    )]
    PrincipalInQuery,
    /// 403: the credential is right, and its holder lacks a right or a topic.
    #[error("{0}")]
    NotPermitted(Lack),
    /// 403: the end user whom a token was to be issued for.
    #[error("the subject is blocked, so nothing was issued or opened")]
    SubjectBlocked,
    /// 400: an unknown field or parameter. Ignoring it would look like granting it.
    #[error("{0}")]
    UnknownParameter(String),
    /// 400: the body or a parameter is invalid.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// 404.
    #[error("the path does not exist; /openapi.json lists all paths")]
    NotFound,
    /// 405, with the methods that are allowed.
    #[error("the method is not allowed at this path; allowed: {0}")]
    MethodNotAllowed(String),
    /// 408: the body did not arrive in time.
    #[error("the request body did not arrive in time; send the request again")]
    BodyTimeout,
    /// 413.
    #[error("the request body is larger than the limit of {LARGEST_BODY} bytes")]
    BodyTooLarge,
    /// 413: an event that is far larger in its frame than in the body.
    #[error(
        "the data would be larger than {} bytes in its frame, where each line takes 6 bytes more; write it in fewer lines",
        LONGEST_DATA
    )]
    EventTooLarge,
    /// 415, with the accepted types.
    #[error("the request body must be {0}")]
    UnsupportedMediaType(&'static str),
    /// 429.
    #[error("too many requests of this kind; try again later")]
    RateLimited {
        /// Time after which there is room again.
        retry_after: Duration,
    },
    /// 503: the store is full.
    #[error("the token store is full, so nothing was recorded; try again later")]
    StoreFull {
        /// Time after which there may be room again.
        retry_after: Duration,
    },
    /// 503: the store is unavailable, and with `redis.when_lost = "refuse"` nothing is issued or
    /// accepted without it. It says nothing about the token, which may be valid.
    #[error("the token store is unavailable; try again later")]
    StoreUnavailable,
    /// 503: the keys of a JWT's issuer were never fetched. It says nothing about the JWT, which may
    /// be valid.
    #[error("the issuer of the JWT is unavailable, so the JWT cannot be checked; try again later")]
    IssuerUnavailable,
    /// 429 if the bound of a token or principal is reached, 503 if the bound of the instance is.
    #[error("{0}")]
    NoStream(OpenError),
    /// 503: the instance is not ready, or drains.
    #[error("this instance is starting or stopping; try again")]
    NotReady,
    /// 505: a stream over HTTP/1.0 would have neither chunks nor an end.
    #[error("a stream needs HTTP/1.1 (nginx: proxy_http_version 1.1)")]
    HttpVersion,
    /// 503: the event log is unavailable.
    #[error("the event log is unavailable, so the event was not published")]
    LogUnavailable {
        /// Time after which to try again.
        retry_after: Duration,
    },
    /// 503: it is not known whether the event is in the log.
    #[error(
        "the event log gave no answer, so the event may have been published; repeat it with the same Idempotency-Key, and it is published once"
    )]
    OutcomeUnknown {
        /// Time after which to try again.
        retry_after: Duration,
    },
    /// 422: the idempotency key belongs to another event.
    #[error("this Idempotency-Key was used for another event; give each event a separate key")]
    KeyReused,
    /// 500: a defect of this service, described in the log.
    #[error("the service has a defect; its log has the details under this request id")]
    Internal,
}

/// The body of every error response.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// Always `about:blank`: `code` distinguishes the cases.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    problem_type: &'static str,
    /// The status as text.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Text for people: what is wrong and what to do.
    detail: String,
    /// Stable name for programs.
    #[schema(example = "token_refused")]
    code: &'static str,
    /// Id of the request in the log, which has a line for each 5xx except 505, and at level debug
    /// for others.
    request_id: String,
}

impl Problem {
    /// A 400 with an explanation, which must not repeat any part of the request.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest(detail.into())
    }

    /// Stable name of the problem.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::CredentialMissing | Self::StreamTokenMissing => "credential_missing",
            Self::CredentialWrong | Self::ClientWrong => "credential_wrong",
            Self::JwtRefused(refused) if refused.claim.is_some() => "jwt_claim_unusable",
            Self::JwtRefused(_) => "jwt_refused",
            Self::CredentialsConflict => "credentials_conflict",
            Self::TokenRefused => "token_refused",
            Self::PrincipalInQuery => "principal_in_query",
            Self::NotPermitted(_) => "not_permitted",
            Self::SubjectBlocked => "subject_blocked",
            Self::UnknownParameter(_) => "unknown_parameter",
            Self::BadRequest(_) => "bad_request",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge | Self::EventTooLarge => "body_too_large",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::RateLimited { .. } => "rate_limited",
            Self::StoreFull { .. } => "store_full",
            Self::StoreUnavailable => "store_unavailable",
            Self::IssuerUnavailable => "issuer_unavailable",
            Self::NoStream(OpenError::Full) => "streams_full",
            Self::NoStream(OpenError::TokenLimit | OpenError::PrincipalLimit) => "too_many_streams",
            Self::NoStream(OpenError::SubjectLimit) => "subject_streams_full",
            Self::NoStream(OpenError::Draining) => "draining",
            Self::LogUnavailable { .. } => "log_unavailable",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::KeyReused => "idempotency_key_reused",
            Self::NotReady => "not_ready",
            Self::HttpVersion => "http_version",
            Self::Internal => "internal",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after }
            | Self::StoreFull { retry_after }
            | Self::LogUnavailable { retry_after }
            | Self::OutcomeUnknown { retry_after } => Some(*retry_after),
            Self::NoStream(_) | Self::NotReady | Self::StoreUnavailable | Self::IssuerUnavailable => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    /// The response.
    #[must_use]
    pub fn response(&self, request_id: &RequestId) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        response.insert_header((CACHE_CONTROL, "no-store"));
        if status == StatusCode::UNAUTHORIZED {
            let is_client = matches!(self, Self::ClientWrong);
            response.insert_header((
                WWW_AUTHENTICATE,
                if is_client { BASIC_CHALLENGE } else { BEARER_CHALLENGE },
            ));
        }
        if let Some(wait) = self.retry_after() {
            // Whole seconds, rounded up (RFC 9110 §10.2.3).
            response.insert_header((RETRY_AFTER, wait.as_millis().div_ceil(1000).max(1).to_string()));
        }
        if let Self::MethodNotAllowed(allowed) = self {
            response.insert_header((ALLOW, allowed.as_str()));
        }
        if matches!(self, Self::BodyTimeout | Self::BodyTooLarge) {
            // The rest of the body is still to come, so no further request can be read from this
            // connection.
            response.force_close();
        }
        let body = ProblemBody {
            problem_type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
            code: self.code(),
            request_id: request_id.to_string(),
        };
        response.body(serde_json::to_vec(&body).unwrap_or_default())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::CredentialMissing
            | Self::StreamTokenMissing
            | Self::CredentialWrong
            | Self::ClientWrong
            | Self::JwtRefused(_) => StatusCode::UNAUTHORIZED,
            Self::CredentialsConflict | Self::UnknownParameter(_) | Self::BadRequest(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::TokenRefused | Self::PrincipalInQuery | Self::NotPermitted(_) | Self::SubjectBlocked => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge | Self::EventTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited { .. }
            | Self::NoStream(OpenError::TokenLimit | OpenError::PrincipalLimit | OpenError::SubjectLimit) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::StoreFull { .. }
            | Self::StoreUnavailable
            | Self::IssuerUnavailable
            | Self::NoStream(OpenError::Full | OpenError::Draining)
            | Self::NotReady
            | Self::LogUnavailable { .. }
            | Self::OutcomeUnknown { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Empty: the middleware writes the body, because it has the request's id.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl From<RefusedJwt> for Problem {
    fn from(refused: RefusedJwt) -> Self {
        if refused.reason == JwtRefusal::NoKeys { Self::IssuerUnavailable } else { Self::JwtRefused(refused) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        if refusal == Refusal::Unproven { Self::StoreUnavailable } else { Self::TokenRefused }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        Self::NoStream(error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { retry_after } => Self::StoreFull { retry_after },
            StoreError::Unavailable => Self::StoreUnavailable,
        }
    }
}

impl From<TooManyLists> for Problem {
    fn from(TooManyLists: TooManyLists) -> Self {
        // A list takes a second at most.
        Self::RateLimited { retry_after: Duration::from_secs(1) }
    }
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::GrantTooLong => Self::bad_request(error.to_string()),
            IssueError::SubjectBlocked => Self::SubjectBlocked,
            IssueError::Store(error) => error.into(),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unavailable { retry_after } => Self::LogUnavailable { retry_after },
            PublishError::Unknown { retry_after } => Self::OutcomeUnknown { retry_after },
            PublishError::KeyReused => Self::KeyReused,
        }
    }
}
