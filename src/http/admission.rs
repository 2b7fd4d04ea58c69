//! Admission of streams: the ticket of a token, and answers to streams that are not admitted.

use super::AppState;
use super::error::Problem;
use crate::control::{NotAdmitted, Ticket};
use crate::events::OpenError;
use crate::service::{Introspection, Refusal};
use crate::token::Verified;

/// The ticket that a single-use token is.
pub(super) fn ticket(verified: &Verified, granted: &Introspection) -> Option<Ticket> {
    let is_ticket = granted.grant.as_ref().is_some_and(|grant| grant.single_use);
    is_ticket.then(|| Ticket { digest: verified.token.digest(), expires_at: granted.expires_at })
}

/// The answer to a stream or request that is not admitted; also counts it. Its token is genuine, so
/// it is no failed authentication.
pub(super) fn not_admitted(state: &AppState, reason: NotAdmitted) -> Problem {
    let refused = |refusal: Refusal| -> Problem {
        state.metrics.token_refused(refusal);
        refusal.into()
    };
    match reason {
        NotAdmitted::SubjectLimit => {
            state.metrics.stream_refused(OpenError::SubjectLimit);
            OpenError::SubjectLimit.into()
        }
        NotAdmitted::Used => refused(Refusal::Used),
        NotAdmitted::Unproven => refused(Refusal::Unproven),
        NotAdmitted::Full { retry_after } => Problem::StoreFull { retry_after },
    }
}
