//! Identity providers: a JWT of a configured issuer is the credential of its principal, for one end
//! user.
//!
//! [`Identity`] decides whether a JWT is valid, and turns its claims into rights, topics and a
//! subject. The keys of issuers are fetched in the background ([`KeyTask`]), never by a request.

mod cache;
mod fetch;
mod issuer;
mod jwt;
mod keys;
mod settings;
mod template;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::cache::{Cache, Digest};
use self::fetch::Fetcher;
use self::issuer::{Fetching, Issuer};
use self::jwt::Unverified;
pub use self::jwt::{JwtRefusal, LONGEST_JWT, RefusedJwt, is_jwt_shaped};
pub use self::keys::{Algorithm, KeySet, KeySetError};
pub use self::settings::{IssuerSettings, KeySource};
pub use self::template::{ClaimError, Claims, SubjectTemplate, TemplateError, TopicTemplate};
use crate::clock::{Clock, Jitter};
use crate::metrics::Metrics;
use crate::principal::Principal;

type Issuers = Arc<[Arc<Issuer>]>;

/// Dependencies of [`Identity`].
pub struct IdentityDeps {
    /// The issuers at the start.
    pub issuers: Vec<IssuerSettings>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Spreads the fetches of several instances.
    pub jitter: Arc<Jitter>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The issuers, their keys, and the JWTs that were verified.
pub struct Identity {
    issuers: watch::Sender<Issuers>,
    /// Version of issuers and keys. A verdict of the cache counts with its version only.
    version: AtomicU64,
    cache: Cache,
    clock: Arc<dyn Clock>,
    jitter: Arc<Jitter>,
    metrics: Arc<Metrics>,
}

impl Identity {
    /// The issuers at the start. Their keys are fetched by the [task](Self::key_task).
    #[must_use]
    pub fn new(deps: IdentityDeps) -> Self {
        let IdentityDeps { issuers, clock, jitter, metrics } = deps;
        let issuers: Issuers =
            issuers.into_iter().map(|settings| Arc::new(Issuer::new(settings, None))).collect();
        Self {
            issuers: watch::Sender::new(issuers),
            version: AtomicU64::new(0),
            cache: Cache::default(),
            clock,
            jitter,
            metrics,
        }
    }

    /// Replaces the issuers for all requests from now on. Keys that were fetched stay known.
    pub fn replace(&self, issuers: Vec<IssuerSettings>) {
        let before = self.issuers.borrow().clone();
        let same = |id| before.iter().find(|issuer| issuer.settings.id == id).map(Arc::as_ref);
        let issuers = issuers.into_iter().map(|settings| {
            let before = same(settings.id.clone());
            Arc::new(Issuer::new(settings, before))
        });
        self.issuers.send_replace(issuers.collect());
        self.new_version();
    }

    /// Whether any issuer is configured.
    #[must_use]
    pub fn has_issuers(&self) -> bool {
        !self.issuers.borrow().is_empty()
    }

    /// Whether a credential is a JWT that is to be judged here. Without issuers none is.
    #[must_use]
    pub fn is_for_us(&self, credential: &[u8]) -> bool {
        self.has_issuers() && is_jwt_shaped(credential)
    }

    /// The principal of a JWT: its issuer, for its user. Each JWT is verified once.
    ///
    /// # Errors
    /// The reason for refusing it, already counted.
    pub fn authenticate(&self, jwt: &str) -> Result<Arc<Principal>, RefusedJwt> {
        let verified = self.verified(jwt);
        verified.inspect_err(|refused| self.metrics.identity.refused.inc(refused.reason))
    }

    /// Has the keys of a JWT's issuer fetched if the JWT is signed with an unknown one, and waits.
    /// The issuer may have begun to sign with a new key.
    pub async fn learn_key_of(&self, jwt: &str) {
        let issuer = {
            let (digest, version) = (digest_of(jwt), self.version());
            if self.cache.get(&digest, self.clock.now(), version).is_some() {
                return;
            }
            let Ok(unverified) = Unverified::parse(jwt) else { return };
            let Ok((issuer, algorithm)) = self.issuer_of(&unverified) else { return };
            let (key_id, signed) = (unverified.key_id(), unverified.signed.as_bytes());
            // Without a name, a new key shows in the signature only.
            let is_known = issuer.keys.known().is_some_and(|keys| match key_id {
                Some(_) => keys.has(key_id, algorithm),
                None => keys.verifies(None, algorithm, signed, &unverified.signature),
            });
            if is_known {
                return;
            }
            issuer
        };
        issuer.keys.refresh().await;
    }

