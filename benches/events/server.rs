//! A server under comparison: it delivers an event to many streams.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::http::Client;
use crate::processor;
use crate::share::proportional_bytes;

/// Before an event is repeated.
const RETRY: Duration = Duration::from_millis(50);

/// A server that runs; it ends when this is dropped.
pub(crate) trait Server {
    /// Address on which it listens.
    fn address(&self) -> SocketAddr;

    /// Target of a GET that opens a stream within the next 30 s.
    fn target(&self) -> String;

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
    /// As `POST /path`.
    request: &'static str,
    /// Makes the body out of the event's data.
    body: fn(&str) -> String,
    /// The last event, where it has not been answered yet: its headers and body.
    sent: Option<(String, String)>,
}

impl Publisher {
    pub(crate) fn new(client: Client, request: &'static str, body: fn(&str) -> String) -> Self {
        Self { client, request, body, sent: None }
    }

    /// Sends an event with this data, once the one before is taken.
    pub(crate) fn send(&mut self, data: &str) {
        self.settle();
        // The service recognises repeated events by this key; nchan reads no such header.
        let key = fastrand::u64(..);
        let headers = format!("Content-Type: application/json\r\nIdempotency-Key: {key:016x}");
        let body = (self.body)(data);
        self.client.send_with(self.request, &headers, &body);
        self.sent = Some((headers, body));
    }

    /// Waits until the server has taken the last event. One that cannot say so within its deadline,
    /// as on a machine with other things to do, is asked again; that makes the event late.
    pub(crate) fn settle(&mut self) {
        let Some((headers, body)) = self.sent.take() else {
            return;
        };
        loop {
            let (head, said) = self.client.answer();
            if head.starts_with("HTTP/1.1 20") {
                return;
            }
            assert!(head.starts_with("HTTP/1.1 503 "), "the server answered {head}{said}");
            thread::sleep(RETRY);
            self.client.send_with(self.request, &headers, &body);
        }
    }
}
