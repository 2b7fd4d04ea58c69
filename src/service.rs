//! The policy of tokens: who gets one, what it opens, when it is valid, how it is taken back.
//!
//! [`TokenService`] decides whether a token is valid. It knows the codec, the principals and a
//! store behind a trait; it knows nothing of HTTP. The store decides whether a new token gets the
//! offline bit. The rule of validity is a table in `docs/architecture.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use strum::{IntoStaticStr, VariantArray};

use crate::clock::{Clock, UnixMillis};
use crate::control::{Barred, Control};
use crate::limits::{ISSUE_TIME_TOLERANCE, LONGEST_LIFE_SECONDS, TOMBSTONE_MARGIN};
use crate::metrics::{BlockedAttempt, Metrics, StoreOperation};
use crate::principal::{Principal, PrincipalId, Principals};
use crate::store::{
    Backend, Lookup, Recorded, RevocationScope, StoreError, StoreStatistics, TokenStore, WhenLost,
};
use crate::token::{
    Claims, Codec, CodecError, Draft, Grant, LONGEST_TOMBSTONE, NonceSource, Record, Subject, TokenId,
    Verified, uuid_of, written,
};
use crate::topic::Patterns;

/// Principals, and the codec with the keys that sign for them. They are replaced together, because
/// keys may be derived from credentials.
pub struct Access {
    /// The principals.
    pub principals: Principals,
    /// Mints and verifies.
    pub codec: Codec,
}

impl Access {
    /// The grant of a new token. A plain token has none: it opens `default`, and is only accepted
    /// for principals that plain tokens are tried against.
    fn grant(
        &self,
        principal: &PrincipalId,
        issued_at: UnixMillis,
        request: Option<IssueRequest>,
    ) -> Option<Grant> {
        if request.is_none() && self.principals.is_plain(principal) {
            return None;
        }
        let IssueRequest { subject, topics, stream_until, single_use, .. } = request.unwrap_or_default();
        Some(Grant {
            principal: principal.clone(),
            issued_at,
            subject,
            topics,
            stream_until,
            single_use,
            resource: None,
        })
    }
}

/// Dependencies of the service.
pub struct TokenServiceDeps {
    /// Principals and codec at the start.
    pub access: Access,
    /// The store of records and tombstones.
    pub store: Arc<dyn TokenStore>,
    /// Source of nonces.
    pub nonces: NonceSource,
    /// Lifetime of a token whose request names none.
    pub ttl: Duration,
    /// Policy for tokens that the store cannot prove to be recorded and not revoked.
    pub when_lost: WhenLost,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Revoked and blocked subjects.
    pub control: Arc<Control>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Issues, authorises, introspects and revokes tokens.
pub struct TokenService {
    access: ArcSwap<Access>,
    store: Arc<dyn TokenStore>,
    nonces: NonceSource,
    ttl: Duration,
    when_lost: WhenLost,
    clock: Arc<dyn Clock>,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
}

/// Request for a token with a grant.
#[derive(Debug, Clone, Default)]
pub struct IssueRequest {
    /// End user whom the token is for.
    pub subject: Option<Subject>,
    /// Patterns that it may read.
    pub topics: Patterns,
    /// Lifetime; `None`: the configured one. The caller keeps it within the longest life.
    pub expires_in: Option<Duration>,
    /// The latest end of its streams, from which on it opens none. In the future.
    pub stream_until: Option<UnixMillis>,
    /// Whether it opens one stream only.
    pub single_use: bool,
    /// The latest end of its lifetime. In the future.
    pub not_after: Option<UnixMillis>,
}

/// A token that was just issued. `Debug` would show it, so there is none.
pub struct Issued {
    /// The token as it is handed out. Secret.
    pub text: String,
    /// Its public name.
    pub id: TokenId,
    /// Lifetime.
    pub ttl: Duration,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
    /// Backend that has its record.
    pub backend: Backend,
    /// Its grant; `None` for a plain token.
    pub grant: Option<Grant>,
}

/// Reason why no token was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Subject and topics are too long together.
    #[error("the grant would be too long; shorten the subject, or name fewer or shorter topics")]
    GrantTooLong,
    /// The subject is blocked.
    #[error("the subject is blocked")]
    SubjectBlocked,
    /// The store has no record of it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Properties of a valid token.
#[derive(Debug, Clone, PartialEq)]
pub struct Introspection {
    /// Principal to which the token was issued.
    pub principal: PrincipalId,
    /// Id of the token.
    pub id: TokenId,
    /// Time of issue.
    pub issued_at: UnixMillis,
    /// The first moment at which it is no longer valid.
    pub expires_at: UnixMillis,
    /// Its grant; `None` for a plain token.
    pub grant: Option<Box<Grant>>,
}

/// A token to be revoked, and the end of its tombstone.
#[derive(Debug, Clone, Copy)]
pub struct Revocation {
    /// The token.
    pub id: TokenId,
    until: UnixMillis,
}

/// Reason why a token is refused. Clients get the same answer for all reasons but
/// [`Unproven`](Refusal::Unproven), which says nothing about the token; metrics distinguish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// The text does not have the form of a token.
    #[error("malformed")]
    Malformed,
    /// No instance has signed it, or its expiry is later than that of any token of an instance.
    #[error("forged")]
    Forged,
    /// It has expired, or its streams would have ended by now.
    #[error("expired")]
    Expired,
    /// It was revoked, by itself or with everything issued to its subject.
    #[error("revoked")]
    Revoked,
    /// It opens one stream, and has opened it.
    #[error("used")]
    Used,
    /// Its subject is blocked.
    #[error("blocked")]
    Blocked,
    /// Its tag is right, but a store that is complete has no record of it.
    #[error("unknown")]
    Unknown,
    /// The store cannot prove now that it is recorded and not revoked, or orders about its subject
    /// may be unknown, and the policy is [`WhenLost::Refuse`]. It may be valid.
    #[error("unproven")]
    Unproven,
    /// A later release has issued it, with a limit that this release cannot enforce.
    #[error("unsupported")]
    Unsupported,
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
    pub fn new(deps: TokenServiceDeps) -> Self {
        let TokenServiceDeps { access, store, nonces, ttl, when_lost, clock, control, metrics } = deps;
        Self { access: ArcSwap::from_pointee(access), store, nonces, ttl, when_lost, clock, control, metrics }
    }

