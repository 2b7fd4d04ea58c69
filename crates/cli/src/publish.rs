//! `vx11-operator publish`: publishes one event once. Failed attempts are repeated under the same
//! idempotency key, for as long as `--patience` allows.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use crate::arguments::PublishArguments;
use crate::backoff::{Backoff, LONGEST_WAIT};
use crate::escape::visible;
use crate::failure::Failure;
use crate::report::{misconfigured, notice, refused_principal};
use crate::session::{Published, Session};
use crate::stdout::Stdout;

/// Deadline of an attempt.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Bounds of the wait between attempts; a person waits for the result.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Largest body that the service accepts.
const LARGEST: u64 = 64 * 1024;

/// Exit code if it is not known whether the event was published.
const OUTCOME_UNKNOWN: u8 = 3;

/// Publishes the event of the arguments and prints its id.
pub(super) async fn run(session: &Session, arguments: &PublishArguments) -> ExitCode {
    // Reads standard input on this thread, which has nothing else to do.
    let event = match event(arguments) {
        Ok(event) => event,
        Err(complaint) => return misconfigured(&complaint),
    };
    let key = match arguments.key.clone().map_or_else(random_key, Ok) {
        Ok(key) => key,
        Err(error) => return misconfigured(&format!("no key can be made: {error}; give one as --key")),
    };
    let patience = Duration::from_secs(arguments.patience);
    let attempt = |time| session.publish(event.clone(), &key, time);
    match repeat(session.url(), patience, Backoff::new(Rng::new(), BACKOFF), attempt).await {
        Ok(published) => {
            if published.earlier {
                notice(format_args!("an earlier attempt under this key had published it"));
            }
            // The event is published even if nobody reads the id.
            let _ = Stdout::open().write(&format!("{}\n", visible(&published.id))).await;
            ExitCode::SUCCESS
        }
        Err(unpublished) => report(session.url(), &key, &unpublished),
    }
}

fn report(url: &str, key: &str, unpublished: &Unpublished) -> ExitCode {
    let failure = &unpublished.failure;
    if let Some(doubt) = unpublished.doubt() {
        notice(format_args!(
            "not known whether it was published at {url}: {doubt}; the same command with --key {key} publishes it \
             now, or tells its id"
        ));
        return ExitCode::from(OUTCOME_UNKNOWN);
    }
    if failure.refuses_principal() {
        return refused_principal(url, failure);
    }
    notice(format_args!("not published at {url}: {failure}{}", failure.advice()));
    ExitCode::FAILURE
}

/// Failure of all attempts.
#[derive(Debug)]
struct Unpublished {
    /// Failure of the last attempt.
    failure: Failure,
    /// Failure of an earlier attempt that may have published the event.
    earlier: Option<Failure>,
}

impl Unpublished {
    /// The failure after which the event may be published; `None` if it is certainly not published.
    fn doubt(&self) -> Option<String> {
        let Self { failure, earlier } = self;
        match earlier {
            _ if failure.may_have_been_done() => Some(failure.to_string()),
            Some(earlier) => Some(format!(
                "an earlier attempt ({earlier}) may have published it, the last one ({failure}) did not"
            )),
            None => None,
        }
    }
}

/// The body of the request, or an error text that does not repeat the data.
fn event(arguments: &PublishArguments) -> Result<Bytes, String> {
    let data = match arguments.data.as_deref() {
        None | Some("-") => from_stdin()?,
        Some(data) => data.to_owned(),
    };
    if data.len() as u64 > LARGEST {
        return Err(format!("the data is larger than {LARGEST} bytes, and so than any event"));
    }
    body(arguments.event.as_deref(), &arguments.topic, &data)
}

fn body(event: Option<&str>, topics: &[String], data: &str) -> Result<Bytes, String> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a str>,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        topics: &'a [String],
        data: &'a RawValue,
    }
    let data = serde_json::from_str(data).map_err(|error| {
        format!(
            "the data is not JSON ({error}); a text needs quotes inside those of the shell: \
             vx11-operator publish '\"like this\"'"
        )
    })?;
    let body = Body { event, topics, data };
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

