//! A server under comparison: it delivers an event to many streams.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::http::Client;
use crate::processor;
use crate::share::proportional_bytes;

/// Before an event is repeated.
const RETRY: Duration = Duration::from_millis(50);

/// Number of a topic of the service or of a channel of nchan. `None` is the topic `default`, or the
/// channel of nchan that has no number.
pub(crate) type Channel = Option<u32>;

/// A server that runs; it ends when this is dropped.
pub(crate) trait Server {
    /// Address on which it listens.
    fn address(&self) -> SocketAddr;

    /// Target of a GET for each channel, which opens a stream of it within the next 30 s. Each has
    /// a separate token, issued when the target is asked for.
    fn targets(&self, channels: impl Iterator<Item = Channel>) -> impl Iterator<Item = String>;

    /// Target of GETs that open streams of a channel within the next 30 s.
    fn target(&self, channel: Channel) -> String {
        self.targets(std::iter::once(channel)).next().expect("each channel has a target")
    }

    /// A separate connection for the publisher.
    fn publisher(&self) -> Publisher;

    /// All its processes.
    fn processes(&self) -> Vec<u32>;

    /// Seconds of processor time that all its processes have taken so far.
    fn processor_seconds(&self) -> f64 {
        self.processes().into_iter().map(processor::seconds).sum()
    }

    /// Bytes that its processes hold in memory, those they share counted once.
    fn resident_bytes(&self) -> f64 {
        self.processes().into_iter().map(proportional_bytes).sum()
    }
}

/// A connection that publishes, and what the server expects there.
pub(crate) struct Publisher {
    client: Client,
    /// Makes the request of a channel, as `POST /path`.
    request: fn(Channel) -> String,
    /// Makes the body out of the event's channel and data.
    body: fn(Channel, &str) -> String,
    /// The last event, where it has not been answered yet.
    sent: Option<Event>,
}

/// An event as it is sent.
struct Event {
    request: String,
    headers: String,
    body: String,
}

impl Event {
    fn send(&self, client: &mut Client) {
        client.send_with(&self.request, &self.headers, &self.body);
    }
}

impl Publisher {
    pub(crate) fn new(
        client: Client,
        request: fn(Channel) -> String,
        body: fn(Channel, &str) -> String,
    ) -> Self {
        Self { client, request, body, sent: None }
    }

    /// Sends an event with this data to a channel, once the one before is taken.
    pub(crate) fn send(&mut self, channel: Channel, data: &str) {
        self.settle();
        // The service recognises repeated events by this key; nchan reads no such header.
        let key = fastrand::u64(..);
        let headers = format!("Content-Type: application/json\r\nIdempotency-Key: {key:016x}");
        let event = Event { request: (self.request)(channel), headers, body: (self.body)(channel, data) };
        event.send(&mut self.client);
        self.sent = Some(event);
    }

    /// Waits until the server has taken the last event. One that cannot say so within its deadline,
    /// as on a machine with other things to do, is asked again; that makes the event late.
    pub(crate) fn settle(&mut self) {
        let Some(event) = self.sent.take() else {
            return;
        };
        loop {
            let (head, said) = self.client.answer();
            if head.starts_with("HTTP/1.1 20") {
                return;
            }
            assert!(head.starts_with("HTTP/1.1 503 "), "the server answered {head}{said}");
            thread::sleep(RETRY);
            event.send(&mut self.client);
        }
    }
}