    /// Replaces principals and codec for all requests from now on. Streams stay open.
    pub fn replace_access(&self, access: Access) {
        self.access.store(Arc::new(access));
    }

    /// The principal whose credential `presented` is.
    #[must_use]
    pub fn authenticate(&self, presented: &[u8]) -> Option<Arc<Principal>> {
        self.access.load().principals.authenticate(presented).cloned()
    }

    /// Issues a token to `principal` and records it. `None` asks for a plain token; a principal
    /// that plain tokens are not tried against gets one with a grant for `default` instead. The
    /// caller has checked that the principal may grant the topics.
    ///
    /// # Errors
    /// The grant is too long, or the subject is blocked, or the store has no room; or the store is
    /// unavailable, or orders about the subject may be unknown, and the policy is
    /// [`WhenLost::Refuse`]. Nothing was issued then.
    pub async fn issue(
        &self,
        principal: &Principal,
        request: Option<IssueRequest>,
    ) -> Result<Issued, IssueError> {
        let access = self.access.load_full();
        let ttl = request.as_ref().and_then(|request| request.expires_in).unwrap_or(self.ttl);
        let subject = request.as_ref().and_then(|request| request.subject.as_ref());
        let knows_orders = self.knows_orders_about(subject);
        if subject.is_some_and(|subject| self.control.is_blocked(subject)) {
            self.metrics.control.blocked_attempts.inc(BlockedAttempt::Issue);
            return Err(IssueError::SubjectBlocked);
        }
        if !knows_orders {
            return Err(StoreError::Unavailable.into());
        }
        let issued_at = self.clock.now();
        let not_after = request.as_ref().and_then(|request| request.not_after);
        let ttl =
            not_after.map_or(ttl, |end| ttl.min(Duration::from_millis(end.0.saturating_sub(issued_at.0))));
        let granted_at = subject.map_or(issued_at, |subject| self.control.time_of_issue(subject));
        let grant = access.grant(principal.id(), granted_at, request);
        let grant_text = grant.as_ref().map(Grant::encode).transpose();
        let grant_text = grant_text.map_err(|_too_long| IssueError::GrantTooLong)?;
        let expires_at = issued_at.plus(ttl);
        let last_second = expires_at.seconds_rounded_up();
        let draft = Draft::new(Record { issued_at, expires_at }, |offline| {
            let claims = Claims { expires_at: last_second, offline, nonce: self.nonces.draw() };
            access.codec.mint(principal.id(), claims, grant_text.as_ref())
        });
        let started = Instant::now();
        let Recorded { token, backend } = self.store.record(&draft).await?;
        self.metrics.store_operation(StoreOperation::Record, backend, started.elapsed());
        self.metrics.token_issued(last_second);
        let text = written(&token, grant_text.as_ref());
        Ok(Issued { text, id: token.digest().id(), ttl, expires_at, backend, grant })
    }

