//! One open response: a cursor into the ring or the log, SSE heartbeats, a maximum age, and an
//! orderly end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::catch_up::{CatchUp, Next};
use super::frame;
use super::hub::{Hub, News, ResetReason, Resume};
use super::id::EventId;
use super::registry::{EndReason, OpenError, Opener, Place};
use super::ring::{Cursor, Read};
use crate::metrics::ResumedFrom;
use crate::telemetry::RequestId;

/// Bound of a chunk of the response body, in bytes.
const CHUNK: usize = 4000;

/// A registered stream whose token has not been checked against the store yet.
pub struct StreamOpening {
    hub: Arc<Hub>,
    place: Place,
    by_token: bool,
}

impl StreamOpening {
    /// Registers a stream of `opener`. Call it after the token's tag was checked, so that forged
    /// tokens are not registered, and before the store is asked, so that a revocation that arrives
    /// meanwhile finds the stream.
    ///
    /// # Errors
    /// A bound of open streams is reached, or the instance drains.
    pub fn take(hub: &Arc<Hub>, opener: Opener) -> Result<Self, OpenError> {
        let by_token = opener.token.is_some();
        let place = hub.enter(opener).inspect_err(|error| hub.settings().metrics.stream_refused(*error))?;
        Ok(Self { hub: Arc::clone(hub), place, by_token })
    }

    /// Opens the stream after `last_event_id`. It begins in the ring, or in catch-up if the
    /// position is outside the ring or the log is not known yet. If the stream cannot continue
    /// there, it begins at the newest event with a `reset`. `request_id` appears in the log line of
    /// the stream's end.
    #[must_use]
    pub fn open(self, last_event_id: Option<&str>, request_id: RequestId) -> EventStream {
        let Self { hub, place, by_token } = self;
        // Subscribe before the cursor is read, so that no event is missed between the two.
        let news = hub.watch();
        let (opening, reading) = begin(&hub, last_event_id);
        let settings = hub.settings();
        settings.metrics.stream_opened(by_token);
        let max_age = settings.streams.max_age;
        let now = Instant::now();
        EventStream {
            opening,
            reading,
            client_knows_available: true,
            news,
            last_sent: now,
            coalesces_until: now,
            ends_at: now + settings.jitter.between(max_age.mul_f64(0.8), max_age),
            drain_cursor: None,
            ended: None,
            request_id,
            place,
            hub,
        }
    }
}

