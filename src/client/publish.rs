//! `vx11-operator publish`: one event, published once. What is not answered is sent again under the same idempotency
//! key, for as long as the caller's patience lasts.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};
use vx11_operator::events::EventType;

use super::arguments::PublishArguments;
use super::backoff::Backoff;
use super::failure::Failure;
use super::notice;
use super::session::{Published, Session};

/// For one attempt to be answered.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Bounds of the wait between attempts: someone waits for the answer.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// No service takes more.
const LARGEST: u64 = 64 * 1024;

/// Why an event is not known to be published.
#[derive(Debug)]
pub(super) struct Unpublished {
    pub(super) failure: Failure,
    /// Some attempt may have published it.
    pub(super) in_doubt: bool,
}

/// The body of the request; the complaint is for people and does not repeat the data.
pub(super) fn event(arguments: &PublishArguments) -> Result<Bytes, String> {
    let data = match arguments.data.as_deref() {
        None | Some("-") => from_stdin()?,
        Some(data) => data.to_owned(),
    };
    if data.len() as u64 > LARGEST {
        return Err(format!("the data is larger than {LARGEST} bytes, and so than any event"));
    }
    body(arguments.event.as_ref(), &data)
}

fn body(event: Option<&EventType>, data: &str) -> Result<Bytes, String> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<String>,
        data: &'a RawValue,
    }
    let data = serde_json::from_str(data).map_err(|error| {
        format!("the data is not JSON ({error}); a text is JSON in quotes of its own: '\"like this\"'")
    })?;
    let body = Body { event: event.map(ToString::to_string), data };
    serde_json::to_vec(&body).map(Bytes::from).map_err(|error| error.to_string())
}

fn from_stdin() -> Result<String, String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        notice(format_args!("reading the event's data, JSON, from the terminal; Ctrl-D ends it"));
    }
    let mut data = String::new();
    let read = stdin.lock().take(LARGEST + 1).read_to_string(&mut data);
    read.map_err(|error| format!("the data cannot be read from standard input: {error}"))?;
    Ok(data)
}

/// A key that nobody else uses, in the form of a random UUID (RFC 9562 §5.4).
pub(super) fn random_key() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// Publishes, again and again if need be.
pub(super) async fn publish(
    session: &Session,
    event: Bytes,
    key: &str,
    patience: Duration,
    mut backoff: Backoff,
) -> Result<Published, Unpublished> {
    let deadline = Instant::now() + patience;
    let mut in_doubt = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let failure = match session.publish(event.clone(), key, left.min(ATTEMPT)).await {
            Ok(published) => return Ok(published),
            Err(failure) => failure,
        };
        in_doubt |= failure.may_have_been_done();
        let wait = backoff.next_after(failure.retry_after());
        if !failure.is_passing() || Instant::now() + wait >= deadline {
            return Err(Unpublished { failure, in_doubt });
        }
        notice(format_args!(
            "not published yet: {failure}; again in {:.1} s, under the same key",
            wait.as_secs_f32()
        ));
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_sent_as_it_was_written_and_what_is_no_json_is_not_repeated() {
        let written = "{\"b\": 1.10,\n \"a\": [1e2]}";
        assert_eq!(body(None, written).unwrap(), format!("{{\"data\":{written}}}"));
        let event = EventType::parse("order.paid").unwrap();
        assert_eq!(body(Some(&event), "-5").unwrap(), r#"{"event":"order.paid","data":-5}"#);
        for wrong in ["secret-word", "", "{\"secret-word\": 1", "1 secret-word"] {
            let complaint = body(None, wrong).unwrap_err();
            assert!(complaint.contains("not JSON") && !complaint.contains("secret-word"), "{complaint}");
        }
    }

    #[test]
    fn a_key_is_a_random_uuid() {
        let (one, other) = (random_key().unwrap(), random_key().unwrap());
        assert_ne!(one, other);
        let parsed = uuid::Uuid::parse_str(&one).unwrap();
        assert_eq!((parsed.get_version_num(), parsed.to_string()), (4, one));
    }
}
