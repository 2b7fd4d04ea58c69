//! Revoking, blocking and unblocking subjects.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::AppState;
use super::effects::begin;
use super::error::Problem;
use super::extract::{Members, members, only_parameters, principal};
use super::fields::{SUBJECT, subject, subject_schema, whole_number};
use super::problem_docs::Controlling;
use super::tokens::{EffectiveBody, json};
use crate::audit::{Begun, Effect, Named, SubjectOrder};
use crate::limits::LONGEST_BLOCK_SECONDS;
use crate::principal::{Principal, PrincipalId};
use crate::store::{RevocationScope, StoreError};
use crate::token::Subject;

const SECONDS: &str = "seconds";

/// The subject that an order is about.
pub(super) struct SubjectBody;

impl PartialSchema for SubjectBody {
    fn schema() -> RefOr<Schema> {
        let body = ObjectBuilder::new()
            .description(Some("The subject that an order is about."))
            .property(SUBJECT, subject_schema("End user, as tokens name it"))
            .required(SUBJECT);
        let body = body.additional_properties(Some(AdditionalProperties::FreeForm(false)));
        body.examples([json!({ "subject": "user-7" })]).into()
    }
}

impl ToSchema for SubjectBody {}

/// A subject to block, and for how long.
pub(super) struct BlockBody;

impl PartialSchema for BlockBody {
    fn schema() -> RefOr<Schema> {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .description(Some("Length of the block in seconds, from now on"))
            .minimum(Some(1_u32))
            .maximum(Some(LONGEST_BLOCK_SECONDS));
        let body = ObjectBuilder::new()
            .description(Some("A subject to block, and for how long."))
            .property(SUBJECT, subject_schema("End user, as tokens name it"))
            .property(SECONDS, seconds)
            .required(SUBJECT)
            .required(SECONDS);
        let body = body.additional_properties(Some(AdditionalProperties::FreeForm(false)));
        body.examples([json!({ "subject": "user-7", "seconds": 900 })]).into()
    }
}

impl ToSchema for BlockBody {}

/// Scope and end of a block.
#[derive(Serialize, ToSchema)]
pub(super) struct BlockedBody {
    /// `cluster`, or `instance` while Redis is unavailable.
    effective: RevocationScope,
    /// End of the block, RFC 3339.
    #[schema(format = DateTime, example = "2026-01-01T00:15:00.000Z")]
    until: String,
}

/// Refuse every token that was issued to a subject until now.
///
/// Its streams end. Tokens that are issued to it from now on are valid.
#[utoipa::path(
    post, path = "/operator/api/subjects/revoke", operation_id = "revoke_subject", tag = "control", security(("principal" = []), ("bearer" = [])),
    request_body = SubjectBody,
    responses(
        (status = 200, description = "The tokens are not valid any more, whether or not there are any", body = EffectiveBody),
        Controlling,
    )
)]
pub(super) async fn revoke(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let (principal, members) = asked(&request, payload, &state).await?;
    let subject = only_subject(&members)?;
    let given = Given::begin(&request, &state, principal.id(), &subject, SubjectOrder::Revoke);
    let control = Arc::clone(&state.control);
    let revoking = async move { control.revoke_subject(subject).await };
    let effective = given.carry_out(&state, revoking, |effective| *effective).await?;
    Ok(json(&EffectiveBody { effective }))
}

/// Block a subject for some time.
///
/// Its streams end. Until the end of the block, no token is issued to it, and its tokens open
/// nothing. A later block of the subject replaces this one, also if it ends earlier.
#[utoipa::path(
    post, path = "/operator/api/subjects/block", operation_id = "block_subject", tag = "control", security(("principal" = []), ("bearer" = [])),
    request_body = BlockBody,
    responses((status = 200, description = "The subject is blocked", body = BlockedBody), Controlling)
)]
pub(super) async fn block(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let (principal, members) = asked(&request, payload, &state).await?;
    members.only(&[SUBJECT, SECONDS], "this call takes the fields subject and seconds")?;
    let (subject, seconds) = (required_subject(&members)?, seconds(&members)?);
    let order = SubjectOrder::Block { seconds };
    let given = Given::begin(&request, &state, principal.id(), &subject, order);
    let control = Arc::clone(&state.control);
    let blocking = async move { control.block(subject, Duration::from_secs(seconds.into())).await };
    let (effective, until) = given.carry_out(&state, blocking, |(effective, _)| *effective).await?;
    Ok(json(&BlockedBody { effective, until: until.rfc3339() }))
}