/// A random idempotency key, a UUID (RFC 9562 §5.4).
fn random_key() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// Repeats attempts until one succeeds or fails for good, or until patience ends. The last attempt
/// begins at that time, unless one is in progress or the service asks for a longer wait.
async fn repeat<F: Future<Output = Result<Published, Failure>>>(
    url: &str,
    patience: Duration,
    mut backoff: Backoff,
    attempt: impl Fn(Duration) -> F,
) -> Result<Published, Unpublished> {
    let deadline = Instant::now() + patience;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut earlier = None;
    let mut is_last = false;
    loop {
        let time = if is_last { ATTEMPT } else { left().min(ATTEMPT) };
        let failure = match attempt(time).await {
            Ok(published) => return Ok(published),
            Err(failure) => failure,
        };
        let asked = failure.retry_after().unwrap_or_default().min(LONGEST_WAIT);
        if is_last || !failure.is_passing() || left().is_zero() || asked > left() {
            return Err(Unpublished { failure, earlier });
        }
        let wait = backoff.next_after(Some(asked));
        is_last = wait >= left();
        let wait = wait.min(left());
        notice(format_args!(
            "not published yet at {url}: {failure}; again in {:.1} s, under the same key",
            wait.as_secs_f32()
        ));
        earlier = Some(failure).filter(Failure::may_have_been_done).or(earlier);
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use hyper::{HeaderMap, StatusCode};

    use super::*;

    /// A refusal with this code that asks for a wait.
    fn refused(status: u16, code: &str, retry_after: &str) -> Failure {
        let headers =
            [(hyper::header::RETRY_AFTER, retry_after.parse().unwrap())].into_iter().collect::<HeaderMap>();
        let body = format!(r#"{{"code": "{code}", "detail": "x"}}"#);
        Failure::refused(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    /// Attempts that all fail like this: the start of each, the end of the last, and the failure.
    async fn failing(
        patience: Duration,
        seed: u64,
        lasting: Duration,
        failure: impl Fn(usize) -> Failure,
    ) -> (Vec<Duration>, Duration, Unpublished) {
        let (start, begun) = (Instant::now(), RefCell::new(Vec::new()));
        let backoff = Backoff::new(Rng::with_seed(seed), BACKOFF);
        let unpublished = repeat("http://service", patience, backoff, async |time| {
            begun.borrow_mut().push(start.elapsed());
            if lasting > time {
                sleep(time).await;
                return Err(Failure::Silent(time));
            }
            sleep(lasting).await;
            Err(failure(begun.borrow().len()))
        });
        let unpublished = unpublished.await.unwrap_err();
        (begun.into_inner(), start.elapsed(), unpublished)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_attempt_begins_when_patience_ends() {
        for seed in 0..50 {
            for patience in [1, 3, 30].map(Duration::from_secs) {
                let (begun, ended, _) =
                    failing(patience, seed, Duration::ZERO, |_| Failure::Unreachable(String::new())).await;
                assert!(begun.len() > 2 && begun[0].is_zero(), "{begun:?}");
                // Timers are rounded up to the millisecond.
                let late = begun[begun.len() - 1].checked_sub(patience).expect("not before patience ends");
                assert!(late <= Duration::from_millis(1), "{begun:?}");
                assert!(begun[begun.len() - 2] < patience && ended == begun[begun.len() - 1], "{begun:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_lasts_until_patience_ends_is_the_last() {
        let patience = Duration::from_secs(3);
        let (begun, ended, unpublished) =
            failing(patience, 1, Duration::from_mins(1), |_| Failure::Foreign).await;
        assert_eq!((begun.as_slice(), ended), ([Duration::ZERO].as_slice(), patience));
        assert!(unpublished.doubt().is_some_and(|doubt| doubt == "no answer within 3 s"), "{unpublished:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_asks_for_a_longer_wait_than_patience_is_not_asked_again() {
        let (begun, ended, unpublished) =
            failing(Duration::from_secs(3), 1, Duration::ZERO, |_| refused(503, "log_unavailable", "4"))
                .await;
        assert_eq!((begun.len(), ended), (1, Duration::ZERO));
        assert_eq!(unpublished.doubt(), None);
        // At its time, which is before patience ends.
        let (begun, ..) =
            failing(Duration::from_secs(3), 1, Duration::ZERO, |_| refused(503, "log_unavailable", "2"))
                .await;
        assert!(begun.len() == 2 && begun[1] >= Duration::from_secs(2), "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_every_attempt_was_refused_is_not_in_doubt() {
        for second in [(503, "log_unavailable"), (429, "rate_limited")] {
            let (begun, _, unpublished) =
                failing(Duration::from_secs(5), 1, Duration::ZERO, |attempt| match attempt {
                    1 => refused(503, "log_unavailable", "1"),
                    _ => refused(second.0, second.1, "1"),
                })
                .await;
            assert!(begun.len() > 1, "{begun:?}");
            assert_eq!(unpublished.doubt(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_may_have_published_is_remembered_whatever_comes_after() {
        let (_, _, unpublished) =
            failing(Duration::from_secs(5), 1, Duration::ZERO, |attempt| match attempt {
                2 => refused(504, "outcome_unknown", "1"),
                _ => refused(503, "log_unavailable", "1"),
            })
            .await;
        let expected = "an earlier attempt (504 outcome_unknown: x) may have published it, the last one (503 \
                        log_unavailable: x) did not";
        assert_eq!(unpublished.doubt().as_deref(), Some(expected));
    }

    #[test]
    fn data_is_sent_as_it_was_written_and_what_is_no_json_is_not_repeated() {
        let written = "{\"b\": 1.10,\n \"a\": [1e2]}";
        assert_eq!(body(None, &[], written).unwrap(), format!("{{\"data\":{written}}}"));
        assert_eq!(body(Some("order.paid"), &[], "-5").unwrap(), r#"{"event":"order.paid","data":-5}"#);
        let topics = ["a/b".to_owned(), "c".to_owned()];
        assert_eq!(body(None, &topics, "1").unwrap(), r#"{"topics":["a/b","c"],"data":1}"#);
        for wrong in ["secret-word", "", "{\"secret-word\": 1", "1 secret-word"] {
            let complaint = body(None, &[], wrong).unwrap_err();
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
