//! A client of a stream, to be awaited event by event.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::frames::{Frame, Frames};
use crate::patience::PATIENCE;

/// An event as a browser would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Id from which a client resumes after this event; empty before the first id.
    pub id: String,
    /// Its type.
    pub event: String,
    /// Its data.
    pub data: String,
    /// Wait before the next connection, if the frame changes it.
    pub retry: Option<Duration>,
}

impl Event {
    /// The data as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("the data is JSON")
    }
}

/// An open stream.
pub struct EventStream {
    /// The first event, which says that the stream is connected.
    pub greeting: Event,
    body: Body,
}

/// A stream after its greeting.
struct Body {
    /// `None` after the end.
    response: Option<Response>,
    frames: Frames,
    /// The last id.
    position: String,
    /// Events that came together with an earlier one.
    waiting: VecDeque<Event>,
    is_cut: bool,
}

impl EventStream {
    /// Reads a response as a stream, up to and including its greeting.
    pub async fn connected(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (frames, position, waiting) = (Frames::default(), String::new(), VecDeque::new());
        let mut body = Body { response: Some(response), frames, position, waiting, is_cut: false };
        let greeting = body.next().await.expect("the stream greets");
        assert_eq!(greeting.json()["type"], "connected");
        Self { greeting, body }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.body.next().await
    }

    /// The next event that somebody has published, or a reset. Passes over the notices that the log
    /// is unavailable and available again, which may come at any time on a busy machine.
    pub async fn next_published(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if !["degraded", "recovered"].contains(&event.event.as_str()) {
                return event;
            }
        }
    }

    /// All events until the stream ends.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }

    /// Whether the connection broke before the end of the stream.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.body.is_cut
    }
}

impl Body {
    /// The next event, within [`PATIENCE`]. Nothing is lost if the caller stops waiting.
    async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.receive()).await.expect("an event or the end in time")
    }

    async fn receive(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            match self.response.as_mut()?.chunk().await {
                Ok(Some(bytes)) => self.read(&bytes),
                ended => {
                    self.is_cut = ended.is_err();
                    self.response = None;
                }
            }
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let Self { frames, position, waiting, .. } = self;
        frames.read(bytes, |Frame { id, event, data, retry, .. }| {
            if let Some(id) = id {
                position.clear();
                position.push_str(id);
            }
            let (event, data) = (event.to_string(), data.to_string());
            waiting.push_back(Event { id: position.clone(), event, data, retry: *retry });
        });
    }
}
