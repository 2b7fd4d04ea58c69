//! The policy of tokens: who gets one, when it is valid, how it is taken back.
//!
//! [`TokenService`] is the only place that decides. It knows the codec, the principals and a store
//! behind a trait; it knows nothing of HTTP. The rule of validity is a table in
//! `docs/architecture.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Clock, UnixMillis};
use crate::metrics::{Metrics, StoreOperation};
use crate::principal::{PrincipalId, Principals};
use crate::store::{Backend, Lookup, RevocationScope, StoreError, StoreStatistics, TokenStore};
use crate::token::{
    Claims, Codec, CodecError, LONGEST_LIFE_SECONDS, LONGEST_TOMBSTONE, NonceSource, Record,
    TOMBSTONE_MARGIN, Token, TokenId, Verified,
};

/// What a service is made of.
pub struct TokenServiceDeps {
    /// Mints and verifies.
    pub codec: Codec,
    /// Who may ask.
    pub principals: Principals,
    /// Where tokens are remembered.
    pub store: Arc<dyn TokenStore>,
    /// Makes tokens differ.
    pub nonces: NonceSource,
    /// Life of a token.
    pub ttl: Duration,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where outcomes are counted.
    pub metrics: Arc<Metrics>,
}

/// Issues, authorises, introspects and revokes tokens.
pub struct TokenService {
    parts: TokenServiceDeps,
}

/// A token that was just issued.
#[derive(Debug)]
pub struct Issued {
    /// The token, still to be handed out.
    pub token: Token,
    /// Its public name.
    pub id: TokenId,
    /// How long it lives.
    pub ttl: Duration,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
    /// Where it is remembered.
    pub backend: Backend,
}

/// What introspection says about a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// Whom it was issued to.
    pub principal: PrincipalId,
    /// Its public name.
    pub id: TokenId,
    /// When it was issued.
    pub issued_at: UnixMillis,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
}

/// A token to be taken back, and how long that must be remembered.
#[derive(Debug, Clone, Copy)]
pub struct Revocation {
    /// The token.
    pub id: TokenId,
    until: UnixMillis,
}

/// Why a presented token is refused. Callers answer all of them alike; the difference is for
/// metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not in the form of a token.
    #[error("malformed")]
    Malformed,
    /// Not issued by an instance.
    #[error("forged")]
    Forged,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// It was taken back.
    #[error("revoked")]
    Revoked,
    /// Properly signed, but not in a store that would know it.
    #[error("unknown")]
    Unknown,
}

impl Refusal {
    /// The value of the metric's `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
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

/// Expiry is rounded up by a second at most, and clocks differ by two.
const ISSUE_TIME_TOLERANCE: Duration = Duration::from_secs(3);

impl TokenService {
    /// Puts the service together.
    #[must_use]
    pub const fn new(parts: TokenServiceDeps) -> Self {
        Self { parts }
    }

    /// Whose principal secret `presented` is.
    #[must_use]
    pub fn authenticate(&self, presented: &[u8]) -> Option<&PrincipalId> {
        self.parts.principals.authenticate(presented)
    }

    /// Issues a token to `principal` and records it.
    ///
    /// # Errors
    /// [`StoreError::Full`] when no further token can be remembered; nothing was issued then.
    pub async fn issue(&self, principal: &PrincipalId) -> Result<Issued, StoreError> {
        let TokenServiceDeps { codec, store, nonces, ttl, clock, metrics, .. } = &self.parts;
        let issued_at = clock.now();
        let expires_at = issued_at.plus(*ttl);
        let last_second = expires_at.seconds_rounded_up();
        let record = Record { issued_at, expires_at };
        let mint = |offline| {
            let token =
                codec.mint(principal, Claims { expires_at: last_second, offline, nonce: nonces.draw() });
            (token, token.digest())
        };
        let (mut token, mut digest) = mint(false);
        let started = Instant::now();
        let mut recorded = store.record(digest, record).await;
        if recorded == Err(StoreError::Unavailable) {
            // One that says so of itself: no other instance will miss its record.
            (token, digest) = mint(true);
            recorded = store.record_offline(digest, record).await;
        }
        let backend = recorded?;
        metrics.store_operation(StoreOperation::Record, backend.as_str(), started.elapsed());
        metrics.token_issued(last_second);
        Ok(Issued { token, id: digest.id(), ttl: *ttl, expires_at, backend })
    }