    /// The task that keeps the keys of all issuers up to date.
    #[must_use]
    pub fn key_task(self: &Arc<Self>) -> KeyTask {
        KeyTask { issuers: self.issuers.subscribe(), identity: Arc::clone(self) }
    }

    fn verified(&self, jwt: &str) -> Result<Arc<Principal>, RefusedJwt> {
        if jwt.len() > LONGEST_JWT {
            return Err(JwtRefusal::TooLong.into());
        }
        // Read before the keys, so that a verdict with old keys never counts as one with new ones.
        let (digest, version, now) = (digest_of(jwt), self.version(), self.clock.now());
        if let Some(principal) = self.cache.get(&digest, now, version) {
            return Ok(principal);
        }
        let unverified = Unverified::parse(jwt)?;
        let (issuer, algorithm) = self.issuer_of(&unverified)?;
        let keys = issuer.keys.known().ok_or(JwtRefusal::NoKeys)?;
        let key_id = unverified.key_id();
        if !keys.has(key_id, algorithm) {
            return Err(JwtRefusal::UnknownKey.into());
        }
        if !keys.verifies(key_id, algorithm, unverified.signed.as_bytes(), &unverified.signature) {
            return Err(JwtRefusal::Signature.into());
        }
        let until = unverified.check_times(now)?;
        if unverified.is_bound() {
            return Err(JwtRefusal::Bound.into());
        }
        let principal = Arc::new(issuer.settings.principal_of(&unverified, until)?);
        self.cache.insert(digest, Arc::clone(&principal), until, version);
        Ok(principal)
    }

    /// The issuer that a JWT names, for its audience, if it allows the algorithm.
    fn issuer_of(&self, jwt: &Unverified<'_>) -> Result<(Arc<Issuer>, Algorithm), JwtRefusal> {
        let name = jwt.issuer().ok_or(JwtRefusal::Malformed)?;
        let issuers = self.issuers.borrow();
        let mut named = issuers.iter().filter(|issuer| issuer.settings.issuer == name).peekable();
        named.peek().ok_or(JwtRefusal::Issuer)?;
        let issuer =
            named.find(|issuer| jwt.is_for(&issuer.settings.audience)).ok_or(JwtRefusal::Audience)?;
        let algorithm = jwt.algorithm().filter(|algorithm| issuer.settings.algorithms.contains(algorithm));
        Ok((Arc::clone(issuer), algorithm.ok_or(JwtRefusal::Algorithm)?))
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn new_version(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

fn digest_of(jwt: &str) -> Digest {
    Sha256::digest(jwt).into()
}

/// Keeps the keys of all issuers up to date.
pub struct KeyTask {
    issuers: watch::Receiver<Issuers>,
    identity: Arc<Identity>,
}

impl KeyTask {
    /// Runs as long as the instance does. Ends only because of a defect.
    pub async fn run(mut self) {
        loop {
            let issuers = self.issuers.borrow_and_update().clone();
            let mut tasks = JoinSet::new();
            if issuers.iter().any(|issuer| issuer.keys.are_fetched()) {
                let Some(fetching) = self.fetching() else { return };
                for issuer in issuers.iter() {
                    let (issuer, fetching) = (Arc::clone(issuer), Arc::clone(&fetching));
                    tasks.spawn(async move { fetching.keep_fresh(&issuer).await });
                }
            }
            tokio::select! {
                changed = self.issuers.changed() => if changed.is_err() { return },
                Some(_ended) = tasks.join_next() => return,
            }
        }
    }

    fn fetching(&self) -> Option<Arc<Fetching>> {
        let fetcher = Fetcher::new();
        let fetcher = fetcher.inspect_err(|error| tracing::error!(%error, "TLS cannot be used")).ok()?;
        let identity = Arc::clone(&self.identity);
        let (jitter, metrics) = (Arc::clone(&identity.jitter), Arc::clone(&identity.metrics));
        let changed = Box::new(move || identity.new_version());
        Some(Arc::new(Fetching { fetcher, jitter, metrics, changed }))
    }
}

#[cfg(test)]
mod tests;