    /// Checks form, tag and expiry of a token, without any I/O.
    ///
    /// # Errors
    /// The reason, already counted.
    pub fn verify(&self, presented: &str) -> Result<Verified, Refusal> {
        let verified = self.check(presented).and_then(|verified| self.within_grant(verified));
        verified.inspect_err(|refusal| self.metrics.token_refused(*refusal))
    }

    /// Decides whether a verified token is valid: not revoked, and recorded if records are complete
    /// or the policy is [`WhenLost::Refuse`]. With that policy, a token of a subject is valid only
    /// while all orders are known.
    ///
    /// # Errors
    /// The reason, already counted.
    pub async fn authorise(&self, verified: &Verified) -> Result<Introspection, Refusal> {
        self.judge(verified, BlockedAttempt::Open)
            .await
            .inspect_err(|refusal| self.metrics.token_refused(*refusal))
    }

    /// Properties of a token; `None` if it is not valid. Introspection is no attempt to open a
    /// stream, so a refusal is not counted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it is not known whether the token is valid.
    pub async fn introspect(&self, presented: &str) -> Result<Option<Introspection>, StoreError> {
        let verified = self.check(presented).and_then(|verified| self.within_grant(verified));
        let Ok(verified) = verified else { return Ok(None) };
        match self.judge(&verified, BlockedAttempt::Other).await {
            Ok(introspection) => Ok(Some(introspection)),
            Err(Refusal::Unproven) => Err(StoreError::Unavailable),
            Err(_) => Ok(None),
        }
    }

    /// The revocation of a token; `None` for a text that has not the form of one, which needs none
    /// (RFC 7009 §2.2). A token that this instance does not verify is revoked like its id: it may
    /// have expired while its streams are open, its principal may have lost a right or be unknown
    /// here, or it is the UUID of a token with a grant, without the grant.
    #[must_use]
    pub fn revocation_of_token(&self, presented: &str) -> Option<Revocation> {
        match self.check(presented) {
            Ok(verified) => {
                let until = end_of(&verified).plus(TOMBSTONE_MARGIN);
                Some(Revocation { id: verified.token.digest().id(), until })
            }
            Err(Refusal::Malformed) => None,
            Err(_) => {
                let token = uuid_of(presented).ok()?;
                Some(self.revocation_of_id(token.digest().id()))
            }
        }
    }

    /// The revocation of the token with this id, also if it has expired.
    #[must_use]
    pub fn revocation_of_id(&self, id: TokenId) -> Revocation {
        Revocation { id, until: self.clock.now().plus(LONGEST_TOMBSTONE) }
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the store has no room for the tombstone.
    pub async fn revoke(&self, revocation: Revocation) -> Result<RevocationScope, StoreError> {
        let started = Instant::now();
        let reach = self.store.revoke(revocation.id, revocation.until).await?;
        self.metrics.store_operation(StoreOperation::Revoke, self.store.backend(), started.elapsed());
        Ok(reach)
    }

    /// Name of a subject in logs: a hash with a key that only instances of this deployment have.
    #[must_use]
    pub fn subject_hash(&self, subject: &Subject) -> String {
        self.access.load().codec.subject_hash(subject)
    }

    /// Figures of the store.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        self.store.statistics().await
    }

