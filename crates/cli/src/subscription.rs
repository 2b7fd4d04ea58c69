//! An open stream: the greeting, then events and messages about the stream. `tail` reconnects.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::failure::{Failure, reason};
use crate::session::{Session, Token};

/// Deadline of the first frame.
const OPENING: Duration = Duration::from_secs(15);
/// Silence after which a stream counts as dead: longer than two SSE heartbeats, which come every 15
/// s.
const LONGEST_SILENCE: Duration = Duration::from_secs(40);

/// A published event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) data: String,
}

/// A message on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Event(Event),
    /// Events are missing (`reset`).
    Reset {
        reason: String,
        id: String,
    },
    /// The last frame (`reconnect`), with the wait.
    Reconnect {
        reason: String,
        after: Option<Duration>,
    },
    /// The event log is unavailable.
    Degraded {
        reason: String,
    },
    /// The event log is available again.
    Recovered,
}

type Frames = Pin<Box<dyn Stream<Item = Result<eventsource_stream::Event, String>>>>;

pub(super) struct Subscription {
    frames: Frames,
    /// The first frame, if it was no greeting.
    first: Option<eventsource_stream::Event>,
    /// The instance that serves it, if known.
    pub(super) instance: Option<String>,
    /// The id at which it begins, if the greeting has one.
    pub(super) position: Option<String>,
}

impl Subscription {
    /// Opens a stream after an event and waits for its first frame, because a proxy may answer for
    /// an instance that does not.
    pub(super) async fn open(
        session: &Session,
        token: Token,
        last_event_id: Option<&str>,
    ) -> Result<Self, Failure> {
        let opening = async {
            let body = session.open(token, last_event_id).await?;
            Self::greeted(frames(body.into_data_stream(), LONGEST_SILENCE)).await
        };
        timeout(OPENING, opening).await.unwrap_or(Err(Failure::Silent(OPENING)))
    }

    async fn greeted(mut frames: Frames) -> Result<Self, Failure> {
        let first = match frames.next().await {
            Some(frame) => frame.map_err(Failure::Cut)?,
            None => return Err(Failure::Cut("it ended before it began".to_owned())),
        };
        // Only the first frame can be the greeting; later ones of that form are events.
        let said: Value = serde_json::from_str(&first.data).unwrap_or_default();
        let is_greeting = first.event == "message" && said["type"] == "connected";
        Ok(Self {
            frames,
            instance: said["instance_id"].as_str().filter(|_| is_greeting).map(str::to_owned),
            position: Some(first.id.clone()).filter(|id| is_greeting && !id.is_empty()),
            first: (!is_greeting).then_some(first),
        })
    }

    /// The next message, or the reason for the end.
    pub(super) async fn next(&mut self) -> Result<Frame, String> {
        let event = match self.first.take() {
            Some(event) => event,
            None => self.frames.next().await.unwrap_or_else(|| Err("it ended".to_owned()))?,
        };
        Ok(read(event))
    }
}

/// The frames of a body, until it is silent for this time.
fn frames<B, E>(body: B, longest_silence: Duration) -> Frames
where
    B: Stream<Item = Result<Bytes, E>> + Unpin + 'static,
    E: std::error::Error + 'static,
{
    let bytes = stream::unfold(body, move |mut body| async move {
        let bytes = match timeout(longest_silence, body.next()).await {
            Ok(chunk) => chunk?.map_err(|error| reason(&error)),
            Err(_) => Err(format!("not a byte for {} s", longest_silence.as_secs())),
        };
        Some((bytes, body))
    });
    let frames = bytes.eventsource().map(|frame| {
        frame.map_err(|error| match error {
            EventStreamError::Transport(words) => words,
            EventStreamError::Utf8(_) | EventStreamError::Parser(_) => {
                "what came is no event stream".to_owned()
            }
        })
    });
    Box::pin(frames)
}

