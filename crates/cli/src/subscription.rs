//! An open stream: the greeting, then events and messages about the stream. `tail` reconnects.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::failure::{Failure, reason};
use crate::frame_parser::{Fields, FrameParser, NotAStream};
use crate::session::{Session, Start, Token};

/// Deadline of the first frame.
const OPENING: Duration = Duration::from_secs(15);
/// Silence after which a stream counts as dead: longer than two SSE heartbeats, which come every 15
/// s.
const LONGEST_SILENCE: Duration = Duration::from_secs(40);
/// Topic of events whose frame names none.
const DEFAULT_TOPIC: &str = "default";

/// A published event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    /// Its topic, unless that is `default`.
    pub(super) topic: Option<String>,
    pub(super) data: String,
}

/// A message on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Event(Event),
    /// An SSE heartbeat with a position.
    Heartbeat,
    /// Events are missing (`reset`).
    Reset {
        reason: String,
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

type Frames = Pin<Box<dyn Stream<Item = Result<Fields, String>>>>;

pub(super) struct Subscription {
    frames: Frames,
    /// The first frame, if it was no greeting.
    first: Option<Fields>,
    /// The instance that serves it, if known.
    pub(super) instance: Option<String>,
    /// The last id that it has had: in the greeting, an event, `reset` or an SSE heartbeat. An
    /// empty one has taken it back.
    pub(super) position: Option<String>,
}

impl Subscription {
    /// Opens a stream and waits for its first frame, because a proxy may answer for an instance
    /// that does not.
    pub(super) async fn open(session: &Session, token: Token, start: &Start) -> Result<Self, Failure> {
        let opening = async {
            let body = session.open(token, start).await?;
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
        let said = first.data.as_deref().map(parsed).unwrap_or_default();
        let is_greeting = ["", "message"].contains(&first.event.as_str()) && said["type"] == "connected";
        Ok(Self {
            frames,
            instance: said["instance_id"].as_str().filter(|_| is_greeting).map(str::to_owned),
            position: first.id.clone().filter(|_| is_greeting),
            first: (!is_greeting).then_some(first),
        })
    }

    /// The next message, or the reason for the end.
    pub(super) async fn next(&mut self) -> Result<Frame, String> {
        let fields = match self.first.take() {
            Some(fields) => fields,
            None => self.frames.next().await.unwrap_or_else(|| Err("it ended".to_owned()))?,
        };
        self.position.clone_from(&fields.id);
        Ok(read(fields))
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
    let mut parser = FrameParser::default();
    let frames = bytes.flat_map(move |bytes: Result<Bytes, String>| {
        let parsed = bytes.and_then(|bytes| {
            parser.push(&bytes).map_err(|NotAStream| "what came is no event stream".to_owned())
        });
        stream::iter(match parsed {
            Ok(frames) => frames.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    });
    Box::pin(frames)
}

/// The data of a frame, or null if it is no JSON.
fn parsed(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_default()
}

fn read(fields: Fields) -> Frame {
    let Fields { id, event, topic, data, retry } = fields;
    let Some(data) = data else { return Frame::Heartbeat };
    let said = parsed(&data);
    let reason = || said["reason"].as_str().unwrap_or("no reason given").to_owned();
    match event.as_str() {
        "reset" => Frame::Reset { reason: reason() },
        "reconnect" => {
            let after = said["retry_ms"].as_u64().map(Duration::from_millis);
            Frame::Reconnect { reason: reason(), after: after.or(retry) }
        }
        "degraded" => Frame::Degraded { reason: reason() },
        "recovered" => Frame::Recovered,
        _ => Frame::Event(Event {
            id: id.unwrap_or_default(),
            kind: if event.is_empty() { "message".to_owned() } else { event },
            topic: topic.filter(|topic| !["", DEFAULT_TOPIC].contains(&topic.as_str())),
            data,
        }),
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
            Ok(Frame::Reset { reason: "epoch".to_owned() }),
            Ok(Frame::Degraded { reason: "log_unavailable".to_owned() }),
            Ok(Frame::Recovered),
            reconnect("drain", 1234),
            reconnect("no reason given", 9),
        ] {
            assert_eq!(open.next().await, expected);
            assert_eq!(open.position.as_deref(), Some("e-3"), "no other frame has an id");
        }
    }

    #[tokio::test]
    async fn the_position_of_a_heartbeat_is_taken_and_none_is_not() {
        let mut open = greeted(
            "id: e-1\ndata: {\"type\":\"connected\"}\n\n: heartbeat\n\n: heartbeat\nid: e-2\n\n\
             data: 1\n\nid:\n\ndata: 2\n\n",
        )
        .await
        .unwrap();
        let event = |id: &str, data: &str| {
            let (id, kind) = (id.to_owned(), "message".to_owned());
            Frame::Event(Event { id, kind, topic: None, data: data.to_owned() })
        };
        for (expected, position) in [
            (Frame::Heartbeat, "e-2"),
            (event("e-2", "1"), "e-2"),
            (Frame::Heartbeat, ""),
            (event("", "2"), ""),
        ] {
            assert_eq!(open.next().await.unwrap(), expected);
            assert_eq!(open.position.as_deref(), Some(position));
        }
    }

    #[tokio::test]
    async fn an_event_has_the_topic_of_its_frame_and_none_is_default() {
        let mut open = greeted(
            "data: {\"type\":\"connected\"}\n\n\
             topic: orders/1\ndata: 1\n\ndata: 2\n\ndata: 3\ntopic: default\n\ndata: 4\ntopic\n\n",
        )
        .await
        .unwrap();
        for expected in [Some("orders/1"), None, None, None] {
            let Frame::Event(event) = open.next().await.unwrap() else { panic!("it is an event") };
            assert_eq!(event.topic.as_deref(), expected);
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
