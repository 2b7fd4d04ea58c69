//! The policy of tokens: issue, validity and revocation.
//!
//! [`TokenService`] decides whether a token is valid. It knows the codec, the principals and a
//! store behind a trait; it knows nothing of HTTP. The store decides whether a new token gets the
//! offline bit. The rule of validity is a table in `docs/architecture.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strum::{IntoStaticStr, VariantArray};

use crate::clock::{Clock, UnixMillis};
use crate::limits::{ISSUE_TIME_TOLERANCE, LONGEST_LIFE_SECONDS, TOMBSTONE_MARGIN};
use crate::metrics::{Metrics, StoreOperation};
use crate::principal::{PrincipalId, Principals};
use crate::store::{Backend, Lookup, Recorded, RevocationScope, StoreError, StoreStatistics, TokenStore};
use crate::token::{
    Claims, Codec, CodecError, Draft, LONGEST_TOMBSTONE, NonceSource, Record, Token, TokenId, Verified,
};

/// Dependencies of the service.
pub struct TokenServiceDeps {
    /// Mints and verifies.
    pub codec: Codec,
    /// The principals.
    pub principals: Principals,
    /// The store of records and tombstones.
    pub store: Arc<dyn TokenStore>,
    /// Source of nonces.
    pub nonces: NonceSource,
    /// Lifetime of a token.
    pub ttl: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Issues, authorises, introspects and revokes tokens.
pub struct TokenService {
    parts: TokenServiceDeps,
}

/// A token that was just issued.
#[derive(Debug)]
pub struct Issued {
    /// The token. The answer to its principal is the only place where it is written.
    pub token: Token,
    /// Id of the token.
    pub id: TokenId,
    /// Lifetime.
    pub ttl: Duration,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
    /// Backend that has its record.
    pub backend: Backend,
}

/// Properties of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// Principal to which the token was issued.
    pub principal: PrincipalId,
    /// Id of the token.
    pub id: TokenId,
    /// Time of issue.
    pub issued_at: UnixMillis,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
}

/// A token to be revoked, and the end of its tombstone.
#[derive(Debug, Clone, Copy)]
pub struct Revocation {
    /// The token.
    pub id: TokenId,
    until: UnixMillis,
}

/// Reason why a token is refused. Clients get the same answer for all reasons; metrics distinguish
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// The text does not have the form of a token.
    #[error("malformed")]
    Malformed,
    /// No instance has signed it, or its expiry is later than that of any token of an instance.
    #[error("forged")]
    Forged,
    /// It has expired.
    #[error("expired")]
    Expired,
    /// It was revoked.
    #[error("revoked")]
    Revoked,
    /// Its tag is right, but a store that is complete has no record of it.
    #[error("unknown")]
    Unknown,
    /// It is a principal's credential in the query, which the configuration forbids.
    #[error("principal in the query")]
    PrincipalInQuery,
}

impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Malformed => Self::Malformed,
            CodecError::Forged => Self::Forged,
            CodecError::Expired => Self::Expired,
        }
    }
}

impl TokenService {
    /// Creates the service.
    #[must_use]
    pub const fn new(parts: TokenServiceDeps) -> Self {
        Self { parts }
    }

    /// The principal whose credential `presented` is.
    #[must_use]
    pub fn authenticate(&self, presented: &[u8]) -> Option<&PrincipalId> {
        self.parts.principals.authenticate(presented)
    }

    /// Issues a token to `principal` and records it.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the store has no room; nothing was issued then.
    pub async fn issue(&self, principal: &PrincipalId) -> Result<Issued, StoreError> {
        let TokenServiceDeps { codec, store, nonces, ttl, clock, metrics, .. } = &self.parts;
        let issued_at = clock.now();
        let expires_at = issued_at.plus(*ttl);
        let last_second = expires_at.seconds_rounded_up();
        let record = Record { issued_at, expires_at };
        let draft = Draft::new(record, |offline| {
            codec.mint(principal, Claims { expires_at: last_second, offline, nonce: nonces.draw() })
        });
        let started = Instant::now();
        let Recorded { token, backend } = store.record(&draft).await?;
        metrics.store_operation(StoreOperation::Record, backend, started.elapsed());
        metrics.token_issued(last_second);
        Ok(Issued { token, id: token.digest().id(), ttl: *ttl, expires_at, backend })
    }

