//! Streams in the logs of instances.

use std::time::{Duration, SystemTime};

use serde_json::json;
use vx11_rig::{LoggedStream, logged_streams};

use super::logged;

#[test]
fn streams_are_read_from_the_log_of_an_instance() {
    let line = |second: u32, message: &str, request: &str, token: &str| {
        let fields = if token.is_empty() {
            json!({ "message": message, "reason": "client" })
        } else {
            json!({ "message": message, "token_id": token })
        };
        let timestamp = format!("2026-11-28T08:13:{second}.824104Z");
        json!({ "timestamp": timestamp, "fields": fields, "span": { "id": request, "name": "request" } })
            .to_string()
    };
    let opened = "stream opened by token";
    let log = [
        line(38, opened, "a", "10"),
        "stream ended as text".to_owned(),
        line(39, opened, "b", "11"),
        line(40, opened, "c", "of somebody else"),
        line(41, "stream ended", "a", ""),
        line(42, "stream ended", "c", ""),
    ];
    let start = SystemTime::UNIX_EPOCH + Duration::new(1_795_853_610, 824_104_000);
    let read =
        logged_streams(&log.join("\n"), 2, |id| id.parse().ok(), |time| time.duration_since(start).ok());
    let first = LoggedStream { reason: Some("client".to_owned()), ..logged(2, 10, 8000, Some(11_000)) };
    assert_eq!(read, [first, logged(2, 11, 9000, None)]);
}
