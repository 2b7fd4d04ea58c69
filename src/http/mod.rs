//! HTTP: the only code that knows actix. Requests come in here, are turned into calls of the
//! services, and their outcomes into responses.
//!
//! `routes` is the one table of URLs; `error` the one place that chooses status codes; `observe`
//! the one middleware around everything.

mod admin;
mod authorise;
mod connections;
mod effects;
mod error;
mod events;
mod extract;
mod health;
mod held;
mod limit;
mod middleware;
mod openapi;
pub(crate) mod panel;
mod problem_docs;
mod routes;
mod server;
mod stream;
mod tokens;
mod unread_body;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use effects::Effects;
pub use error::Problem;
pub use limit::Limits;
pub use routes::{Endpoint, endpoints};
pub use server::{ExtraRoutes, ListenerHandle, ServerSettings, serve};

use crate::audit::Audit;
use crate::clock::Clock;
use crate::events::{EventBus, Hub};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::service::TokenService;
use crate::telemetry::RequestIds;

/// What handlers work with; one for the whole process.
pub struct AppState {
    /// Issues and judges tokens.
    pub tokens: TokenService,
    /// Streams of this instance.
    pub hub: Arc<Hub>,
    /// Where events are published.
    pub bus: Arc<dyn EventBus>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Who was let do what.
    pub audit: Arc<Audit>,
    /// Effects that are finished although their client has gone.
    pub effects: Effects,
    /// Starting, ready or draining.
    pub lifecycle: Arc<Lifecycle>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Rates that are limited.
    pub limits: Arc<Limits>,
    /// Names requests.
    pub request_ids: RequestIds,
    /// Names this instance.
    pub instance_id: String,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest time for a request's body to arrive.
    pub body_timeout: Duration,
    /// Whether `?token=` may hold a principal's credential.
    pub principal_in_query: bool,
}
