//! Settings of an issuer.

use std::collections::HashSet;

use hyper::Uri;

use super::keys::{Algorithm, KeySet};
use super::template::{ClaimError, Claims, SubjectTemplate, TopicTemplate};
use crate::clock::UnixMillis;
use crate::principal::{Principal, PrincipalId, Rights, User};
use crate::topic::{Pattern, Patterns};

/// Source of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Keys of a file, already read.
    File(KeySet),
    /// Address from which they are fetched.
    Url(Uri),
}

/// An identity provider whose JWTs are credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Name of the principal that its JWTs belong to.
    pub id: PrincipalId,
    /// The claim `iss` of its JWTs.
    pub issuer: String,
    /// A value that the claim `aud` of its JWTs has to contain.
    pub audience: String,
    /// Source of its keys.
    pub keys: KeySource,
    /// Algorithms that its JWTs may use.
    pub algorithms: Vec<Algorithm>,
    /// Rights of each JWT.
    pub rights: Rights,
    /// Topics of a JWT; 1 to 16.
    pub topics: Vec<TopicTemplate>,
    /// Subject of a JWT.
    pub subject: SubjectTemplate,
}

impl IssuerSettings {
    /// The issuer as a principal: its topics cover those of every JWT. With it, instances verify
    /// the tokens that were issued for JWTs, without the JWTs.
    #[must_use]
    pub fn principal(&self) -> Principal {
        let mut seen = HashSet::new();
        let bounds = self.topics.iter().map(TopicTemplate::bound).filter(|bound| seen.insert(*bound));
        let bounds = Patterns::new(bounds.map(Pattern::as_str)).unwrap_or_default();
        Principal::new(self.id.clone(), self.rights, bounds)
    }

    /// The principal of a JWT with these claims.
    pub(super) fn principal_of(
        &self,
        claims: &impl Claims,
        until: UnixMillis,
    ) -> Result<Principal, ClaimError> {
        let topics = self.topics.iter().map(|topic| topic.fill(claims));
        let topics = topics.collect::<Result<HashSet<_>, _>>()?;
        let mut topics: Vec<_> = topics.iter().map(String::as_str).collect();
        topics.sort_unstable();
        let topics = Patterns::new(topics).map_err(|_| ClaimError::TooLong)?;
        let user = User { subject: self.subject.fill(claims)?, until };
        Ok(Principal::of_user(self.id.clone(), self.rights, topics, user))
    }
}
