//! Why a request did not do what it was for: what people are told, and what can be concluded.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, StatusCode};
use jiff::fmt::rfc2822;
use serde::Deserialize;
use vx11_operator::ambient::{Clock, SystemClock};

#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody could be connected to: nothing was sent.
    Unreachable(String),
    /// The connection ended before the answer did.
    Cut(String),
    /// No answer within this time.
    Silent(Duration),
    /// An answer, but a refusal.
    Refused { status: StatusCode, problem: Problem, retry_after: Option<Duration> },
    /// An answer that says yes as this service never does.
    Foreign,
}

/// The parts of a problem document that matter here; of any other answer, nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    code: String,
    detail: String,
}

impl Failure {
    /// No answer came, for this reason.
    pub(super) fn unanswered(error: &hyper_util::client::legacy::Error) -> Self {
        if error.is_connect() { Self::Unreachable(reason(error)) } else { Self::Cut(reason(error)) }
    }

    /// The answer is a refusal with this head and body.
    pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let problem = serde_json::from_slice(body).unwrap_or_default();
        Self::Refused { status, problem, retry_after: retry_after(headers) }
    }

    /// The credential is no principal's, and stays so.
    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED, .. })
    }

    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What was asked for may have been done all the same. A refusal by the server says nothing: a balancer may have asked
    /// another instance before, and only the last one's answer is seen.
    pub(super) fn may_have_been_done(&self) -> bool {
        match self {
            Self::Unreachable(_) => false,
            Self::Cut(_) | Self::Silent(_) | Self::Foreign => true,
            Self::Refused { status, .. } => status.is_server_error(),
        }
    }

    /// The same request may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Cut(_) | Self::Silent(_) => true,
            Self::Foreign => false,
            Self::Refused { status, .. } => matches!(
                *status,
                StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(f, "cannot connect: {reason}"),
            Self::Cut(reason) => write!(f, "the connection was lost: {reason}"),
            Self::Silent(waited) => write!(f, "no answer within {:.0} s", waited.as_secs_f32()),
            Self::Foreign => f.write_str("the answer is not that of this service; is the URL right?"),
            Self::Refused { status, .. } if status.is_redirection() => {
                // A redirect would hand the credential to another address.
                write!(f, "{} is a redirect, and none is followed; give the URL it leads to", status.as_u16())
            }
            Self::Refused { status, problem: Problem { code, detail }, .. } if code.is_empty() => {
                write!(f, "{status}{}{detail}", if detail.is_empty() { "" } else { ": " })
            }
            Self::Refused { status, problem: Problem { code, detail }, .. } => {
                write!(f, "{} {code}: {detail}", status.as_u16())
            }
        }
    }
}

/// The root of the matter: what wraps it says no more than that there was an error.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    if root.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
        return "it was cut off".to_owned();
    }
    let words = root.to_string();
    if words.contains("UnknownIssuer") {
        return format!("{words}; if its authority is one of your own, give that one's certificate as --ca");
    }
    words
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let date = u64::try_from(date.as_millisecond()).ok()?;
    Some(Duration::from_millis(date.saturating_sub(SystemClock.now().0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after: Option<&str>, body: &str) -> Failure {
        let mut headers = HeaderMap::new();
        headers.extend(retry_after.map(|value| (RETRY_AFTER, value.parse().unwrap())));
        Failure::refused(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn a_refusal_tells_what_the_service_says_and_otherwise_its_status() {
        let problem =
            r#"{"code": "streams_full", "detail": "no room", "status": 503, "type": "about:blank"}"#;
        for (status, body, words) in [
            (503, problem, "503 streams_full: no room"),
            (502, "<html>Bad Gateway</html>", "502 Bad Gateway"),
            (404, r#"{"detail": "who?"}"#, "404 Not Found: who?"),
            (302, "", "302 is a redirect, and none is followed; give the URL it leads to"),
        ] {
            assert_eq!(refused(status, None, body).to_string(), words);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let asks = |value| refused(503, Some(value), "").retry_after();
        assert_eq!(asks("7"), Some(Duration::from_secs(7)));
        assert_eq!(asks("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let wait = asks("Fri, 06 Nov 2189 08:49:37 GMT").unwrap();
        assert!(wait > Duration::from_hours(24 * 365), "{wait:?}");
        assert_eq!(asks("soon"), None);
        assert_eq!(refused(503, None, "").retry_after(), None);
    }

    #[test]
    fn only_what_was_never_sent_or_is_the_clients_fault_was_certainly_not_done() {
        let code = |code: &str| format!(r#"{{"code": "{code}", "detail": ""}}"#);
        for (failure, done, passing) in [
            (Failure::Unreachable(String::new()), false, true),
            (Failure::Cut(String::new()), true, true),
            (Failure::Silent(Duration::ZERO), true, true),
            (Failure::Foreign, true, false),
            (refused(503, None, &code("log_unavailable")), true, true),
            (refused(503, None, &code("outcome_unknown")), true, true),
            (refused(502, None, ""), true, true),
            (refused(504, None, &code("outcome_unknown")), true, true),
            (refused(500, None, &code("internal")), true, false),
            (refused(429, None, &code("rate_limited")), false, true),
            (refused(422, None, &code("idempotency_key_reused")), false, false),
            (refused(400, None, &code("bad_request")), false, false),
        ] {
            assert_eq!((failure.may_have_been_done(), failure.is_passing()), (done, passing), "{failure:?}");
        }
    }
}
