//! Health: for people, load balancers and orchestrators. None of it ever depends on Redis.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::error::{Problem, ProblemBody};
use super::problem_docs::Proxied;
use super::tokens::json;
use crate::store::Backend;

/// Health of the instance.
#[derive(Serialize, ToSchema)]
pub(super) struct HealthBody<'a> {
    /// `ok`, or `degraded` while Redis or the event log is unavailable.
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "operator_backend")]
    service: &'static str,
    version: &'static str,
    /// RFC 3339.
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(example = "1")]
    instance_id: &'a str,
    backend: Backend,
    /// Whether the event log is available; always without Redis.
    event_log_in_reach: bool,
    /// Live tokens that this instance knows.
    ephemeral_token_cache_size: u64,
}

/// Name of the module that answers.
#[derive(Serialize, ToSchema)]
pub(super) struct ModuleBody {
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "operator")]
    module: &'static str,
}

/// State of the instance.
#[derive(Serialize, ToSchema)]
pub(super) struct ProbeBody {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Health of the instance.
#[utoipa::path(
    get, path = "/operator/api/health", tag = "health",
    responses((status = 200, description = "Health of the instance", body = HealthBody), Proxied)
)]
pub(super) async fn report(state: Data<AppState>) -> Result<HttpResponse, Problem> {
    let live = state.tokens.statistics().await?.live;
    let backend = state.tokens.backend();
    let event_log_in_reach = state.hub.is_log_available();
    let is_degraded = backend == Backend::FallbackMemory || !event_log_in_reach;
    Ok(json(&HealthBody {
        status: if is_degraded { "degraded" } else { "ok" },
        service: "operator_backend",
        version: env!("CARGO_PKG_VERSION"),
        timestamp: state.clock.now().rfc3339(),
        instance_id: &state.instance_id,
        backend,
        event_log_in_reach,
        ephemeral_token_cache_size: live,
    }))
}

/// Health of the instance, for probes of the predecessor.
#[utoipa::path(
    post, path = "/operator/api/health", tag = "health",
    responses((status = 200, description = "Health of the instance", body = HealthBody), Proxied)
)]
pub(super) async fn report_by_post(state: Data<AppState>) -> Result<HttpResponse, Problem> {
    report(state).await
}

/// Name of the module that answers.
#[utoipa::path(
    get, path = "/health", tag = "health",
    responses((status = 200, description = "Name of the module", body = ModuleBody))
)]
pub(super) async fn module() -> HttpResponse {
    json(&ModuleBody { status: "ok", module: "operator" })
}

/// Liveness. A failure means: restart the instance.
#[utoipa::path(
    get, path = "/health/live", tag = "health",
    responses((status = 200, description = "The instance is alive", body = ProbeBody))
)]
pub(super) async fn live() -> HttpResponse {
    json(&ProbeBody { status: "ok" })
}

/// Readiness. A failure means: send requests to another instance.
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses(
        (status = 200, description = "The instance is ready", body = ProbeBody),
        (status = 503, description = "The instance is starting or draining", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ready(state: Data<AppState>) -> Result<HttpResponse, Problem> {
    if state.lifecycle.is_ready() { Ok(json(&ProbeBody { status: "ok" })) } else { Err(Problem::NotReady) }
}
