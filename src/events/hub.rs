//! The hub of an instance: its ring of events, and the registry of its streams.
//!
//! It owns the ring and wakes streams for new events. Where events come from (`memory`, `redis`)
//! and how a stream writes them (`stream`) is not its concern.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{RwLock, RwLockWriteGuard};
use tokio::sync::watch;
use tokio::time::Instant;

use super::event::Event;
use super::frame;
use super::id::{Epoch, EventId, Position};
use super::log::LogReader;
use super::publication::Publication;
use super::registry::{EndReason, OpenError, Opener, Place, Registry, Signal, StreamLimits};
use super::ring::{Cursor, Read, Ring, RingLimits};
use super::selection::{OpenStream, Selector, StreamFilter};
use super::stream_events::StreamEvents;
use super::topic_index::Subscription;
use crate::clock::{Clock, Jitter, UnixMillis};
use crate::metrics::Metrics;
use crate::token::{Subject, TokenId};
use crate::topic::Patterns;

/// Coalescing delay added per stream that an event is for: a few times the cost of one socket
/// write, so that fan-out cannot saturate a core.
const COALESCING_PER_STREAM: Duration = Duration::from_micros(150);

/// Configuration of streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// Bounds of open streams.
    pub limits: StreamLimits,
    /// Interval of SSE heartbeats on an idle stream.
    pub heartbeat: Duration,
    /// Bound of the coalescing delay.
    pub coalesce: Duration,
    /// Maximum age of a stream; each stream draws 80 to 100 % of it.
    pub max_age: Duration,
    /// Maximum of the `retry` field; each client gets 50 to 100 % of it.
    pub retry: Duration,
}

/// Dependencies of a hub.
pub struct HubDeps {
    /// Name of this instance, sent to each client.
    pub instance_id: String,
    /// Location of the log.
    pub log: LogPlace,
    /// Bounds of the ring.
    pub ring: RingLimits,
    /// Configuration of streams.
    pub streams: StreamSettings,
    /// Clock for event ids.
    pub clock: Arc<dyn Clock>,
    /// Randomises reconnects and ages.
    pub jitter: Arc<Jitter>,
    /// Counts events and streams.
    pub metrics: Arc<Metrics>,
    /// Queue of the openings and ends of streams; `None`: they are no events.
    pub stream_events: Option<StreamEvents>,
}

/// Location of the event log.
pub enum LogPlace {
    /// The ring of this hub is the log (an instance without Redis).
    Own(Epoch),
    /// The log is shared with other instances. Its epoch becomes known when it is read.
    Shared(SharedLog),
}

/// The shared log, for streams in catch-up.
pub struct SharedLog(pub(super) Arc<dyn LogReader>);

/// Point at which a client resumes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// At this cursor in the ring.
    At(Cursor),
    /// Nowhere: the client gets `reset`.
    Never(ResetReason),
    /// In the log, before the horizon of the ring.
    Earlier,
    /// After the head of this instance: another instance was faster, or the id is wrong.
    Ahead,
    /// Unknown, because the log is not known yet.
    NotYet,
}

/// Place at which a stream begins that asks for earlier events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At this cursor in the ring.
    At(Cursor),
    /// In the log, up to the horizon of the ring: the ring lacks so many of the events.
    Earlier { missing: usize, horizon: EventId },
    /// Unknown, because the log is not known yet.
    NotYet,
}

/// Reason of a `reset`: why the client lost continuity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetReason {
    /// The id belongs to another log epoch.
    Epoch,
    /// Events after the id were trimmed, or cannot be read by this version.
    Expired,
    /// The id is after the newest event.
    Future,
    /// The text is no event id, or the log was not known when the stream began.
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

/// Events and streams of one instance.
pub struct Hub {
    settings: HubDeps,
    ring: RwLock<Ring>,
    /// Wakes streams in catch-up when the head moves or the availability of the log changes.
    head_moved: watch::Sender<()>,
    /// Whether the log is available.
    log_available: AtomicBool,
    /// Whether the log is known to hold more than this instance has read.
    lags: AtomicBool,
    registry: Arc<Registry>,
}

impl Hub {
    /// Creates a hub without events and streams.
    #[must_use]
    pub fn new(settings: HubDeps) -> Self {
        let epoch = match settings.log {
            LogPlace::Own(epoch) => Some(epoch),
            LogPlace::Shared(_) => None,
        };
        settings.metrics.events.log_available(epoch.is_some());
        Self {
            ring: RwLock::new(Ring::new(settings.ring, epoch)),
            head_moved: watch::Sender::new(()),
            log_available: AtomicBool::new(epoch.is_some()),
            lags: AtomicBool::new(false),
            registry: Arc::new(Registry::new(settings.streams.limits, settings.jitter.number())),
            settings,
        }
    }

