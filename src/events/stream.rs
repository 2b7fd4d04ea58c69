//! One open response: a cursor into the ring or the log, SSE heartbeats, a maximum age, and an
//! orderly end.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, sleep_until};

use super::catch_up::{CatchUp, Next};
use super::frame;
use super::hub::{Begin, Hub, HubDeps, ResetReason, Resume};
use super::id::EventId;
use super::registry::{EndReason, OpenError, Opener, Place};
use super::ring::{Cursor, Delivery, Read};
use super::selection::StreamId;
use super::topic_index::Subscription;
use crate::clock::UnixMillis;
use crate::metrics::ResumedFrom;
use crate::telemetry::RequestId;
use crate::topic::Patterns;

/// Bound of a chunk of the response body, in bytes.
const CHUNK: usize = 4000;
/// Bound of the matching events that a stream may begin with.
const MOST_EARLIER: usize = 1000;

/// Position at which a stream begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// After this event. It wins over `earlier`.
    pub last_event_id: Option<&'a str>,
    /// With events that were published before it opened.
    pub earlier: Option<Earlier>,
}

/// Earlier events that a stream begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// All that the log still has.
    All,
    /// The last so many that match its topics.
    Last(u16),
}

impl Earlier {
    /// Parses `start` or `-N`, with N from 1 to 1000.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "start" {
            return Some(Self::All);
        }
        let digits = text.strip_prefix('-')?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        let number = digits.parse().ok().filter(|number| usize::from(*number) <= MOST_EARLIER)?;
        is_plain.then_some(Self::Last(number))
    }

    /// The number of events.
    pub(super) fn number(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::Last(number) => number.into(),
        }
    }
}

/// A registered stream whose token has not been checked against the store yet.
pub struct StreamOpening {
    hub: Arc<Hub>,
    place: Place,
    patterns: Patterns,
    by_token: bool,
    /// The end of the grant.
    until: Option<UnixMillis>,
    companion: Companion,
}

/// Value that a stream keeps until it ends.
type Companion = Option<Box<dyn Any + Send>>;

impl StreamOpening {
    /// Registers a stream of `opener`. Call it after the token's tag was checked, so that forged
    /// tokens are not registered, and before the store is asked, so that a revocation that arrives
    /// meanwhile finds the stream.
    ///
    /// # Errors
    /// A bound of open streams is reached, or the instance drains.
    pub fn take(hub: &Arc<Hub>, opener: Opener) -> Result<Self, OpenError> {
        let (by_token, patterns, until) = (opener.token.is_some(), opener.patterns.clone(), opener.until);
        let place = hub.enter(opener).inspect_err(|error| hub.settings().metrics.stream_refused(*error))?;
        Ok(Self { hub: Arc::clone(hub), place, patterns, by_token, until, companion: None })
    }

    /// Id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.place.id()
    }

    /// Keeps `companion` until the stream ends, or until this is dropped.
    pub fn keep(&mut self, companion: Option<Box<dyn Any + Send>>) {
        self.companion = companion;
    }

    /// Opens the stream at `start`. It begins in the ring, or in catch-up if the position is
    /// outside the ring or the log is not known yet. If the stream cannot continue there, it begins
    /// at the newest event with a `reset`. `request_id` appears in the log line of the stream's
    /// end.
    #[must_use]
    pub fn open(self, start: Start<'_>, request_id: RequestId) -> EventStream {
        let Self { hub, place, patterns, by_token, until, companion } = self;
        place.open();
        // Subscribe before the cursor is read, so that no event is missed between the two.
        let subscription = hub.subscribe(&patterns, place.signal());
        let (opening, reading) = begin(&hub, &patterns, start);
        let settings = hub.settings();
        settings.metrics.stream_opened(by_token);
        announce(&hub, &place, None);
        let now = Instant::now();
        let (ends_at, last_reason) = natural_end(settings, until, now);
        EventStream {
            opening,
            reading,
            client_knows_available: true,
            patterns,
            subscription,
            last_sent: now,
            coalesces_until: now,
            ends_at,
            last_reason,
            drain_cursor: None,
            ended: None,
            request_id,
            place,
            hub,
            _companion: companion,
        }
    }
}

/// Makes an event of the opening of a stream, or of its end with the reason, if the hub is to do
/// so.
fn announce(hub: &Hub, place: &Place, reason: Option<EndReason>) {
    if let Some(events) = &hub.settings().stream_events
        && let Some(stream) = place.described()
    {
        events.add(stream, reason);
    }
}

/// Natural end of a stream that begins now, and its reason: its maximum age, or the end of its
/// grant if that is earlier.
fn natural_end(settings: &HubDeps, until: Option<UnixMillis>, now: Instant) -> (Instant, EndReason) {
    let max_age = settings.streams.max_age;
    let max_age = settings.jitter.between(max_age.mul_f64(0.8), max_age);
    let left = |until: UnixMillis| Duration::from_millis(until.0.saturating_sub(settings.clock.now().0));
    match until.map(left) {
        Some(left) if left < max_age => (now + left, EndReason::GrantEnded),
        _ => (now + max_age, EndReason::MaxAge),
    }
}

