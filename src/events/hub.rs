//! The hub: what one instance knows of the event log, and the streams that read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::Entry;
use super::frame;
use super::history::History;
use super::id::{Epoch, EventId, Position};
use super::publication::Publication;
use super::registry::{OpenError, Opener, Place, Registry, StreamLimits};
use super::ring::{Cursor, Kept, Read, Ring, RingLimits};
use crate::clock::{Clock, Jitter};
use crate::metrics::Metrics;
use crate::token::TokenId;

/// What an event may be late for each stream: several times what a write costs the machine, so that
/// writing takes a part of its time and never all of it.
const GATHERING_FOR_EACH: Duration = Duration::from_micros(150);

/// How streams behave.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// How many may be open at once.
    pub limits: StreamLimits,
    /// Longest silence on a stream.
    pub heartbeat: Duration,
    /// Longest wait of an event for others.
    pub coalesce: Duration,
    /// Longest life of a stream; each draws its own between 80 and 100 % of it.
    pub max_age: Duration,
    /// Longest wait a client is told to keep before it reconnects; each is told between 50 and 100
    /// % of it.
    pub retry: Duration,
}

/// What a hub is made of.
pub struct HubDeps {
    /// Name of this instance, told to each client.
    pub instance_id: String,
    /// Where the log lives.
    pub log: Log,
    /// Bounds of the ring.
    pub ring: RingLimits,
    /// How streams behave.
    pub streams: StreamSettings,
    /// The time of day, for event ids.
    pub clock: Arc<dyn Clock>,
    /// Spreads reconnects and ages.
    pub jitter: Arc<Jitter>,
    /// Where events and streams are counted.
    pub metrics: Arc<Metrics>,
}

/// Where the log of events lives.
pub enum Log {
    /// In this hub's ring.
    Own(Epoch),
    /// Elsewhere, shared with other instances; which life of it this is, a reader will tell.
    Shared(SharedLog),
}

/// A log that is shared, as far as streams need to know it.
pub struct SharedLog(pub(super) Arc<dyn History>);

/// Where a client that comes back continues.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// In the ring.
    At(Cursor),
    /// Nowhere: there is a gap.
    Never(ResetReason),
    /// In the log, at events that have left the ring.
    Earlier,
    /// Behind what this instance has read so far. Another instance may have been faster.
    Ahead,
    /// That cannot be told before the log is known.
    NotYet,
}

/// Why a stream cannot be resumed where its client left off, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetReason {
    /// The id belongs to a log that is lost.
    Epoch,
    /// Events after the id are no longer kept.
    Expired,
    /// The id lies after the newest event.
    Future,
    /// What came before cannot be told: the text is no event id, or the log was not known when the
    /// stream began.
    Unknown,
}

impl ResetReason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Expired => "expired",
            Self::Future => "future",
            Self::Unknown => "unknown",
        }
    }
}

/// The newest event.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    /// Behind it.
    pub(super) end: Cursor,
    /// When it came.
    pub(super) at: Instant,
}

/// Events and streams of one instance.
pub struct Hub {
    settings: HubDeps,
    ring: RwLock<Ring>,
    /// Announces the newest event, and wakes streams for whatever else they should look at.
    news: watch::Sender<News>,
    /// Whether the log can be reached.
    in_reach: AtomicBool,
    /// Whether the log has more than was read here, as far as is known.
    lags: AtomicBool,
    registry: Arc<Registry>,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new(settings: HubDeps) -> Self {
        let epoch = match settings.log {
            Log::Own(epoch) => Some(epoch),
            Log::Shared(_) => None,
        };
        settings.metrics.events.log_in_reach(epoch.is_some());
        Self {
            ring: RwLock::new(Ring::new(settings.ring, epoch)),
            news: watch::Sender::new(News { end: 0, at: Instant::now() }),
            in_reach: AtomicBool::new(epoch.is_some()),
            lags: AtomicBool::new(false),
            registry: Arc::new(Registry::new(settings.streams.limits)),
            settings,
        }
    }

    /// Puts an event into the ring under the next id and wakes all streams.
    pub(super) fn append(&self, publication: &Publication) -> EventId {
        let mut ring = self.ring.write();
        let epoch = ring.epoch().unwrap_or(Epoch(0));
        let id = EventId { epoch, position: ring.head().next(self.settings.clock.now().0) };
        let frame = frame::event(id, &publication.event_type, &publication.data);
        ring.append(Kept { position: id.position, frame, key: publication.key, epoch: Some(epoch) });
        let end = ring.end();
        drop(ring);
        self.settings.metrics.events.published();
        self.announce(end);
        id
    }

    /// Puts events that the log has into the ring and wakes all streams; `read_to` is where the
    /// next ones follow.
    pub(super) fn extend(&self, entries: &[Entry], read_to: Position) {
        let mut ring = self.ring.write();
        let before = ring.head();
        extend(&mut ring, entries, read_to);
        let (end, moved) = (ring.end(), ring.head() > before);
        drop(ring);
        self.announce(end);
        if moved && entries.is_empty() {
            // Some client may have been waiting for this instance to get there.
            self.news.send_modify(|_| {});
        }
    }

