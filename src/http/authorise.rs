//! Checks of a credential for a reverse proxy, which asks before it passes a request to a backend
//! that knows no tokens (nginx: `auth_request`).

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Data, ReqData};
use actix_web::{HttpRequest, HttpResponse};
use tokio::time::Instant;

use super::AppState;
use super::admission::{not_admitted, ticket};
use super::error::{Problem, ProblemBody};
use super::extract::{Bearer, credential, refused};
use super::jwt::may_open;
use super::tokens::scope;
use crate::telemetry::RequestId;
use crate::topic::Patterns;

/// Check a credential.
///
/// The credential is presented as on the stream, and refused for the same reasons. For reverse
/// proxies; it should not be reachable from outside.
#[utoipa::path(
    get, path = "/operator/internal/authorise", tag = "administration",
    security(("token" = []), ("principal" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "The credential is valid", headers(
            ("X-VX11-Principal" = String, description = "Id of the principal"),
            ("X-VX11-Token-Id" = String, description = "Id of the token; absent if the credential is a principal's"),
            ("X-VX11-Subject" = String, description = "The end user whom the token is for; absent if it is for none"),
            ("X-VX11-Topics" = String, description = "The topics that the token, or a principal with limited topics, may read, separated by spaces. Absent for a token without a grant, which reads `default`, and for a principal without limits"),
        )),
        (status = 401, description = "No credential, or not that of a known principal", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The token is not valid, the credentials disagree (token_refused), a principal's credential is in the URL where that is forbidden (principal_in_query), or the principal lacks the right to subscribe (not_permitted)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many failures of this client; wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "With redis.when_lost = refuse: Redis cannot confirm now that the token is valid, or was not used before (store_unavailable); wait for Retry-After", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn authorise(
    request: HttpRequest,
    state: Data<AppState>,
    request_id: ReqData<RequestId>,
) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::NoContent();
    response.insert_header((CACHE_CONTROL, "no-store"));
    let (bearer, _) = credential(&request, &state).map_err(refused_for_good)?;
    match bearer {
        Bearer::Principal(principal) => {
            response.insert_header(("X-VX11-Principal", principal.id().as_str()));
            if *principal.topics() != Patterns::all() {
                response.insert_header(("X-VX11-Topics", scope(principal.topics())));
            }
            if let Some(user) = principal.user() {
                may_open(&state, user)?;
                response.insert_header(("X-VX11-Subject", user.subject.as_str()));
            }
        }
        Bearer::Token(verified) => {
            let began = Instant::now();
            let granted = state.tokens.authorise(&verified).await;
            let granted = granted.map_err(|refusal| refused(&request, &state, refusal))?;
            if let Some(ticket) = ticket(&verified, &granted) {
                let used = state.admission.use_ticket(ticket, &request_id.to_string(), began).await;
                used.map_err(|reason| not_admitted(&state, reason))?;
            }
            response.insert_header(("X-VX11-Principal", granted.principal.as_str()));
            response.insert_header(("X-VX11-Token-Id", granted.id.to_string()));
            if let Some(grant) = granted.grant {
                response.insert_header(("X-VX11-Topics", scope(&grant.topics)));
                if let Some(subject) = &grant.subject {
                    response.insert_header(("X-VX11-Subject", subject.as_str()));
                }
            }
        }
    }
    Ok(response.finish())
}

/// A proxy understands 401 and 403, and treats any other status as a failure of this service.
fn refused_for_good(problem: Problem) -> Problem {
    match problem {
        Problem::CredentialsConflict | Problem::BadRequest(_) => Problem::TokenRefused,
        other => other,
    }
}
