//! Effects: each gets exactly one audit line, whatever happens to its request.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Act, Asker, Audit, Named, SubjectOrder};
use crate::principal::PrincipalId;
use crate::telemetry::RequestId;

/// Kind of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Issuing a token.
    Issue,
    /// Publishing an event.
    Publish,
    /// Revoking a token.
    Revoke {
        /// Its public name.
        token_id: String,
    },
    /// An order about a subject.
    Subject(SubjectOrder),
    /// Ending streams.
    EndStreams {
        /// Name of the field that selects them.
        by: &'static str,
        /// Its value, unless it is a subject or a topic.
        selected: Option<String>,
    },
}

impl Begun {
    /// The act with an unknown outcome.
    fn unknown<'a>(&'a self, principal: &'a str) -> Act<'a> {
        match self {
            Self::Issue => Act::Issue { token_id: None, principal, outcome: Some("unknown") },
            Self::Publish => Act::Publish { event_id: None, principal, outcome: "unknown" },
            Self::Revoke { token_id } => Act::Revoke { token_id, principal, effective: "unknown" },
            Self::Subject(order) => order.act(principal, "unknown"),
            Self::EndStreams { by, selected } => {
                let selected = selected.as_deref();
                Act::EndStreams { by, selected, principal, ended: None, effective: "unknown" }
            }
        }
    }
}

/// An effect that has begun. Its line is written by [`Self::ended`], or with the outcome `unknown`
/// when it is dropped before, for example because its task was cancelled.
pub struct Effect {
    audit: Arc<Audit>,
    named: Named,
    principal: PrincipalId,
    client: IpAddr,
    request_id: Option<RequestId>,
    user: Option<String>,
    /// `None` after its line was written.
    begun: Option<Begun>,
}

impl Effect {
    /// Begins an effect for `principal`.
    #[must_use]
    pub fn begin(audit: &Arc<Audit>, begun: Begun, principal: &PrincipalId, asker: Asker<'_>) -> Self {
        Self {
            audit: Arc::clone(audit),
            named: Named::default(),
            principal: principal.clone(),
            client: asker.client,
            request_id: asker.request_id.cloned(),
            user: asker.user.map(ToOwned::to_owned),
            begun: Some(begun),
        }
    }

    /// Adds subject and topics to its line.
    #[must_use]
    pub fn about(mut self, named: Named) -> Self {
        self.named = named;
        self
    }

    /// Writes the line of the act.
    pub fn ended(mut self, act: Act<'_>) {
        self.begun = None;
        self.audit.write(act, &self.named, self.asker());
    }

    /// Writes no line, because nothing was done.
    pub fn came_to_nothing(mut self) {
        self.begun = None;
    }

    fn asker(&self) -> Asker<'_> {
        Asker { client: self.client, request_id: self.request_id.as_ref(), user: self.user.as_deref() }
    }
}

impl Drop for Effect {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.audit.write(begun.unknown(self.principal.as_str()), &self.named, self.asker());
        }
    }
}
