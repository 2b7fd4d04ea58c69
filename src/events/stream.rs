//! One open response: a cursor into the hub's ring, a heartbeat, an age, and an orderly end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::frame;
use super::hub::{Gap, Hub};
use super::id::EventId;
use super::registry::{EndReason, OpenError, Place};
use super::ring::{Cursor, Read};
use crate::telemetry::RequestId;
use crate::token::TokenId;

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
        let (start, gap) = match last_event_id.map(|id| hub.resume(id)) {
            Some(Ok(start)) => (start, None),
            Some(Err(gap)) => (hub.newest(), Some(gap)),
            None => (hub.newest(), None),
        };
        let settings = hub.settings();
        settings.metrics.stream_opened(by_token);
        let max_age = settings.streams.max_age;
        let now = Instant::now();
        EventStream {
            opening: opening_frames(&hub, start.1, gap),
            cursor: start.0,
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

fn opening_frames(hub: &Hub, start: EventId, gap: Option<Gap>) -> VecDeque<Bytes> {
    let settings = hub.settings();
    let retry = settings.streams.retry;
    let retry = settings.jitter.between(retry / 2, retry);
    let connected = frame::connected(gap.is_none().then_some(start), retry, &settings.instance_id);
    std::iter::once(connected).chain(gap.map(|gap| frame::reset(start, gap.as_str()))).collect()
}

/// An open stream. Dropping it gives its place back and counts its end.
pub struct EventStream {
    hub: Arc<Hub>,
    place: Place,
    news: watch::Receiver<Cursor>,
    opening: VecDeque<Bytes>,
    cursor: Cursor,
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
        let heartbeat = self.hub.settings().streams.heartbeat;
        loop {
            // A revoked stream ends here and now; any other first sends what was published before it was told.
            match (self.place.told_to_end(), self.owed_until) {
                (Some(EndReason::Revoked), _) => return Some(self.end(EndReason::Revoked)),
                (Some(reason), Some(owed_until)) if self.cursor >= owed_until => {
                    return Some(self.end(reason));
                }
                _ => {}
            }
            // Looked at with every frame: a client that reads slowly never catches up.
            if Instant::now() >= self.ends_at {
                return Some(self.end(EndReason::MaxAge));
            }
            self.news.mark_unchanged();
            match self.hub.read(self.cursor) {
                Read::Frame(frame) => {
                    self.cursor += 1;
                    self.last_sent = Instant::now();
                    self.hub.settings().metrics.events_delivered(1);
                    return Some(frame);
                }
                Read::FellOut => return Some(self.end(EndReason::Slow)),
                Read::CaughtUp => {}
            }
            let silent_until = self.last_sent + heartbeat;
            tokio::select! {
                _ = self.place.ended() => self.owed_until = Some(self.hub.newest().0),
                // The sender lives in the hub, which this stream holds: it cannot be gone.
                _ = self.news.changed() => {}
                () = sleep_until(self.ends_at.min(silent_until)) => {
                    if self.ends_at > silent_until {
                        self.last_sent = Instant::now();
                        return Some(frame::HEARTBEAT);
                    }
                }
            }
        }
    }

    /// The frames as a stream, for a response body.
    pub fn into_frames(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        futures_util::stream::unfold(self, |mut stream| async move {
            stream.next().await.map(|frame| (Ok(frame), stream))
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
        let fell_out = || matches!(self.hub.read(self.cursor), Read::FellOut);
        let reason =
            self.ended.unwrap_or_else(|| if fell_out() { EndReason::Slow } else { EndReason::Client });
        self.hub.settings().metrics.stream_ended(reason.as_str());
        self.request_id.span().in_scope(|| tracing::info!(reason = reason.as_str(), "stream ended"));
    }
}
