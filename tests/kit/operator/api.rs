//! A service as its clients see it, be it one instance or the balancer in front of all: an address
//! and a credential.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Client, RequestBuilder};

/// Longer than any request may take; what takes longer counts as not answered.
pub(super) const UNANSWERED: Duration = Duration::from_secs(5);
/// Shorter than the server keeps an idle connection, so that no request is sent on one that is
/// being closed.
const IDLE: Duration = Duration::from_secs(2);

/// Target and principal of calls.
#[derive(Clone)]
pub struct Api {
    base: String,
    /// The same for all copies, so that they can be given another.
    principal: Arc<RwLock<String>>,
    life: Duration,
    client: Client,
}

impl Api {
    /// An interface at `base`, such as `http://127.0.0.1:8001`, whose tokens have the lifetime
    /// `life`.
    #[must_use]
    pub fn new(base: &str, principal: &str, life: Duration) -> Self {
        let client = Client::builder().no_proxy().timeout(UNANSWERED).pool_idle_timeout(IDLE).build();
        Self {
            base: base.to_owned(),
            principal: Arc::new(RwLock::new(principal.to_owned())),
            life,
            client: client.expect("a client can be built"),
        }
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.base.split("://").last().unwrap_or_default().trim_end_matches('/')
    }

    /// Lifetime of its tokens.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// From now on this one and all its copies present another credential.
    pub fn present(&self, principal: &str) {
        let mut own = self.principal.write().unwrap_or_else(PoisonError::into_inner);
        principal.clone_into(&mut own);
    }

    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.as_principal(self.client.get(format!("{}{path}", self.base)))
    }

    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.as_principal(self.client.post(format!("{}{path}", self.base)))
    }

    fn as_principal(&self, request: RequestBuilder) -> RequestBuilder {
        let own = self.principal.read().unwrap_or_else(PoisonError::into_inner);
        request.header("X-VX11-Token", own.as_str())
    }

    /// A request of an `EventSource`: without the principal, for what a token opens, and without an
    /// end.
    pub(super) fn get_as_client(&self, path: &str) -> RequestBuilder {
        self.get_without_end(path).header("Accept", "text/event-stream")
    }

    /// The same of a client that takes any type.
    pub(super) fn get_without_end(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base)).timeout(Duration::from_hours(1))
    }
}