    /// Appends an event under the next id and wakes the streams that it is for.
    pub(super) fn append(&self, publication: &Publication) -> EventId {
        let mut ring = self.ring.write();
        let epoch = ring.epoch().unwrap_or(Epoch(0));
        let id = EventId { epoch, position: ring.head().next(self.settings.clock.now().0) };
        let Publication { event_type, data, topics, key } = publication;
        ring.append(Event::new(id, event_type, data, topics.clone(), *key), Instant::now());
        self.settings.metrics.events.published();
        self.wake(ring);
        id
    }

    /// Appends events that were read from the log and wakes the streams that they are for.
    /// `read_to` is the position reached.
    pub(super) fn extend(&self, events: &[Event], read_to: Position) {
        let mut ring = self.ring.write();
        let before = ring.head();
        extend(&mut ring, events, read_to);
        if ring.head() > before {
            self.wake(ring);
        }
    }

    /// Starts the ring again with `events`, which lie after `horizon` and up to `read_to`: the log
    /// does not continue at the head. Open streams still read the former events, and then `reset`,
    /// unless the log was not known before.
    pub(super) fn restart(
        &self,
        epoch: Epoch,
        reason: ResetReason,
        horizon: Position,
        events: &[Event],
        read_to: Position,
    ) {
        let mut ring = self.ring.write();
        let reset = || frame::reset(EventId { epoch, position: horizon }, reason.as_str());
        let reset = ring.epoch().map(|_| reset());
        ring.restart(epoch, horizon, reset, Instant::now());
        extend(&mut ring, events, read_to);
        self.wake(ring);
        self.registry.notify_all();
    }

    /// Wakes the streams that the appended events are for. No lock is held meanwhile: a broadcast
    /// wakes many, and a writer that waits for the lock holds up those that read the ring already.
    fn wake(&self, mut ring: RwLockWriteGuard<'_, Ring>) {
        let news = ring.take_news();
        let ring = RwLockWriteGuard::downgrade(ring);
        let woken: Vec<_> = ring.woken(&news).map(Arc::clone).collect();
        drop(ring);
        for signal in woken {
            signal.notify();
        }
        self.head_moved.send_replace(());
    }

    #[cfg(test)]
    pub(super) fn is_locked(&self) -> bool {
        self.ring.try_write().is_none()
    }

    /// Notes whether the log is available, and wakes streams if that has changed.
    pub(super) fn set_log_available(&self, log_available: bool) {
        if self.log_available.swap(log_available, Ordering::Relaxed) != log_available {
            self.settings.metrics.events.log_available(log_available);
            self.registry.notify_all();
            self.head_moved.send_replace(());
        }
    }

    /// Whether the log is available. An instance without Redis always has its log.
    #[must_use]
    pub fn is_log_available(&self) -> bool {
        self.log_available.load(Ordering::Relaxed)
    }

    /// Notes whether the log holds more than this instance has read.
    pub(super) fn lags(&self, lags: bool) {
        self.lags.store(lags, Ordering::Relaxed);
    }

    /// Whether the log is known to hold more than this instance has read.
    pub(super) fn is_lagging(&self) -> bool {
        self.lags.load(Ordering::Relaxed)
    }

    /// Registers a stream.
    ///
    /// # Errors
    /// A bound of open streams is reached, or the instance drains.
    pub(super) fn enter(&self, opener: Opener) -> Result<Place, OpenError> {
        self.registry.enter(opener, self.settings.clock.now())
    }

    /// Ends every stream that `token` opened on this instance. Returns their number.
    pub fn end_streams_of(&self, token: TokenId) -> usize {
        self.end(&Selector::Token(token), UnixMillis(u64::MAX), EndReason::Revoked)
    }

    /// Ends the streams of this instance that `selector` matches, and that were opened at
    /// `opened_until` or before. Returns the number of those that this ends: one that ends for
    /// another such reason already is not counted.
    pub fn end(&self, selector: &Selector, opened_until: UnixMillis, reason: EndReason) -> usize {
        self.registry.end(selector, opened_until, reason)
    }

    /// Ends the streams of a subject on this instance whose tokens were issued at `issued_until` or
    /// before, as revoked. Returns their number as [`end`](Self::end) does.
    pub fn end_issued(&self, subject: &Subject, issued_until: UnixMillis) -> usize {
        self.registry.end_issued(subject, issued_until)
    }

    /// The `limit` oldest open streams of this instance that `filter` selects, the oldest first,
    /// and whether there are more.
    #[must_use]
    pub fn list(&self, filter: &StreamFilter, limit: usize) -> (Vec<OpenStream>, bool) {
        self.registry.list(filter, limit)
    }

    /// Refuses new streams, ends the open ones spread evenly over `window`, and waits for them.
    pub async fn drain(&self, window: Duration) {
        self.registry.drain(window).await;
    }