fn read(event: eventsource_stream::Event) -> Frame {
    let eventsource_stream::Event { event: kind, data, id, retry } = event;
    let said: Value = serde_json::from_str(&data).unwrap_or_default();
    let reason = || said["reason"].as_str().unwrap_or("no reason given").to_owned();
    match kind.as_str() {
        "reset" => Frame::Reset { reason: reason(), id },
        "reconnect" => {
            let after = said["retry_ms"].as_u64().map(Duration::from_millis);
            Frame::Reconnect { reason: reason(), after: after.or(retry) }
        }
        "degraded" => Frame::Degraded { reason: reason() },
        "recovered" => Frame::Recovered,
        _ => Frame::Event(Event { id, kind, data }),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::iter;

    use super::*;

    fn body(text: &'static str) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
        iter([Ok(Bytes::from_static(text.as_bytes()))])
    }

    async fn greeted(text: &'static str) -> Result<Subscription, Failure> {
        Subscription::greeted(frames(body(text), LONGEST_SILENCE)).await
    }

    #[tokio::test]
    async fn only_the_first_frame_is_a_greeting() {
        let mut open = greeted(
            "retry: 5\nid: e-1\ndata: {\"type\":\"connected\",\"instance_id\":\"2\"}\n\n\
             id: e-2\nevent: message\ndata: {\"type\":\"connected\"}\n\n",
        )
        .await
        .unwrap();
        assert_eq!((open.instance.as_deref(), open.position.as_deref()), (Some("2"), Some("e-1")));
        let Frame::Event(event) = open.next().await.unwrap() else { panic!("it is an event") };
        assert_eq!((event.id.as_str(), event.kind.as_str()), ("e-2", "message"));
        assert_eq!(open.next().await, Err("it ended".to_owned()));

        let mut other = greeted("id: e-1\nevent: x\ndata: {\"type\":\"connected\"}\n\n").await.unwrap();
        assert_eq!((other.instance.clone(), other.position.clone()), (None, None));
        assert!(matches!(other.next().await, Ok(Frame::Event(event)) if event.kind == "x"));
        // Like nginx's answer to a browser's EventSource without instances.
        assert!(matches!(greeted("retry: 1000\n: come back later\n\n").await, Err(Failure::Cut(_))));
    }

    #[tokio::test]
    async fn what_the_service_says_of_the_stream_is_no_event() {
        let mut open = greeted(
            "data: {\"type\":\"connected\"}\n\n\
             id: e-3\nevent: reset\ndata: {\"reason\":\"epoch\"}\n\n\
             event: degraded\ndata: {\"reason\":\"log_unavailable\"}\n\n\
             event: recovered\ndata: {}\n\n\
             retry: 9\nevent: reconnect\ndata: {\"reason\":\"drain\",\"retry_ms\":1234}\n\n\
             retry: 9\nevent: reconnect\ndata: x\n\n",
        )
        .await
        .unwrap();
        let reconnect = |reason: &str, millis| {
            Ok(Frame::Reconnect { reason: reason.to_owned(), after: Some(Duration::from_millis(millis)) })
        };
        for expected in [
            Ok(Frame::Reset { reason: "epoch".to_owned(), id: "e-3".to_owned() }),
            Ok(Frame::Degraded { reason: "log_unavailable".to_owned() }),
            Ok(Frame::Recovered),
            reconnect("drain", 1234),
            reconnect("no reason given", 9),
        ] {
            assert_eq!(open.next().await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_lost_when_not_a_byte_came_for_too_long_and_comments_count() {
        let comments = iter(0..10).then(|_| async {
            tokio::time::sleep(Duration::from_secs(39)).await;
            Ok::<_, Infallible>(Bytes::from_static(b": heartbeat\n\n"))
        });
        let body = Box::pin(comments.chain(stream::pending()));
        let start = tokio::time::Instant::now();
        let lost = frames(body, LONGEST_SILENCE).next().await.unwrap().unwrap_err();
        assert_eq!(lost, "not a byte for 40 s");
        assert_eq!(start.elapsed().as_secs(), 10 * 39 + 40);
    }
}
