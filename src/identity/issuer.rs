//! An issuer with its keys, and how its keys are kept up to date.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper::Uri;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::fetch::Fetcher;
use super::keys::KeySet;
use super::settings::{IssuerSettings, KeySource};
use crate::clock::Jitter;
use crate::metrics::{KeyFetch, Metrics};

/// Shortest time between two fetches because of an unknown `kid`.
const BETWEEN_REFRESHES: Duration = Duration::from_secs(10);
/// Time after which keys are fetched again, so that a key that the issuer took back is forgotten.
const AGE_OF_KEYS: Duration = Duration::from_mins(5);
/// Longest pause after a failed fetch; the first one is a second, and each further one twice as
/// long.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Bound of a request's wait for a fetch.
const WAIT: Duration = Duration::from_secs(2);

/// An issuer with its keys.
pub(super) struct Issuer {
    pub(super) settings: IssuerSettings,
    pub(super) keys: Arc<Keys>,
}

impl Issuer {
    /// An issuer; with the keys of `before` if they are fetched from the same address.
    pub(super) fn new(settings: IssuerSettings, before: Option<&Self>) -> Self {
        let known = before.filter(|before| {
            matches!(settings.keys, KeySource::Url(_)) && before.settings.keys == settings.keys
        });
        let keys =
            known.map_or_else(|| Arc::new(Keys::new(&settings.keys)), |before| Arc::clone(&before.keys));
        Self { settings, keys }
    }
}

/// The keys of an issuer.
pub(super) struct Keys {
    /// `None` until they were fetched for the first time.
    set: ArcSwapOption<KeySet>,
    url: Option<Uri>,
    /// The last fetch because of an unknown `kid`.
    refreshed: Mutex<Option<Refresh>>,
    /// Number of fetches that have begun.
    begun: AtomicU64,
    /// The latest fetch that a request needs.
    wanted: watch::Sender<u64>,
    /// The latest fetch that has ended.
    ended: watch::Sender<u64>,
}

/// A fetch because of an unknown `kid`.
struct Refresh {
    at: Instant,
    /// Its number.
    fetch: u64,
}

impl Keys {
    fn new(source: &KeySource) -> Self {
        let (set, url) = match source {
            KeySource::File(set) => (Some(Arc::new(set.clone())), None),
            KeySource::Url(url) => (None, Some(url.clone())),
        };
        Self {
            set: ArcSwapOption::new(set),
            url,
            refreshed: Mutex::new(None),
            begun: AtomicU64::new(0),
            wanted: watch::Sender::new(0),
            ended: watch::Sender::new(0),
        }
    }

    /// The keys, if they are known.
    pub(super) fn known(&self) -> Option<Arc<KeySet>> {
        self.set.load_full()
    }

    /// Whether the keys are fetched.
    pub(super) const fn are_fetched(&self) -> bool {
        self.url.is_some()
    }

    /// Has the keys fetched because a `kid` is unknown, at most once in 10 s, and waits for the end
    /// of that fetch. Returns at once if such a fetch has ended in the last 10 s: a client that
    /// invents names of keys must not keep the issuer busy.
    pub(super) async fn refresh(&self) {
        if self.url.is_none() {
            return;
        }
        let mut ended = self.ended.subscribe();
        let fetch = {
            let has_ended = *ended.borrow_and_update();
            let mut refreshed = self.refreshed.lock();
            let last = refreshed.as_ref().filter(|last| last.at.elapsed() < BETWEEN_REFRESHES);
            match last {
                Some(last) if last.fetch <= has_ended => return,
                Some(in_progress) => in_progress.fetch,
                None => {
                    // One that has begun may miss the new key, unless no key is known at all.
                    let is_first = self.set.load().is_none();
                    let latest = if is_first { has_ended } else { self.begun.load(Ordering::Acquire) };
                    *refreshed = Some(Refresh { at: Instant::now(), fetch: latest + 1 });
                    self.wanted.send_replace(latest + 1);
                    latest + 1
                }
            }
        };
        // After the bound, the request is answered by the keys that are known.
        let _ = timeout(WAIT, ended.wait_for(|ended| *ended >= fetch)).await;
    }

    /// Forgets the last fetch because of an unknown `kid`, as if 10 s had passed.
    #[cfg(test)]
    pub(super) fn forget_refresh(&self) {
        *self.refreshed.lock() = None;
    }
}

/// Dependencies of the fetching of keys.
pub(super) struct Fetching {
    pub(super) fetcher: Fetcher,
    pub(super) jitter: Arc<Jitter>,
    pub(super) metrics: Arc<Metrics>,
    /// Called when the keys of an issuer have changed.
    pub(super) changed: Box<dyn Fn() + Send + Sync>,
}

impl Fetching {
    /// Keeps the keys of an issuer up to date, as long as the instance runs. Keys that were fetched
    /// stay valid while the issuer is unavailable.
    pub(super) async fn keep_fresh(&self, issuer: &Issuer) -> Infallible {
        let (id, keys) = (&issuer.settings.id, &issuer.keys);
        let Some(url) = &keys.url else { return std::future::pending().await };
        let (mut failures, mut wanted) = (0_u32, keys.wanted.subscribe());
        loop {
            let fetch = keys.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let fetched = self.fetcher.fetch(url).await;
            let pause = match fetched {
                Ok(set) => {
                    if failures > 0 {
                        tracing::info!(issuer = %id, keys = set.number(), "the keys of the issuer can be fetched again");
                    }
                    failures = 0;
                    self.metrics.identity.fetches.inc(KeyFetch::Success);
                    self.replace(keys, set);
                    AGE_OF_KEYS
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(
                            issuer = %id,
                            %error,
                            known = keys.set.load().as_ref().map_or(0, |set| set.number()),
                            "the keys of the issuer cannot be fetched; known ones stay valid"
                        );
                    }
                    self.metrics.identity.fetches.inc(KeyFetch::Failure);
                    failures = failures.saturating_add(1);
                    LONGEST_PAUSE.min(Duration::from_secs(1 << (failures - 1).min(6)))
                }
            };
            keys.ended.send_replace(fetch);
            tokio::select! {
                () = sleep(self.jitter.between(pause.mul_f32(0.8), pause)) => {}
                _ = wanted.wait_for(|wanted| *wanted > fetch) => {}
            }
        }
    }

    fn replace(&self, keys: &Keys, set: KeySet) {
        let is_new = keys.set.load().as_deref() != Some(&set);
        if is_new {
            keys.set.store(Some(Arc::new(set)));
            (self.changed)();
        }
    }
}