    /// Waits until the openings and ends of streams so far are published, if they are events.
    pub async fn flush_stream_events(&self) {
        if let Some(events) = &self.settings.stream_events {
            events.flush().await;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.registry.is_draining()
    }

    pub(super) const fn settings(&self) -> &HubDeps {
        &self.settings
    }

    /// Coalescing delay: a stream waits this long after an event, so that events that follow
    /// closely share a write (docs/adr/0022). It grows with the number of streams that the event is
    /// for, as the saving does.
    pub(super) fn coalescing_delay(&self, audience: usize) -> Duration {
        let streams = u32::try_from(audience).unwrap_or(u32::MAX);
        COALESCING_PER_STREAM.saturating_mul(streams).min(self.settings.streams.coalesce)
    }

    /// Changes when the head moves or the availability of the log changes.
    pub(super) fn watch_head(&self) -> watch::Receiver<()> {
        self.head_moved.subscribe()
    }

    /// Adds a stream to those that events of `patterns` wake.
    pub(super) fn subscribe(&self, patterns: &Patterns, signal: &Arc<Signal>) -> Subscription {
        self.ring.write().subscribe(patterns, signal)
    }

    /// Removes a stream.
    pub(super) fn unsubscribe(&self, patterns: &Patterns, subscription: &Subscription) {
        self.ring.write().unsubscribe(patterns, subscription);
    }

    /// Reads at `cursor`, for a stream that has subscribed to `patterns`.
    pub(super) fn read(&self, patterns: &Patterns, subscription: &Subscription, cursor: Cursor) -> Read {
        self.ring.read().read(patterns, subscription, cursor)
    }

    /// Cursor after the newest event.
    pub(super) fn ring_end(&self) -> Cursor {
        self.ring.read().end()
    }

    /// Start of a new stream: the cursor after the newest event, and the head. `None` while the log
    /// is not known.
    pub(super) fn newest(&self) -> Option<(Cursor, EventId)> {
        let ring = self.ring.read();
        Some((ring.end(), EventId { epoch: ring.epoch()?, position: ring.head() }))
    }

    /// Point at which a client resumes that has received everything up to `id`.
    pub(super) fn resume(&self, id: EventId) -> Resume {
        let is_shared = matches!(self.settings.log, LogPlace::Shared(_));
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

    /// Place of a stream that begins with the last `number` events that `patterns` match.
    pub(super) fn begin_before_last(&self, patterns: &Patterns, number: usize) -> Begin {
        let is_shared = matches!(self.settings.log, LogPlace::Shared(_));
        let ring = self.ring.read();
        match (ring.epoch(), ring.resume_before_last(patterns, number)) {
            (None, _) => Begin::NotYet,
            (_, Ok(cursor)) => Begin::At(cursor),
            (Some(epoch), Err(missing)) if is_shared => {
                Begin::Earlier { missing, horizon: EventId { epoch, position: ring.horizon() } }
            }
            _ => Begin::At(ring.first_of_epoch()),
        }
    }

    /// The shared log, if there is one.
    pub(super) fn reader(&self) -> Option<Arc<dyn LogReader>> {
        match &self.settings.log {
            LogPlace::Own(_) => None,
            LogPlace::Shared(SharedLog(reader)) => Some(Arc::clone(reader)),
        }
    }

    /// Epoch and position of the head; `None` while the log is not known.
    pub(super) fn log_head(&self) -> Option<EventId> {
        self.newest().map(|(_, id)| id)
    }

    /// The horizon, and the events of the present epoch in the ring: what recovery re-submits.
    pub(super) fn held(&self) -> (Position, Vec<Event>) {
        let ring = self.ring.read();
        (ring.horizon(), ring.events().cloned().collect())
    }

    pub(super) fn ring_limits(&self) -> RingLimits {
        self.ring.read().limits()
    }
}

fn extend(ring: &mut Ring, events: &[Event], read_to: Position) {
    let now = Instant::now();
    for event in events {
        if event.position() > ring.head() {
            ring.append(event.clone(), now);
        }
    }
    ring.advance(read_to);
}

#[cfg(test)]
impl HubDeps {
    /// Dependencies of a hub in a test: room for ten events and many streams, and no coalescing.
    pub(super) fn for_tests(log: LogPlace) -> Self {
        Self {
            instance_id: "1".to_owned(),
            log,
            ring: RingLimits { entries: 10, bytes: 10_000 },
            streams: StreamSettings {
                limits: StreamLimits { all: 10_000, per_token: None, per_principal: None },
                heartbeat: Duration::from_secs(15),
                coalesce: Duration::ZERO,
                max_age: Duration::from_mins(15),
                retry: Duration::from_secs(3),
            },
            clock: Arc::new(crate::clock::SystemClock),
            jitter: Arc::new(Jitter::seeded(1)),
            metrics: Arc::new(Metrics::new().unwrap()),
            stream_events: None,
        }
    }
}