    /// Begins anew with a log that does not go on where the ring ends: `entries`, after `horizon`
    /// and up to `read_to`, are what is known of it. Streams are told of the gap, unless this is
    /// the first that is known.
    pub(super) fn begin_anew(
        &self,
        epoch: Epoch,
        gap: ResetReason,
        horizon: Position,
        entries: &[Entry],
        read_to: Position,
    ) {
        let mut ring = self.ring.write();
        let reset = || frame::reset(EventId { epoch, position: horizon }, gap.as_str());
        let announcement = ring.epoch().map(|_| reset());
        ring.begin_anew(epoch, horizon, announcement);
        extend(&mut ring, entries, read_to);
        let end = ring.end();
        drop(ring);
        self.announce(end);
    }

    /// Tells streams whether the log can be reached.
    pub(super) fn set_log_available(&self, in_reach: bool) {
        if self.in_reach.swap(in_reach, Ordering::Relaxed) != in_reach {
            self.settings.metrics.events.log_in_reach(in_reach);
            self.news.send_modify(|_| {});
        }
    }

    /// Whether the log can be reached; always, where it is this hub's own.
    #[must_use]
    pub fn is_log_in_reach(&self) -> bool {
        self.in_reach.load(Ordering::Relaxed)
    }

    /// Says whether the log is known to have more than was read here.
    pub(super) fn lags(&self, lags: bool) {
        self.lags.store(lags, Ordering::Relaxed);
    }

    /// Whether the log is known to have more than was read here.
    pub(super) fn is_lagging(&self) -> bool {
        self.lags.load(Ordering::Relaxed)
    }

    /// Two publishers may arrive here in either order; the end must not go back.
    fn announce(&self, end: Cursor) {
        self.news.send_if_modified(|news| {
            let newer = end > news.end;
            if newer {
                *news = News { end, at: Instant::now() };
            }
            newer
        });
    }

    /// Takes a place among the open streams.
    pub(super) fn enter(&self, opener: Opener) -> Result<Place, OpenError> {
        self.registry.enter(opener)
    }

    /// Ends every stream that `token` opened on this instance; says how many.
    pub fn end_streams_of(&self, token: TokenId) -> usize {
        self.registry.end_token(token)
    }

    /// Lets no further stream in, ends the open ones spread evenly over `window` and waits for
    /// them.
    pub async fn drain(&self, window: Duration) {
        self.registry.drain(window).await;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.registry.is_draining()
    }

    pub(super) const fn settings(&self) -> &HubDeps {
        &self.settings
    }

    /// For how long after an event a stream lets others gather, so that those that follow closely
    /// share a write (docs/adr/0022). The fewer the streams the shorter: what is saved grows with
    /// their number.
    pub(super) fn gathering(&self) -> Duration {
        let streams = u32::try_from(self.news.receiver_count()).unwrap_or(u32::MAX);
        GATHERING_FOR_EACH.saturating_mul(streams).min(self.settings.streams.coalesce)
    }

    pub(super) fn watch(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    pub(super) fn read(&self, cursor: Cursor) -> Read {
        self.ring.read().read(cursor)
    }

    /// Behind the newest event.
    pub(super) fn end(&self) -> Cursor {
        self.ring.read().end()
    }

    /// Where a new stream starts: behind the newest event. Not known before the log is.
    pub(super) fn newest(&self) -> Option<(Cursor, EventId)> {
        let ring = self.ring.read();
        Some((ring.end(), EventId { epoch: ring.epoch()?, position: ring.head() }))
    }

    /// Where a client continues that has seen everything up to `id`.
    pub(super) fn resume(&self, id: EventId) -> Resume {
        let is_shared = matches!(self.settings.log, Log::Shared(_));
        let ring = self.ring.read();
        match ring.epoch() {
            None => return Resume::NotYet,
            Some(epoch) if epoch != id.epoch => return Resume::Never(ResetReason::Epoch),
            Some(_) => {}
        }
        if id.position > ring.head() {
            return if is_shared { Resume::Ahead } else { Resume::Never(ResetReason::Future) };
        }
        match ring.resume_after(id.position) {
            Some(cursor) => Resume::At(cursor),
            None if is_shared => Resume::Earlier,
            None => Resume::Never(ResetReason::Expired),
        }
    }

    /// The log, where it is more than the ring.
    pub(super) fn history(&self) -> Option<Arc<dyn History>> {
        match &self.settings.log {
            Log::Own(_) => None,
            Log::Shared(SharedLog(history)) => Some(Arc::clone(history)),
        }
    }

    /// The life of the log, as far as it is known, and how far it was read.
    pub(super) fn log_head(&self) -> Option<EventId> {
        self.newest().map(|(_, id)| id)
    }

    /// The events of this life of the log that are in the ring, for a log that may have lost some;
    /// and up to where there are none.
    pub(super) fn kept(&self) -> (Position, Vec<Kept>) {
        let ring = self.ring.read();
        (ring.horizon(), ring.events().cloned().collect())
    }

    pub(super) fn ring_limits(&self) -> RingLimits {
        self.ring.read().limits()
    }
}

fn extend(ring: &mut Ring, entries: &[Entry], read_to: Position) {
    if let Some(epoch) = ring.epoch() {
        for entry in entries {
            if entry.position > ring.head() {
                let frame = entry.frame(epoch);
                ring.append(Kept { position: entry.position, frame, key: entry.key, epoch: Some(epoch) });
            }
        }
    }
    ring.advance(read_to);
}
