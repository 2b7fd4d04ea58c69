//! Streams in the logs of instances, which log in JSON.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::Value;

use crate::history::{HistoryRecorder, LoggedStream};

/// Messages of the lines, and the beginning of a log's name.
const OPENED: &str = "stream opened by token";
const ENDED: &str = "stream ended";
const NAME: &str = "operator-";

/// Reads the streams of tokens that the load knows from one log. A stream is known by the request
/// that opened it.
pub(super) fn streams_in(log: &Path, recorder: &HistoryRecorder) -> Vec<LoggedStream> {
    let Some(instance) = instance_of(log) else { return Vec::new() };
    let text = std::fs::read(log).expect("the log can be read");
    let (mut streams, mut open): (Vec<LoggedStream>, HashMap<String, Vec<usize>>) = Default::default();
    for line in String::from_utf8_lossy(&text).lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let message = line["fields"]["message"].as_str().unwrap_or_default();
        let request = line["span"]["request_id"].as_str().unwrap_or_default().to_owned();
        if message != OPENED && message != ENDED {
            continue;
        }
        let time = line["timestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        let Some(at) = time.and_then(|time| recorder.moment_by_clock(SystemTime::from(time))) else {
            continue;
        };
        if message == OPENED {
            let number = line["fields"]["token_id"].as_str().and_then(|id| recorder.number_of(id));
            if let Some(token) = number {
                open.entry(request).or_default().push(streams.len());
                streams.push(LoggedStream { instance, token, opened: at, ended: None });
            }
        } else if let Some(index) = open.get_mut(&request).and_then(Vec::pop) {
            streams[index].ended = Some(at);
        }
    }
    streams
}

/// Index of the instance that wrote a log: they have the ids 1, 2, …
fn instance_of(log: &Path) -> Option<usize> {
    let name = log.file_name()?.to_str()?.strip_prefix(NAME)?;
    let id: usize = name.split('-').next()?.parse().ok()?;
    id.checked_sub(1)
}