    /// Checks form, tag and expiry of a token, without any I/O.
    ///
    /// # Errors
    /// The reason, already counted.
    pub fn verify(&self, presented: &str) -> Result<Verified, Refusal> {
        self.check(presented).inspect_err(|refusal| self.parts.metrics.token_refused(*refusal))
    }

    /// Decides whether a verified token is valid: not revoked, and recorded if records are
    /// complete.
    ///
    /// # Errors
    /// The reason, already counted.
    pub async fn authorise(&self, verified: &Verified) -> Result<Introspection, Refusal> {
        self.judge(verified).await.inspect_err(|refusal| self.parts.metrics.token_refused(*refusal))
    }

    /// Properties of a token; `None` if it is not valid. Introspection is no attempt to open a
    /// stream, so a refusal is not counted.
    pub async fn introspect(&self, presented: &str) -> Option<Introspection> {
        let verified = self.check(presented).ok()?;
        self.judge(&verified).await.ok()
    }

    /// The revocation of a token; `None` for a text that is no token of ours, which needs none (RFC
    /// 7009 §2.2), and for a token that has expired. Open streams of an expired token end only if
    /// it is revoked by its id.
    #[must_use]
    pub fn revocation_of_token(&self, presented: &str) -> Option<Revocation> {
        let verified = self.check(presented).ok()?;
        let until = end_of(&verified).plus(TOMBSTONE_MARGIN);
        Some(Revocation { id: verified.token.digest().id(), until })
    }

    /// The revocation of the token with this id, also if it has expired.
    #[must_use]
    pub fn revocation_of_id(&self, id: TokenId) -> Revocation {
        Revocation { id, until: self.parts.clock.now().plus(LONGEST_TOMBSTONE) }
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the store has no room for the tombstone.
    pub async fn revoke(&self, revocation: Revocation) -> Result<RevocationScope, StoreError> {
        let TokenServiceDeps { store, metrics, .. } = &self.parts;
        let started = Instant::now();
        let reach = store.revoke(revocation.id, revocation.until).await?;
        metrics.store_operation(StoreOperation::Revoke, store.backend(), started.elapsed());
        Ok(reach)
    }

    /// Figures of the store.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        self.parts.store.statistics().await
    }

    /// The backend in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.parts.store.backend()
    }

    fn check(&self, presented: &str) -> Result<Verified, Refusal> {
        let TokenServiceDeps { codec, principals, clock, .. } = &self.parts;
        Ok(codec.verify(presented, clock.now(), principals.ids())?)
    }

    async fn judge(&self, verified: &Verified) -> Result<Introspection, Refusal> {
        let TokenServiceDeps { store, ttl, clock, metrics, .. } = &self.parts;
        let digest = verified.token.digest();
        let expires_at = end_of(verified);
        // The token does not contain its lifetime, and another instance may use another one: assume
        // the longest.
        let issued_after = expires_at.minus(longest_life() + ISSUE_TIME_TOLERANCE);
        let started = Instant::now();
        let found = store.lookup(digest, issued_after).await;
        metrics.store_operation(StoreOperation::Lookup, store.backend(), started.elapsed());
        let from_claims = || Introspection {
            principal: verified.principal.clone(),
            id: digest.id(),
            issued_at: expires_at.minus(*ttl),
            expires_at,
        };
        match found {
            Ok(Lookup::Active(Record { issued_at, expires_at })) => Ok(Introspection {
                principal: verified.principal.clone(),
                id: digest.id(),
                issued_at,
                expires_at,
            }),
            Ok(Lookup::Revoked) => Err(Refusal::Revoked),
            // The store answered, so the token's own expiry counts to the second.
            Ok(Lookup::Absent { .. }) if clock.now() >= expires_at => Err(Refusal::Expired),
            Ok(Lookup::Absent { .. }) if verified.claims.offline => Ok(from_claims()),
            Ok(Lookup::Absent { complete: true }) => Err(Refusal::Unknown),
            Ok(Lookup::Absent { complete: false }) | Err(_) => {
                metrics.degraded_accept();
                Ok(from_claims())
            }
        }
    }
}

/// Longest lifetime of a token, on any instance.
fn longest_life() -> Duration {
    Duration::from_secs(LONGEST_LIFE_SECONDS.into())
}

/// Expiry in the token: the record's, rounded up to the whole second.
fn end_of(verified: &Verified) -> UnixMillis {
    UnixMillis(verified.claims.expires_at.saturating_mul(1000))
}