/// First frames of a stream, and its place for reading.
fn begin(hub: &Hub, patterns: &Patterns, start: Start<'_>) -> (VecDeque<Bytes>, Reading) {
    let wish = start.last_event_id.map(|id| id.parse::<EventId>().ok());
    let (resume, catch_up) = match (wish, start.earlier) {
        (None, None) => (None, CatchUp::after(hub, None)),
        (None, Some(earlier)) => {
            let number = earlier.number();
            let resume = match hub.begin_before_last(patterns, number) {
                Begin::At(cursor) => Resume::At(cursor),
                Begin::Earlier { .. } => Resume::Earlier,
                Begin::NotYet => Resume::NotYet,
            };
            (Some(resume), CatchUp::before_last(hub, number))
        }
        (Some(None), _) => (Some(Resume::Never(ResetReason::Unknown)), CatchUp::after(hub, None)),
        (Some(Some(id)), _) => (Some(hub.resume(id)), CatchUp::after(hub, Some(id))),
    };
    let seen = wish.flatten();
    match (resume, hub.newest()) {
        (Some(Resume::At(cursor)), _) => {
            hub.settings().metrics.events.resumed(ResumedFrom::Ring);
            (VecDeque::from([greeting(hub, seen)]), Reading::Ring(cursor))
        }
        (None, Some((cursor, id))) => (VecDeque::from([greeting(hub, Some(id))]), Reading::Ring(cursor)),
        (Some(Resume::Never(reason)), Some((cursor, id))) => {
            hub.settings().metrics.events.resumed(ResumedFrom::Nowhere);
            let reset = frame::reset(id, reason.as_str());
            (VecDeque::from([greeting(hub, None), reset]), Reading::Ring(cursor))
        }
        (_, _) => (VecDeque::from([greeting(hub, None)]), Reading::CatchUp(Box::new(catch_up))),
    }
}

fn greeting(hub: &Hub, id: Option<EventId>) -> Bytes {
    let settings = hub.settings();
    let retry = settings.streams.retry;
    frame::connected(id, settings.jitter.between(retry / 2, retry), &settings.instance_id)
}

/// Source of a stream's next event.
enum Reading {
    /// The ring, at this cursor.
    Ring(Cursor),
    /// The log.
    CatchUp(Box<CatchUp>),
}

impl Reading {
    /// Waits for what a stream in catch-up needs for its next step; for ever in the ring. Cancel
    /// safe.
    async fn progress(&mut self) {
        match self {
            Self::Ring(_) => std::future::pending().await,
            Self::CatchUp(catch_up) => catch_up.progress().await,
        }
    }
}

/// An open stream. Dropping it removes it from the registry and counts its end.
pub struct EventStream {
    hub: Arc<Hub>,
    place: Place,
    patterns: Patterns,
    subscription: Subscription,
    opening: VecDeque<Bytes>,
    reading: Reading,
    /// Availability of the log as the client knows it: true until `degraded` is sent.
    client_knows_available: bool,
    last_sent: Instant,
    /// End of the coalescing delay.
    coalesces_until: Instant,
    ends_at: Instant,
    /// Reason to end at that time: the maximum age, or the end of the grant.
    last_reason: EndReason,
    /// Set when the stream has to end: events before this cursor are still sent.
    drain_cursor: Option<Cursor>,
    ended: Option<EndReason>,
    request_id: RequestId,
    _companion: Companion,
}

impl EventStream {
    /// The next frame to send; `None` after the last.
    ///
    /// Cancel safe: dropping the future loses no frame.
    pub async fn next(&mut self) -> Option<Bytes> {
        if self.ended.is_some() {
            return None;
        }
        if let Some(frame) = self.opening.pop_front() {
            return Some(frame);
        }
        // An open stream keeps no buffer for it.
        self.opening = VecDeque::new();
        loop {
            if let Some(reason) = self.has_to_end() {
                return Some(self.end(reason));
            }
            self.place.signal().looks();
            let available = self.hub.is_log_available();
            if self.client_knows_available != available {
                self.client_knows_available = available;
                return Some(self.sent(if available { frame::RECOVERED } else { frame::DEGRADED }));
            }
            let (wait_until, position) = match &mut self.reading {
                Reading::Ring(cursor) => match self.hub.read(&self.patterns, &self.subscription, *cursor) {
                    Read::Frame(delivery) => {
                        *cursor = delivery.next;
                        return Some(self.sent_event(delivery));
                    }
                    Read::FellOut => return Some(self.end(EndReason::Slow)),
                    Read::CaughtUp { end, head } => {
                        *cursor = end;
                        if self.drain_cursor.is_some() {
                            continue;
                        }
                        (None, Some(head))
                    }
                },
                Reading::CatchUp(catch_up) => match catch_up.next(&self.hub, &self.patterns, &self.place) {
                    Next::Event(frame) => return Some(self.sent_page_event(frame)),
                    Next::Reset(frame, cursor) => {
                        self.reading = Reading::Ring(cursor);
                        return Some(self.sent(frame));
                    }
                    Next::InRing(cursor) => {
                        self.reading = Reading::Ring(cursor);
                        continue;
                    }
                    Next::Wait(until) => (until, None),
                },
            };
            let silent_until = self.last_sent + self.hub.settings().streams.heartbeat;
            if Instant::now() >= silent_until {
                return Some(self.sent(position.map_or(frame::HEARTBEAT, frame::heartbeat)));
            }
            let wake_at = wait_until.map_or(silent_until, |until| until.min(silent_until));
            self.wait(wake_at.min(self.ends_at)).await;
        }
    }