    /// The backend in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.store.backend()
    }

    fn check(&self, presented: &str) -> Result<Verified, Refusal> {
        let access = self.access.load();
        Ok(access.codec.verify(presented, self.clock.now(), &access.principals)?)
    }

    /// Refuses a token whose grant opens nothing any more, or has a limit that this release cannot
    /// enforce. It would open more than was granted.
    fn within_grant(&self, verified: Verified) -> Result<Verified, Refusal> {
        match verified.grant.as_deref() {
            Some(Grant { resource: Some(_), .. }) => Err(Refusal::Unsupported),
            Some(Grant { stream_until: Some(end), .. }) if self.clock.now() >= *end => Err(Refusal::Expired),
            _ => Ok(verified),
        }
    }

    /// Whether all orders about a subject are known, or need not be. Asked before the known orders
    /// are: one that is read meanwhile is found among them, or ends the stream.
    fn knows_orders_about(&self, subject: Option<&Subject>) -> bool {
        self.when_lost == WhenLost::Accept || subject.is_none() || self.control.is_current()
    }

    /// Reason to refuse a token because of its subject.
    fn refusal_of_subject(&self, verified: &Verified, attempt: BlockedAttempt) -> Option<Refusal> {
        let grant = verified.grant.as_deref()?;
        match self.control.refusal(grant.subject.as_ref()?, grant.issued_at)? {
            Barred::Revoked => Some(Refusal::Revoked),
            Barred::Blocked => {
                self.metrics.control.blocked_attempts.inc(attempt);
                Some(Refusal::Blocked)
            }
        }
    }

    async fn judge(&self, verified: &Verified, attempt: BlockedAttempt) -> Result<Introspection, Refusal> {
        let subject = verified.grant.as_deref().and_then(|grant| grant.subject.as_ref());
        let knows_orders = self.knows_orders_about(subject);
        if let Some(refusal) = self.refusal_of_subject(verified, attempt) {
            return Err(refusal);
        }
        let digest = verified.token.digest();
        let expires_at = end_of(verified);
        // A plain token does not contain its lifetime, and another instance may use another one:
        // assume the longest.
        let issued_after = expires_at.minus(longest_life() + ISSUE_TIME_TOLERANCE);
        let started = Instant::now();
        let found = self.store.lookup(digest, issued_after).await;
        self.metrics.store_operation(StoreOperation::Lookup, self.store.backend(), started.elapsed());
        let introspection = |issued_at, expires_at| Introspection {
            principal: verified.principal.clone(),
            id: digest.id(),
            issued_at: verified.grant.as_ref().map_or(issued_at, |grant| grant.issued_at),
            expires_at: earliest_end(expires_at, verified.grant.as_deref()),
            grant: verified.grant.clone(),
        };
        let from_claims = || introspection(expires_at.minus(self.ttl), expires_at);
        match found {
            Ok(Lookup::Active(_)) if !knows_orders => Err(Refusal::Unproven),
            Ok(Lookup::Active(Record { issued_at, expires_at })) => Ok(introspection(issued_at, expires_at)),
            Ok(Lookup::Revoked) => Err(Refusal::Revoked),
            // The store answered, so the token's own expiry counts to the second.
            Ok(Lookup::Absent { .. }) if self.clock.now() >= expires_at => Err(Refusal::Expired),
            Ok(Lookup::Absent { complete: true }) if !verified.claims.offline => Err(Refusal::Unknown),
            Ok(Lookup::Absent { .. }) | Err(_) if self.when_lost == WhenLost::Refuse => {
                Err(Refusal::Unproven)
            }
            Ok(Lookup::Absent { .. }) if verified.claims.offline => Ok(from_claims()),
            Ok(Lookup::Absent { .. }) | Err(_) => {
                self.metrics.degraded_accept();
                Ok(from_claims())
            }
        }
    }
}

/// Longest lifetime of a token, on any instance.
fn longest_life() -> Duration {
    Duration::from_secs(LONGEST_LIFE_SECONDS.into())
}

/// End of a token that expires at `expires_at`: its grant may end earlier.
fn earliest_end(expires_at: UnixMillis, grant: Option<&Grant>) -> UnixMillis {
    grant.and_then(|grant| grant.stream_until).map_or(expires_at, |end| end.min(expires_at))
}

/// Expiry in the token: the record's, rounded up to the whole second.
fn end_of(verified: &Verified) -> UnixMillis {
    UnixMillis(verified.claims.expires_at.saturating_mul(1000))
}

#[cfg(test)]
mod tests;
