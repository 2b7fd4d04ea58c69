//! A subscriber, reading with a parser that is not ours.

use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::{Event, Eventsource};
use futures_util::{Stream, StreamExt};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use vx11_kit::PATIENCE;

/// An event as a browser would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub id: String,
    pub event: String,
    pub data: String,
    pub retry: Option<Duration>,
}

impl Frame {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("the data is JSON")
    }
}

/// An open stream.
pub struct EventStream {
    events: Pin<Box<dyn Stream<Item = Frame> + Send>>,
    /// The frame that said it is connected.
    pub greeting: Frame,
}

impl EventStream {
    /// Reads a response as a stream, up to and including its greeting.
    pub async fn connected(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let events = response.bytes_stream().eventsource();
        let events =
            events.take_while(|event| std::future::ready(event.is_ok())).filter_map(async |event| event.ok());
        let mut events: Pin<Box<dyn Stream<Item = Frame> + Send>> =
            Box::pin(events.map(|Event { event, data, id, retry }| Frame { id, event, data, retry }));
        let greeting = next(&mut events).await.expect("the stream greets");
        assert_eq!(greeting.json()["type"], "connected");
        Self { events, greeting }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        next(&mut self.events).await
    }

    /// The next event that somebody has published, or a reset. Passes over the notices that the log
    /// is unavailable and available again, which may come at any time on a busy machine.
    pub async fn next_published(&mut self) -> Frame {
        loop {
            let frame = self.next().await.expect("the stream goes on");
            if !["degraded", "recovered"].contains(&frame.event.as_str()) {
                return frame;
            }
        }
    }

    /// All events until the stream ends.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            all.push(frame);
        }
        all
    }
}

async fn next(events: &mut Pin<Box<dyn Stream<Item = Frame> + Send>>) -> Option<Frame> {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("an event or the end in time")
}