    /// Reason to end now, if there is one. A revoked stream, for example, ends at once. In a drain,
    /// a stream that reads the ring first sends the events before its drain cursor. A stream in
    /// catch-up ends at once, because its client resumes elsewhere and misses nothing.
    fn has_to_end(&self) -> Option<EndReason> {
        match (self.place.end_reason(), self.drain_cursor, &self.reading) {
            (Some(reason), _, _) if reason.is_immediate() => Some(reason),
            (Some(reason), Some(drain_cursor), Reading::Ring(cursor)) if *cursor >= drain_cursor => {
                Some(reason)
            }
            (Some(reason), _, Reading::CatchUp(_)) => Some(reason),
            // Checked with every frame: a slow client never reaches the end of the ring.
            _ => (Instant::now() >= self.ends_at).then_some(self.last_reason),
        }
    }

    /// Waits for events of this stream, for progress of catch-up, for a reason to end, or until
    /// `until`.
    async fn wait(&mut self, until: Instant) {
        let is_in_ring = matches!(self.reading, Reading::Ring(_));
        tokio::select! {
            _ = self.place.ended(), if self.drain_cursor.is_none() => self.drain_cursor = Some(self.hub.ring_end()),
            () = self.reading.progress() => {}
            () = self.place.signal().news(), if is_in_ring => self.coalesce().await,
            () = sleep_until(until) => {}
        }
    }

    /// Waits for the end of the coalescing delay. A reason to end is noted at once.
    async fn coalesce(&mut self) {
        if Instant::now() < self.coalesces_until {
            tokio::select! {
                _ = self.place.ended(), if self.drain_cursor.is_none() => self.drain_cursor = Some(self.hub.ring_end()),
                () = sleep_until(self.coalesces_until) => {}
            }
        }
    }

    fn sent_event(&mut self, Delivery { frame, at, audience, .. }: Delivery) -> Bytes {
        self.coalesces_until = at + self.hub.coalescing_delay(audience);
        self.sent_page_event(frame)
    }

    fn sent_page_event(&mut self, frame: Bytes) -> Bytes {
        self.hub.settings().metrics.events.delivered(1);
        self.sent(frame)
    }

    fn sent(&mut self, frame: Bytes) -> Bytes {
        self.last_sent = Instant::now();
        frame
    }

    /// The frames in chunks for a response body. The buffer of a connection never shrinks: without
    /// chunks one large event would leave its size with every stream.
    pub fn into_chunks(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        // In a box: the future would hold the stream twice.
        futures_util::stream::unfold(Box::new((self, Bytes::new())), |mut state| async move {
            let (stream, rest) = &mut *state;
            if rest.is_empty() {
                *rest = stream.next().await?;
            }
            let chunk = rest.split_to(rest.len().min(CHUNK));
            Some((Ok(chunk), state))
        })
    }

    /// The last frame. A stream that has sent everything gets its position before it: on a quiet
    /// topic the last one may be so old that the log no longer reaches back to it.
    fn end(&mut self, reason: EndReason) -> Bytes {
        self.ended = Some(reason);
        let settings = self.hub.settings();
        let retry = settings.streams.retry;
        let last = frame::reconnect(reason.as_str(), settings.jitter.between(retry / 2, retry));
        match self.reading {
            Reading::Ring(cursor) => match self.hub.read(&self.patterns, &self.subscription, cursor) {
                Read::CaughtUp { head, .. } => [frame::heartbeat(head), last].concat().into(),
                Read::Frame(_) | Read::FellOut => last,
            },
            Reading::CatchUp(_) => last,
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // A client that stopped reading never polls again; the kernel cuts its connection.
        let fell_out = || match self.reading {
            Reading::Ring(cursor) => {
                matches!(self.hub.read(&self.patterns, &self.subscription, cursor), Read::FellOut)
            }
            Reading::CatchUp(_) => false,
        };
        let reason =
            self.ended.unwrap_or_else(|| if fell_out() { EndReason::Slow } else { EndReason::Client });
        self.hub.unsubscribe(&self.patterns, &self.subscription);
        self.hub.settings().metrics.stream_ended(reason);
        announce(&self.hub, &self.place, Some(reason));
        self.request_id.span().in_scope(|| {
            tracing::info!(reason = reason.as_str(), stream_id = %self.place.id(), "stream ended");
        });
    }
}

#[cfg(test)]
mod tests;
