//! One open response: a cursor into the hub's ring, a heartbeat, an age, and an orderly end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::behind::{Behind, Next};
use super::frame;
use super::hub::{Gap, Hub, Resume};
use super::id::EventId;
use super::registry::{EndReason, OpenError, Place};
use super::ring::{Cursor, Read};
use crate::metrics::ResumedFrom;
use crate::telemetry::RequestId;
use crate::token::TokenId;

/// Most bytes of a frame in one chunk of a response body.
const CHUNK: usize = 4000;

/// A place for a stream whose client has not been judged yet.
pub struct StreamOpening {
    hub: Arc<Hub>,
    place: Place,
    by_token: bool,
}

impl StreamOpening {
    /// Takes a place for a stream opened with `token`, or with a principal's credential. Done before the token is
    /// judged, so that a revocation that arrives in between finds the stream.
    ///
    /// # Errors
    /// [`OpenError`] when the cap is reached or the instance is stopping.
    pub fn take(hub: &Arc<Hub>, token: Option<TokenId>) -> Result<Self, OpenError> {
        let place = hub.enter(token)?;
        Ok(Self { hub: Arc::clone(hub), place, by_token: token.is_some() })
    }

    /// Opens the stream: after `last_event_id` where that is possible, else at the newest event, with the gap
    /// announced. `request_id` names the request in the log line of the stream's end.
    #[must_use]
    pub fn open(self, last_event_id: Option<&str>, request_id: RequestId) -> EventStream {
        let Self { hub, place, by_token } = self;
        // Subscribed before the position is read, so that nothing falls between the two.
        let news = hub.watch();
        let (opening, reading) = begin(&hub, last_event_id);
        let settings = hub.settings();
        settings.metrics.stream_opened(by_token);
        let max_age = settings.streams.max_age;
        let now = Instant::now();
        EventStream {
            opening,
            reading,
            told_in_reach: true,
            news,
            last_sent: now,
            ends_at: now + settings.jitter.between(max_age.mul_f64(0.8), max_age),
            owed_until: None,
            ended: None,
            request_id,
            place,
            hub,
        }
    }
}

/// What a stream says first, and where it reads from then on.
fn begin(hub: &Hub, last_event_id: Option<&str>) -> (VecDeque<Bytes>, Reading) {
    let wish = last_event_id.map(|id| id.parse::<EventId>().ok());
    let resume = match wish {
        None => None,
        Some(None) => Some(Resume::Never(Gap::Unknown)),
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
        (_, _) => (VecDeque::from([greeting(hub, None)]), Reading::Behind(Box::new(Behind::after(seen)))),
    }
}

fn greeting(hub: &Hub, id: Option<EventId>) -> Bytes {
    let settings = hub.settings();
    let retry = settings.streams.retry;
    frame::connected(id, settings.jitter.between(retry / 2, retry), &settings.instance_id)
}

/// Where a stream finds what it sends next.
enum Reading {
    /// In the ring.
    Ring(Cursor),
    /// Not there, or not yet.
    Behind(Box<Behind>),
}

/// An open stream. Dropping it gives its place back and counts its end.
pub struct EventStream {
    hub: Arc<Hub>,
    place: Place,
    news: watch::Receiver<Cursor>,
    opening: VecDeque<Bytes>,
    reading: Reading,
    /// What the client was last told about the log.
    told_in_reach: bool,
    last_sent: Instant,
    ends_at: Instant,
    /// Set once the stream was told to end: what lies before it is still sent.
    owed_until: Option<Cursor>,
    ended: Option<EndReason>,
    request_id: RequestId,
}

impl EventStream {
    /// The next frame to send; `None` after the last. Dropping the future loses nothing.
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
            let in_reach = self.hub.is_log_in_reach();
            if self.told_in_reach != in_reach {
                self.told_in_reach = in_reach;
                return Some(self.sent(if in_reach { frame::RECOVERED } else { frame::DEGRADED }));
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
                Reading::Behind(behind) => match behind.next(&self.hub, &self.place).await {
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

    /// Whether the stream ends here and now. One that was revoked does; any other first sends what was published before
    /// it was told, unless that is not at hand: its client resumes elsewhere and misses nothing.
    fn has_to_end(&self) -> Option<EndReason> {
        match (self.place.told_to_end(), self.owed_until, &self.reading) {
            (Some(EndReason::Revoked), _, _) => Some(EndReason::Revoked),
            (Some(reason), Some(owed_until), Reading::Ring(cursor)) if *cursor >= owed_until => Some(reason),
            (Some(reason), _, Reading::Behind(_)) => Some(reason),
            // Looked at with every frame: a client that reads slowly never catches up.
            _ => (Instant::now() >= self.ends_at).then_some(EndReason::MaxAge),
        }
    }

    /// Waits for news, for an order to end, or for `until`; the frame is a heartbeat.
    async fn wait(&mut self, until: Option<Instant>) -> Option<Bytes> {
        let silent_until = self.last_sent + self.hub.settings().streams.heartbeat;
        let wake_at = until.map_or(silent_until, |until| until.min(silent_until)).min(self.ends_at);
        tokio::select! {
            _ = self.place.ended(), if self.owed_until.is_none() => self.owed_until = Some(self.hub.end()),
            // The sender lives in the hub, which this stream holds: it cannot be gone.
            _ = self.news.changed() => {}
            () = sleep_until(wake_at) => {
                if wake_at == silent_until {
                    return Some(self.sent(frame::HEARTBEAT));
                }
            }
        }
        None
    }

    fn sent_event(&mut self, frame: Bytes) -> Bytes {
        self.hub.settings().metrics.events.delivered(1);
        self.sent(frame)
    }

    fn sent(&mut self, frame: Bytes) -> Bytes {
        self.last_sent = Instant::now();
        frame
    }

    /// The frames, cut into chunks for a response body. A connection's buffer keeps the size it once needed: uncut, one
    /// large event would leave as much behind with every stream.
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
        // A client that stopped reading never polls again: the kernel cuts it, and here is where that shows.
        let fell_out = || match self.reading {
            Reading::Ring(cursor) => matches!(self.hub.read(cursor), Read::FellOut),
            Reading::Behind(_) => false,
        };
        let reason =
            self.ended.unwrap_or_else(|| if fell_out() { EndReason::Slow } else { EndReason::Client });
        self.hub.settings().metrics.stream_ended(reason.as_str());
        self.request_id.span().in_scope(|| tracing::info!(reason = reason.as_str(), "stream ended"));
    }
}