/// First frames of a stream, and the source of its next event.
fn begin(hub: &Hub, last_event_id: Option<&str>) -> (VecDeque<Bytes>, Reading) {
    let wish = last_event_id.map(|id| id.parse::<EventId>().ok());
    let resume = match wish {
        None => None,
        Some(None) => Some(Resume::Never(ResetReason::Unknown)),
        Some(Some(id)) => Some(hub.resume(id)),
    };
    let seen = wish.flatten();
    match (resume, hub.newest()) {
        (Some(Resume::At(cursor)), _) => {
            hub.settings().metrics.events.resumed(ResumedFrom::Ring);
            (VecDeque::from([greeting(hub, seen)]), Reading::Ring(cursor))
        }
        (None, Some((cursor, id))) => (VecDeque::from([greeting(hub, Some(id))]), Reading::Ring(cursor)),
        (Some(Resume::Never(gap)), Some((cursor, id))) => {
            hub.settings().metrics.events.resumed(ResumedFrom::Nowhere);
            let reset = frame::reset(id, gap.as_str());
            (VecDeque::from([greeting(hub, None), reset]), Reading::Ring(cursor))
        }
        (_, _) => (VecDeque::from([greeting(hub, None)]), Reading::CatchUp(Box::new(CatchUp::after(seen)))),
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
    fn awaits_page(&self) -> bool {
        matches!(self, Self::CatchUp(catch_up) if catch_up.awaits_page())
    }

    /// Waits for the pending page of the log, or for ever if none is pending. Cancel safe.
    async fn page_comes(&mut self) {
        match self {
            Self::Ring(_) => std::future::pending().await,
            Self::CatchUp(catch_up) => catch_up.page_comes().await,
        }
    }
}

/// An open stream. Dropping it removes it from the registry and counts its end.
pub struct EventStream {
    hub: Arc<Hub>,
    place: Place,
    news: watch::Receiver<News>,
    opening: VecDeque<Bytes>,
    reading: Reading,
    /// Availability of the log as the client knows it: true until `degraded` is sent.
    client_knows_available: bool,
    last_sent: Instant,
    /// End of the coalescing delay.
    coalesces_until: Instant,
    ends_at: Instant,
    /// Set when the stream has to end: events before this cursor are still sent.
    drain_cursor: Option<Cursor>,
    ended: Option<EndReason>,
    request_id: RequestId,
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
        loop {
            if let Some(reason) = self.has_to_end() {
                return Some(self.end(reason));
            }
            self.news.mark_unchanged();
            let available = self.hub.is_log_available();
            if self.client_knows_available != available {
                self.client_knows_available = available;
                return Some(self.sent(if available { frame::RECOVERED } else { frame::DEGRADED }));
            }
            let wait_until = match &mut self.reading {
                Reading::Ring(cursor) => match self.hub.read(*cursor) {
                    Read::Frame(frame) => {
                        *cursor += 1;
                        return Some(self.sent_event(frame));
                    }
                    Read::FellOut => return Some(self.end(EndReason::Slow)),
                    Read::CaughtUp => None,
                },
                Reading::CatchUp(catch_up) => match catch_up.next(&self.hub, &self.place) {
                    Next::Event(frame) => return Some(self.sent_event(frame)),
                    Next::Reset(frame, cursor) => {
                        self.reading = Reading::Ring(cursor);
                        return Some(self.sent(frame));
                    }
                    Next::InRing(cursor) => {
                        self.reading = Reading::Ring(cursor);
                        continue;
                    }
                    Next::Wait(until) => until,
                },
            };
            if let Some(frame) = self.wait(wait_until).await {
                return Some(frame);
            }
        }
    }

    /// Reason to end now, if there is one. A revoked stream ends at once. In a drain, a stream that
    /// reads the ring first sends the events before its drain cursor. A stream in catch-up ends at
    /// once, because its client resumes elsewhere and misses nothing.
    fn has_to_end(&self) -> Option<EndReason> {
        match (self.place.told_to_end(), self.drain_cursor, &self.reading) {
            (Some(EndReason::Revoked), _, _) => Some(EndReason::Revoked),
            (Some(reason), Some(drain_cursor), Reading::Ring(cursor)) if *cursor >= drain_cursor => {
                Some(reason)
            }
            (Some(reason), _, Reading::CatchUp(_)) => Some(reason),
            // Checked with every frame: a slow client never reaches the end of the ring.
            _ => (Instant::now() >= self.ends_at).then_some(EndReason::MaxAge),
        }
    }

    /// Waits for the pending page, or for news if none is pending; for a reason to end; or until
    /// `until`. Returns a heartbeat if one is due.
    async fn wait(&mut self, until: Option<Instant>) -> Option<Bytes> {
        let silent_until = self.last_sent + self.hub.settings().streams.heartbeat;
        let wake_at = until.map_or(silent_until, |until| until.min(silent_until)).min(self.ends_at);
        let awaits_page = self.reading.awaits_page();
        tokio::select! {
            _ = self.place.ended(), if self.drain_cursor.is_none() => self.drain_cursor = Some(self.hub.end()),
            () = self.reading.page_comes(), if awaits_page => {}
            // The sender is part of the hub, which this stream holds: it cannot be dropped.
            _ = self.news.changed(), if !awaits_page => self.coalesce().await,
            () = sleep_until(wake_at) => {
                if wake_at == silent_until {
                    return Some(self.sent(frame::HEARTBEAT));
                }
            }
        }
        None
    }

    /// Waits until the coalescing delay is over or a reason to end arrives.
    async fn coalesce(&mut self) {
        if Instant::now() < self.coalesces_until {
            tokio::select! {
                _ = self.place.ended(), if self.drain_cursor.is_none() => self.drain_cursor = Some(self.hub.end()),
                () = sleep_until(self.coalesces_until) => {}
            }
        }
    }

    fn sent_event(&mut self, frame: Bytes) -> Bytes {
        self.hub.settings().metrics.events.delivered(1);
        self.coalesces_until = self.news.borrow().at + self.hub.coalescing_delay();
        self.sent(frame)
    }

    fn sent(&mut self, frame: Bytes) -> Bytes {
        self.last_sent = Instant::now();
        frame
    }

    /// The frames in chunks for a response body. The buffer of a connection never shrinks: without
    /// chunks one large event would leave its size with every stream.
    pub fn into_chunks(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        futures_util::stream::unfold((self, Bytes::new()), |(mut stream, mut rest)| async move {
            if rest.is_empty() {
                rest = stream.next().await?;
            }
            let chunk = rest.split_to(rest.len().min(CHUNK));
            Some((Ok(chunk), (stream, rest)))
        })
    }

    fn end(&mut self, reason: EndReason) -> Bytes {
        self.ended = Some(reason);
        let settings = self.hub.settings();
        let retry = settings.streams.retry;
        frame::reconnect(reason.as_str(), settings.jitter.between(retry / 2, retry))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // A client that stopped reading never polls again; the kernel cuts its connection.
        let fell_out = || match self.reading {
            Reading::Ring(cursor) => matches!(self.hub.read(cursor), Read::FellOut),
            Reading::CatchUp(_) => false,
        };
        let reason =
            self.ended.unwrap_or_else(|| if fell_out() { EndReason::Slow } else { EndReason::Client });
        self.hub.settings().metrics.stream_ended(reason);
        self.request_id.span().in_scope(|| tracing::info!(reason = reason.as_str(), "stream ended"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::clock::{Jitter, SystemClock};
    use crate::events::frame::EventType;
    use crate::events::hub::{HubDeps, LogPlace, SharedLog, StreamSettings};
    use crate::events::id::{Epoch, Position};
    use crate::events::log::{LogReader, Page, Unreachable};
    use crate::events::publication::Publication;
    use crate::events::registry::StreamLimits;
    use crate::events::ring::RingLimits;
    use crate::metrics::Metrics;
    use crate::principal::PrincipalId;
    use crate::telemetry::RequestIds;
    use crate::token::TokenId;

    /// So many that events wait as long as they may, 30 ms.
    const MANY: usize = 1_000;

    fn hub() -> Arc<Hub> {
        hub_of(LogPlace::Own(Epoch(1)))
    }

    fn hub_of(log: LogPlace) -> Arc<Hub> {
        Arc::new(Hub::new(HubDeps {
            instance_id: "1".to_owned(),
            log,
            ring: RingLimits { entries: 100, bytes: 10_000 },
            streams: StreamSettings {
                limits: StreamLimits { all: 10_000, per_token: None, per_principal: None },
                heartbeat: Duration::from_secs(15),
                coalesce: Duration::from_millis(30),
                max_age: Duration::from_mins(15),
                retry: Duration::from_secs(3),
            },
            clock: Arc::new(SystemClock),
            jitter: Arc::new(Jitter::seeded(1)),
            metrics: Arc::new(Metrics::new().unwrap()),
        }))
    }

    /// A log that is asked, counts that, and does not answer.
    #[derive(Default)]
    struct Silent(AtomicUsize);

    #[async_trait]
    impl LogReader for Silent {
        async fn after(&self, _seen: EventId, _token: Option<TokenId>) -> Result<Page, Unreachable> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
    }

    fn opening(hub: &Arc<Hub>, token: Option<TokenId>) -> StreamOpening {
        let principal = PrincipalId::parse("operator").unwrap();
        StreamOpening::take(hub, Opener { principal, token }).unwrap()
    }

    fn stream(hub: &Arc<Hub>, token: Option<TokenId>) -> EventStream {
        opening(hub, token).open(None, RequestIds::new(1).draw())
    }

    fn publish(hub: &Hub, data: &str) {
        hub.append(&Publication::new(EventType::default(), data, None));
    }

    async fn elapse(millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Reads a stream as a connection does; each frame with the milliseconds since now.
    fn read(mut stream: EventStream) -> tokio::task::JoinHandle<Vec<(u128, String)>> {
        let began = Instant::now();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            // The greeting is of no interest.
            stream.next().await;
            while let Some(frame) = stream.next().await {
                seen.push((began.elapsed().as_millis(), String::from_utf8(frame.to_vec()).unwrap()));
            }
            seen
        })
    }

    fn moments(seen: &[(u128, String)], words: &[&str]) -> Vec<u128> {
        let found = words.iter().map(|word| seen.iter().find(|(_, frame)| frame.contains(word)).unwrap().0);
        found.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn events_in_quick_succession_share_a_write_if_there_are_many_streams() {
        let hub = hub();
        let token = TokenId::parse("0123456789abcdef").unwrap();
        let _others: Vec<_> = (1..MANY).map(|_| stream(&hub, None)).collect();
        let reading = read(stream(&hub, Some(token)));
        elapse(100).await;
        // The first at once; the next two 30 ms after it; one 30 ms after these, and one after a
        // pause, at once again.
        for (n, wait) in [10, 10, 30, 150, 10].into_iter().enumerate() {
            publish(&hub, &format!("event-{n}"));
            elapse(wait).await;
        }
        // A reason to end arrives in the coalescing delay.
        publish(&hub, "event-5");
        elapse(1).await;
        hub.end_streams_of(token);
        let seen = reading.await.unwrap();
        let at = moments(&seen, &["event-0", "event-1", "event-2", "event-3", "event-4", "revoked"]);
        assert_eq!(at, [100, 130, 130, 150, 300, 311]);
    }

    #[tokio::test(start_paused = true)]
    async fn events_of_few_streams_never_wait() {
        let hub = hub();
        let token = TokenId::parse("0123456789abcdef").unwrap();
        let reading = read(stream(&hub, Some(token)));
        for n in 0..3 {
            elapse(1).await;
            publish(&hub, &format!("event-{n}"));
        }
        elapse(1).await;
        hub.end_streams_of(token);
        let at = moments(&reading.await.unwrap(), &["event-0", "event-1", "event-2"]);
        assert!(at.iter().zip([1, 2, 3]).all(|(seen, sent)| seen - sent <= 1), "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_a_page_asks_for_it_once_gets_heartbeats_and_can_be_ended() {
        let log = Arc::new(Silent::default());
        let hub = hub_of(LogPlace::Shared(SharedLog(Arc::clone(&log) as Arc<dyn LogReader>)));
        let [horizon, head] = [10, 12].map(|millis| Position { millis, seq: 0 });
        hub.restart(Epoch(1), ResetReason::Epoch, horizon, &[], head);
        hub.set_log_available(true);
        let token = TokenId::parse("0123456789abcdef").unwrap();
        let reading = read(opening(&hub, Some(token)).open(Some("00000001-5-0"), RequestIds::new(1).draw()));
        elapse(40_000).await;
        hub.end_streams_of(token);
        let seen = reading.await.unwrap();
        let beats: Vec<_> = seen.iter().filter(|(_, frame)| frame.starts_with(": heartbeat")).collect();
        assert_eq!(beats.iter().map(|(at, _)| at / 1000).collect::<Vec<_>>(), [15, 30]);
        assert_eq!(moments(&seen, &["revoked"]), [40_000]);
        assert_eq!(log.0.load(Ordering::Relaxed), 1);
    }
}
