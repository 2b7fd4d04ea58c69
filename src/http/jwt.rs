//! JWTs of identity providers as credentials. A JWT is the credential of its issuer, for one end
//! user; tokens that are issued for it are within the JWT.

use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest};

use super::AppState;
use super::error::Problem;
use super::extract::{Places, failed, presented};
use super::permission::Lack;
use crate::metrics::BlockedAttempt;
use crate::principal::{Principal, User};
use crate::service::IssueRequest;
use crate::token::Subject;

/// The end user whose JWT is the credential of a request, for the audit trail.
struct ActingUser(Subject);

/// The user of a request's JWT as the audit trail may name it.
pub(super) fn acting_user(request: &HttpRequest, state: &AppState) -> Option<String> {
    request.extensions().get::<ActingUser>().map(|ActingUser(subject)| state.shown(subject))
}

/// The principal of a credential, which is its secret or a JWT of its issuer. `None`: it is
/// neither.
///
/// # Errors
/// The JWT is refused. That counts as a failed authentication.
pub(super) fn holder(
    request: &HttpRequest,
    state: &AppState,
    credential: &[u8],
) -> Result<Option<Arc<Principal>>, Problem> {
    if let Some(principal) = state.tokens.authenticate(credential) {
        return Ok(Some(principal));
    }
    if !state.identity.is_for_us(credential) {
        return Ok(None);
    }
    user_of(request, state, std::str::from_utf8(credential).unwrap_or_default()).map(Some)
}

/// The principal of a JWT.
///
/// # Errors
/// The JWT is refused. That counts as a failed authentication.
pub(super) fn user_of(request: &HttpRequest, state: &AppState, jwt: &str) -> Result<Arc<Principal>, Problem> {
    let principal =
        state.identity.authenticate(jwt).map_err(|refused| failed(request, state, refused.into()))?;
    if let Some(user) = principal.user() {
        request.extensions_mut().insert(ActingUser(user.subject.clone()));
    }
    Ok(principal)
}

/// Checks that the user of a JWT may open something. Counts the attempt of a blocked one.
///
/// # Errors
/// The user is blocked.
pub(super) fn may_open(state: &AppState, user: &User) -> Result<(), Problem> {
    if !state.control.is_blocked(&user.subject) {
        return Ok(());
    }
    state.metrics.control.blocked_attempts.inc(BlockedAttempt::Open);
    Err(Problem::SubjectBlocked)
}

/// Waits for the keys of an issuer if the JWT of a request names one that is not known yet. A
/// request without a JWT does not wait.
pub(super) async fn learn_key(request: &HttpRequest, state: &AppState) {
    if !state.identity.has_issuers() {
        return;
    }
    let Ok(Some(credential)) = presented(request, Places::Headers) else { return };
    if !state.identity.is_for_us(&credential.value) {
        return;
    }
    if let Ok(jwt) = std::str::from_utf8(&credential.value) {
        state.identity.learn_key_of(jwt).await;
    }
}

/// The request for a token, within the JWT of its principal: its subject, its topics unless others
/// are named, and no longer than the JWT. The caller checks the topics. Other principals get what
/// they ask for.
///
/// # Errors
/// The request is for another subject.
pub(super) fn within_jwt(
    principal: &Principal,
    wish: Option<IssueRequest>,
) -> Result<Option<IssueRequest>, Lack> {
    let Some(user) = principal.user() else { return Ok(wish) };
    let by_default = || IssueRequest { topics: principal.topics_by_default(), ..IssueRequest::default() };
    let wish = wish.unwrap_or_else(by_default);
    if wish.subject.as_ref().is_some_and(|subject| *subject != user.subject) {
        return Err(Lack::Subject);
    }
    Ok(Some(IssueRequest { subject: Some(user.subject.clone()), not_after: Some(user.until), ..wish }))
}
