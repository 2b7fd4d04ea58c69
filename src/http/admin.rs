//! For administrators: figures, the instance's name, metrics.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::error::Problem;
use super::extract::principal;
use super::problem_docs::{NeedsPrincipal, Proxied};
use super::tokens::json;
use crate::clock::UnixMillis;
use crate::store::{Backend, BreakerState, MismatchKind};

/// Figures of the token cache.
#[derive(Serialize, ToSchema)]
pub(super) struct CacheStatsBody {
    /// The backend in use.
    backend: Backend,
    /// Live tokens of the cluster.
    cache_size: u64,
    /// Memory Redis uses, in bytes; null without Redis.
    redis_memory_bytes: Option<u64>,
    /// Commands Redis handles a second; null without Redis.
    redis_ops_per_sec: Option<u64>,
    /// Ids of a few live tokens.
    #[schema(example = json!(["3f9a1c0b5d7e2f48"]))]
    sample_tokens: Vec<String>,
    /// This instance.
    instance: InstanceBody,
    /// All instances with a recent member record.
    cluster: Vec<MemberBody>,
    /// Instances whose configuration contradicts this one's.
    warnings: Vec<WarningBody>,
}

/// One instance's own figures.
#[derive(Serialize, ToSchema)]
pub(super) struct InstanceBody {
    instance_id: String,
    /// Live tokens that this instance issued.
    active: u64,
    /// Open streams.
    streams: u64,
    /// Records and tombstones in memory that Redis does not have yet.
    fallback_entries: u64,
    /// State of the circuit breaker; null without Redis.
    breaker: Option<BreakerState>,
    /// Time since which Redis is unavailable, RFC 3339; null while it is available.
    #[schema(format = DateTime)]
    degraded_since: Option<String>,
    /// Whether the event log is available; always without Redis.
    event_log_in_reach: bool,
}

/// An instance, according to its member record.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberBody {
    instance_id: String,
    /// Age of the record in seconds.
    seen_seconds_ago: f64,
    /// Live tokens that it issued.
    active: u64,
    /// Streams open on it.
    streams: u64,
    /// Its release; null for releases that do not report it.
    version: Option<String>,
}

/// A contradiction between an instance and the one that answers.
#[derive(Serialize, ToSchema)]
pub(super) struct WarningBody {
    /// Kind of the contradiction.
    warning: MismatchKind,
    /// Name of that instance.
    instance_id: String,
}

/// An instance's name.
#[derive(Serialize, ToSchema)]
pub(super) struct InstanceIdBody<'a> {
    instance_id: &'a str,
}

/// Figures of tokens and streams.
#[utoipa::path(
    get, path = "/operator/internal/cache-stats", tag = "administration",
    security(("principal" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "Figures of the instance and the cluster", body = CacheStatsBody),
        NeedsPrincipal, Proxied,
    )
)]
pub(super) async fn cache_stats(
    request: HttpRequest,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    principal(&request, &state)?;
    let figures = state.tokens.statistics().await?;
    state.metrics.roll_expired(state.clock.now());
    let (active, streams) = (state.metrics.active_tokens(), state.metrics.open_streams());
    let instance_id = state.instance_id.clone();
    let version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let own =
        MemberBody { instance_id: instance_id.clone(), seen_seconds_ago: 0.0, active, streams, version };
    let others = figures.members.into_iter().map(|member| MemberBody {
        instance_id: member.instance_id,
        seen_seconds_ago: member.seen.as_secs_f64(),
        active: member.figures.active,
        streams: member.figures.streams,
        version: member.version,
    });
    let mut cluster: Vec<_> = std::iter::once(own).chain(others).collect();
    cluster.sort_by(|one, other| one.instance_id.cmp(&other.instance_id));
    let standby = figures.standby;
    Ok(json(&CacheStatsBody {
        backend: state.tokens.backend(),
        cache_size: figures.live,
        redis_memory_bytes: figures.redis.map(|redis| redis.memory_bytes),
        redis_ops_per_sec: figures.redis.map(|redis| redis.ops_per_second),
        sample_tokens: figures.sample.iter().map(ToString::to_string).collect(),
        instance: InstanceBody {
            instance_id,
            active,
            streams,
            fallback_entries: standby.map_or(0, |standby| standby.entries),
            breaker: standby.map(|standby| standby.breaker),
            degraded_since: standby.and_then(|standby| standby.degraded_since).map(UnixMillis::rfc3339),
            event_log_in_reach: state.hub.is_log_available(),
        },
        cluster,
        warnings: figures
            .mismatches
            .into_iter()
            .map(|mismatch| WarningBody { warning: mismatch.kind, instance_id: mismatch.instance_id })
            .collect(),
    }))
}

/// Name of the instance that answers.
#[utoipa::path(
    get, path = "/operator/internal/instance-id", tag = "administration",
    security(("principal" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "Name of the instance", body = InstanceIdBody),
        NeedsPrincipal, Proxied,
    )
)]
pub(super) async fn instance_id(
    request: HttpRequest,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    principal(&request, &state)?;
    Ok(json(&InstanceIdBody { instance_id: &state.instance_id }))
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "administration",
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(state: Data<AppState>) -> Result<HttpResponse, Problem> {
    state.metrics.roll_expired(state.clock.now());
    let page = state.metrics.render().map_err(|error| {
        tracing::error!(%error, "the metrics cannot be rendered");
        Problem::Internal
    })?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(page))
}
