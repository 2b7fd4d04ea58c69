//! Streams in the logs of instances, which log in JSON.

use std::collections::HashMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::Value;

use super::{LoggedStream, Moment};

/// Messages of the lines.
const OPENED: &str = "stream opened by token";
const ENDED: &str = "stream ended";

/// Reads the streams of known tokens from the log of an instance. The two lines of a stream have
/// the id of the request that opened it. Nothing is read from a log in text.
#[must_use]
pub fn logged_streams(
    log: &str,
    instance: usize,
    number_of: impl Fn(&str) -> Option<u64>,
    moment_of: impl Fn(SystemTime) -> Option<Moment>,
) -> Vec<LoggedStream> {
    let (mut streams, mut open) = (Vec::<LoggedStream>::new(), HashMap::<String, usize>::new());
    for line in log.lines().filter(|line| line.contains(OPENED) || line.contains(ENDED)) {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
        let (fields, request) = (&line["fields"], text(&line["span"]["id"]));
        let time = line["timestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        let Some(at) = time.and_then(|time| moment_of(SystemTime::from(time))) else { continue };
        match fields["message"].as_str() {
            Some(OPENED) => {
                if let Some(token) = number_of(&text(&fields["token_id"])) {
                    open.insert(request, streams.len());
                    streams.push(LoggedStream { instance, token, opened: at, ended: None, reason: None });
                }
            }
            Some(ENDED) => {
                if let Some(index) = open.remove(&request) {
                    streams[index].ended = Some(at);
                    streams[index].reason = fields["reason"].as_str().map(str::to_owned);
                }
            }
            _ => {}
        }
    }
    streams
}
