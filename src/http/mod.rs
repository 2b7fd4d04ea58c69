//! HTTP: the only code that uses actix. It turns requests into calls of the services, and outcomes
//! into responses.
//!
//! `routes` is the table of all URLs and of who may call them, `error` chooses all status codes,
//! and `middleware` is around all handlers.

mod admin;
mod admission;
mod authorise;
mod connections;
mod cookie;
mod cors;
mod effects;
mod error;
mod events;
mod extract;
mod fields;
mod health;
mod held;
mod issue_body;
mod jwt;
mod limit;
mod middleware;
mod oauth;
mod openapi;
pub(crate) mod panel;
mod permission;
mod problem_docs;
mod routes;
mod server;
mod stream;
mod streams;
mod subjects;
mod tokens;
mod unread_body;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use effects::Effects;
pub use error::Problem;
pub use limit::Limits;
pub use permission::Lack;
pub use routes::{Caller, Endpoint, endpoints};
pub use server::{ExtraRoutes, ListenerHandle, ServerSettings, serve};

use crate::audit::Audit;
use crate::clock::Clock;
use crate::control::{Admission, Control};
use crate::events::{EventLog, Hub};
use crate::identity::Identity;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::service::TokenService;
use crate::telemetry::RequestIds;
use crate::token::Subject;

/// State for handlers, one for the whole process.
pub struct AppState {
    /// The token service.
    pub tokens: Arc<TokenService>,
    /// Identity providers, whose JWTs are credentials.
    pub identity: Arc<Identity>,
    /// Control over subjects and streams.
    pub control: Arc<Control>,
    /// Limits of subjects, and single-use tokens.
    pub admission: Arc<Admission>,
    /// The hub of this instance.
    pub hub: Arc<Hub>,
    /// The event log.
    pub event_log: Arc<dyn EventLog>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The audit trail.
    pub audit: Arc<Audit>,
    /// Effects that outlive their request.
    pub effects: Effects,
    /// State of the process.
    pub lifecycle: Arc<Lifecycle>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Rate limits.
    pub limits: Arc<Limits>,
    /// Source of request ids.
    pub request_ids: RequestIds,
    /// Name of this instance.
    pub instance_id: String,
    /// Address of the service as clients see it, without a path.
    pub public_url: Option<String>,
    /// Networks of trusted proxies.
    pub trusted_proxies: Vec<IpNet>,
    /// Deadline of a request's body.
    pub body_timeout: Duration,
    /// Whether `?token=` may hold a principal's credential.
    pub principal_in_query: bool,
    /// Whether pages of other sites send the cookie with a token.
    pub cookie_for_other_sites: bool,
    /// Whether logs and the audit trail may contain subjects and topics. Otherwise they have a hash
    /// of the subject and the number of the topics.
    pub log_subjects: bool,
}

impl AppState {
    /// A subject as logs and the audit trail may name it.
    fn shown(&self, subject: &Subject) -> String {
        if self.log_subjects { subject.as_str().to_owned() } else { self.tokens.subject_hash(subject) }
    }
}