    /// Checks form, tag and expiry of a presented token, without any I/O.
    ///
    /// # Errors
    /// The reason, already counted.
    pub fn verify(&self, presented: &str) -> Result<Verified, Refusal> {
        self.check(presented).inspect_err(|refusal| self.parts.metrics.token_refused(refusal.as_str()))
    }

    /// Decides whether a verified token is valid: not revoked, and recorded as far as records are
    /// complete.
    ///
    /// # Errors
    /// The reason, already counted.
    pub async fn authorise(&self, verified: &Verified) -> Result<Introspection, Refusal> {
        self.judge(verified).await.inspect_err(|refusal| self.parts.metrics.token_refused(refusal.as_str()))
    }

    /// What a token is, if it is valid; `None` for any other text. Asking is no attempt to enter,
    /// so a refusal is not counted.
    pub async fn introspect(&self, presented: &str) -> Option<Introspection> {
        let verified = self.check(presented).ok()?;
        self.judge(&verified).await.ok()
    }

    /// What revoking the presented token takes; `None` for a text that is no token of ours, which
    /// needs no revocation (RFC 7009 §2.2).
    #[must_use]
    pub fn revocation_of_token(&self, presented: &str) -> Option<Revocation> {
        let verified = self.check(presented).ok()?;
        let until = end_of(&verified).plus(TOMBSTONE_MARGIN);
        Some(Revocation { id: verified.token.digest().id(), until })
    }

    /// What revoking the token of this name takes, whoever signed it.
    #[must_use]
    pub fn revocation_of_id(&self, id: TokenId) -> Revocation {
        Revocation { id, until: self.parts.clock.now().plus(LONGEST_TOMBSTONE) }
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the revocation could not be remembered.
    pub async fn revoke(&self, revocation: Revocation) -> Result<RevocationScope, StoreError> {
        let TokenServiceDeps { store, metrics, .. } = &self.parts;
        let started = Instant::now();
        let reach = store.revoke(revocation.id, revocation.until).await?;
        metrics.store_operation(StoreOperation::Revoke, store.backend().as_str(), started.elapsed());
        Ok(reach)
    }

    /// Figures of the store.
    ///
    /// # Errors
    /// Whatever the store answers.
    pub async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        self.parts.store.statistics().await
    }

    /// Which backend answers at present.
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
        // The token does not say how long it was to live, and another instance may have given it
        // another life.
        let issued_after = expires_at.minus(longest_life() + ISSUE_TIME_TOLERANCE);
        let started = Instant::now();
        let found = store.lookup(digest, issued_after).await;
        metrics.store_operation(StoreOperation::Lookup, store.backend().as_str(), started.elapsed());
        let on_its_own_word = || Introspection {
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
            Ok(Lookup::Absent { .. }) if verified.claims.offline => Ok(on_its_own_word()),
            Ok(Lookup::Absent { complete: true }) => Err(Refusal::Unknown),
            Ok(Lookup::Absent { complete: false }) | Err(_) => {
                metrics.degraded_accept();
                Ok(on_its_own_word())
            }
        }
    }
}

/// No token that any instance issued was given more.
fn longest_life() -> Duration {
    Duration::from_secs(LONGEST_LIFE_SECONDS.into())
}

/// The end of a token's life as it says itself: its record's, rounded up to the whole second.
fn end_of(verified: &Verified) -> UnixMillis {
    UnixMillis(verified.claims.expires_at.saturating_mul(1000))
}