/// End the block of a subject.
///
/// Its tokens that have not expired are valid again.
#[utoipa::path(
    post, path = "/operator/api/subjects/unblock", operation_id = "unblock_subject", tag = "control", security(("principal" = []), ("bearer" = [])),
    request_body = SubjectBody,
    responses(
        (status = 200, description = "The subject is not blocked any more, whether or not it was before", body = EffectiveBody),
        Controlling,
    )
)]
pub(super) async fn unblock(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let (principal, members) = asked(&request, payload, &state).await?;
    let subject = only_subject(&members)?;
    let given = Given::begin(&request, &state, principal.id(), &subject, SubjectOrder::Unblock);
    let control = Arc::clone(&state.control);
    let unblocking = async move { control.unblock(subject).await };
    let effective = given.carry_out(&state, unblocking, |effective| *effective).await?;
    Ok(json(&EffectiveBody { effective }))
}

/// The principal that gives an order, and the fields of its request.
async fn asked(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
) -> Result<(Arc<Principal>, Members), Problem> {
    let principal = principal(request, state)?;
    only_parameters(request, &[])?;
    let members = members(request, payload, state.body_timeout).await?;
    Ok((principal, members))
}

fn only_subject(members: &Members) -> Result<Subject, Problem> {
    members.only(&[SUBJECT], "this call takes the field subject")?;
    required_subject(members)
}

fn required_subject(members: &Members) -> Result<Subject, Problem> {
    subject(members)?.ok_or(Problem::bad_request("subject is missing; it names the end user"))
}

fn seconds(members: &Members) -> Result<u32, Problem> {
    let seconds = members.get(SECONDS);
    let seconds = seconds.ok_or(Problem::bad_request("seconds is missing; it is the length of the block"))?;
    whole_number(seconds, 1, LONGEST_BLOCK_SECONDS, "seconds has to be a whole number of seconds")
}

/// An order about a subject that was begun: its log line and its audit line.
struct Given {
    order: SubjectOrder,
    principal: PrincipalId,
    /// The subject as logs may name it.
    shown: String,
    effect: Option<Effect>,
}

impl Given {
    fn begin(
        request: &HttpRequest,
        state: &AppState,
        principal: &PrincipalId,
        subject: &Subject,
        order: SubjectOrder,
    ) -> Self {
        let shown = state.shown(subject);
        let effect = begin(request, state, principal, Begun::Subject(order));
        let named = Named { subject: Some(shown.clone()), ..Named::default() };
        let effect = effect.map(|effect| effect.about(named));
        Self { order, principal: principal.clone(), shown, effect }
    }

    /// Carries out the order, also if its client leaves, and notes it with its scope.
    async fn carry_out<T: Send + 'static>(
        self,
        state: &AppState,
        order: impl Future<Output = Result<T, StoreError>> + Send + 'static,
        scope: fn(&T) -> RevocationScope,
    ) -> Result<T, Problem> {
        let noted = async move {
            let outcome = order.await;
            self.note(outcome.as_ref().ok().map(scope));
            outcome
        };
        Ok(state.effects.run(noted).await??)
    }

    /// Notes the order with its scope; `None` if there was no room for it.
    fn note(self, scope: Option<RevocationScope>) {
        let effective = scope.map_or("failed", RevocationScope::as_str);
        let Self { order, principal, shown, effect } = self;
        let (subject, order_name) = (shown.as_str(), order.name());
        tracing::info!(%principal, subject, effective, order = order_name, "order about a subject");
        if let Some(effect) = effect {
            effect.ended(order.act(principal.as_str(), effective));
        }
    }
}
