//! Failures of requests: the text for people, and the conclusions.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use hyper::header::{HeaderName, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;

/// Response header of our nginx: it had sent the request to another instance before.
const X_VX11_ASKED_BEFORE: HeaderName = HeaderName::from_static("x-vx11-asked-before");
/// Code of the refusal for a missing right or topic.
const NOT_PERMITTED: &str = "not_permitted";

#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: nothing was sent.
    Unreachable(String),
    /// The connection ended before the answer did.
    Cut(String),
    /// No answer in this time.
    Silent(Duration),
    /// The answer to a TLS handshake was not TLS.
    WithoutTls,
    /// The answer is not HTTP.
    WithoutHttp,
    /// A refusal.
    Refused {
        status: StatusCode,
        problem: Problem,
        retry_after: Option<Duration>,
        /// nginx had sent the request to another instance before.
        asked_before: bool,
    },
    /// A success that this service never sends.
    Foreign,
}

/// The parts of a problem document that are used; empty for any other answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    code: String,
    detail: String,
}

impl Failure {
    /// Failure without an answer.
    pub(super) fn unanswered(error: &hyper_util::client::legacy::Error) -> Self {
        let without_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let is_version = |error: &hyper::Error| error.is_parse() && error.to_string().contains("version");
        if error.is_connect() && find::<rustls::Error>(error).is_some_and(|error| *error == without_tls) {
            Self::WithoutTls
        } else if find::<hyper::Error>(error).is_some_and(is_version) {
            Self::WithoutHttp
        } else if error.is_connect() {
            Self::Unreachable(reason(error))
        } else {
            Self::Cut(reason(error))
        }
    }

    /// Failure with this answer.
    pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        // TLS servers answer plain HTTP with a page for people.
        let is_about_tls =
            |words: &str| ["HTTPS port", "HTTPS server", "SSL-enabled"].iter().any(|it| words.contains(it));
        if status == StatusCode::BAD_REQUEST && is_about_tls(&String::from_utf8_lossy(body)) {
            problem =
                Problem { code: String::new(), detail: "this port speaks TLS; use https://".to_owned() };
        }
        let asked_before = headers.contains_key(X_VX11_ASKED_BEFORE);
        Self::Refused { status, problem, retry_after: retry_after(headers), asked_before }
    }

    /// Whether the answer refuses this principal, which is final: the credential is unknown, or the
    /// principal may not do this.
    pub(super) fn refuses_principal(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED, .. }) || self.is_not_permitted()
    }

    /// Whether the principal, or its token, lacks a right or a topic for this.
    pub(super) fn is_not_permitted(&self) -> bool {
        match self {
            Self::Refused { status, problem, .. } => {
                *status == StatusCode::FORBIDDEN && problem.code == NOT_PERMITTED
            }
            _ => false,
        }
    }

    /// The wait that the server asks for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the request may have taken effect. Only the last answer is visible: if nginx had
    /// sent the request to another instance before, a refusal says nothing about that one. Of the
    /// server errors only `log_unavailable` states that nothing was published; others may come from
    /// a proxy.
    pub(super) fn may_have_been_done(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::WithoutTls | Self::WithoutHttp => false,
            Self::Cut(_) | Self::Silent(_) | Self::Foreign => true,
            Self::Refused { status, problem, asked_before, .. } => {
                *asked_before || (status.is_server_error() && problem.code != "log_unavailable")
            }
        }
    }

    /// Whether the same request may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Cut(_) | Self::Silent(_) => true,
            Self::WithoutTls | Self::WithoutHttp | Self::Foreign => false,
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

    /// Whether the URL is probably wrong. nginx without instances answers 5xx, and the service
    /// refuses a token or a principal with other answers.
    pub(super) fn is_wrong_url(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Cut(_) | Self::Silent(_) => false,
            Self::WithoutTls | Self::WithoutHttp | Self::Foreign => true,
            Self::Refused { status, problem, .. } => {
                let is_final = status.is_redirection()
                    || status.is_client_error()
                    || *status == StatusCode::NOT_IMPLEMENTED;
                let is_refusal = ["token_refused", NOT_PERMITTED].contains(&problem.code.as_str());
                is_final && !self.is_passing() && !is_refusal
            }
        }
    }

    /// Advice, as the end of a sentence that names the URL and this failure.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "; --url or VX11_OPERATOR_URL says where the service is",
            Self::Refused { status: StatusCode::NOT_FOUND, problem, .. } if !problem.code.is_empty() => {
                "; --url or VX11_OPERATOR_URL says where the service is"
            }
            Self::Foreign => "; this is no vx11-operator: --url or VX11_OPERATOR_URL says where it is",
            Self::Refused { status, problem: Problem { code, detail }, .. }
                if self.is_wrong_url()
                    && !status.is_redirection()
                    && code.is_empty()
                    && detail.is_empty() =>
            {
                "; this is no vx11-operator: --url or VX11_OPERATOR_URL says where it is"
            }
            _ => "",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(f, "cannot connect: {reason}"),
            Self::Cut(reason) => write!(f, "the connection was lost: {reason}"),
            Self::Silent(waited) => write!(f, "no answer within {:.0} s", waited.as_secs_f32()),
            Self::WithoutTls => f.write_str("this port does not speak TLS; use http://"),
            Self::WithoutHttp => f.write_str("this is no HTTP; if the port speaks TLS, use https://"),
            Self::Foreign => f.write_str("the answer is not that of this service"),
            Self::Refused { status, .. } if status.is_redirection() => {
                // A redirect would send the credential to another address.
                write!(f, "{} is a redirect, and none is followed; give the URL it leads to", status.as_u16())
            }
            Self::Refused { status, problem: Problem { code, detail }, asked_before, .. } => {
                if code.is_empty() {
                    write!(f, "{status}{}{detail}", if detail.is_empty() { "" } else { ": " })?;
                } else {
                    write!(f, "{} {code}: {detail}", status.as_u16())?;
                }
                if *asked_before {
                    f.write_str(
                        " (from the second instance that was asked; what the first did is not known)",
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// The first error of this type in a chain of causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error is the source of the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The innermost cause; the outer ones only say that there was an error.
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

/// Parses seconds or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(date.duration_since(Timestamp::now()).try_into().unwrap_or_default())
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
    fn what_was_never_sent_or_is_refused_by_the_only_instance_that_was_asked_was_certainly_not_done() {
        let code = |code: &str| format!(r#"{{"code": "{code}", "detail": ""}}"#);
        for (failure, done, passing) in [
            (Failure::Unreachable(String::new()), false, true),
            (Failure::Cut(String::new()), true, true),
            (Failure::Silent(Duration::ZERO), true, true),
            (Failure::Foreign, true, false),
            (Failure::WithoutTls, false, false),
            (Failure::WithoutHttp, false, false),
            (refused(503, None, &code("log_unavailable")), false, true),
            (refused(503, None, &code("no_instance")), true, true),
            (refused(503, None, ""), true, true),
            (refused(503, None, &code("outcome_unknown")), true, true),
            (refused(502, None, ""), true, true),
            (refused(504, None, &code("outcome_unknown")), true, true),
            (refused(500, None, &code("internal")), true, false),
            (refused(429, None, &code("rate_limited")), false, true),
            (refused(422, None, &code("idempotency_key_reused")), false, false),
            (refused(400, None, &code("bad_request")), false, false),
            (refused(403, None, &code("not_permitted")), false, false),
        ] {
            assert_eq!((failure.may_have_been_done(), failure.is_passing()), (done, passing), "{failure:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(X_VX11_ASKED_BEFORE, "true".parse().unwrap());
        for (status, code_) in [(503, "log_unavailable"), (400, "bad_request")] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(Failure::refused(status, &headers, code(code_).as_bytes()).may_have_been_done());
        }
    }

    #[test]
    fn a_principal_is_refused_for_its_credential_or_for_a_right_or_topic_that_it_lacks() {
        let code = |code: &str| format!(r#"{{"code": "{code}", "detail": ""}}"#);
        for (failure, is_refused, is_not_permitted) in [
            (refused(401, None, &code("credential_wrong")), true, false),
            (refused(403, None, &code("not_permitted")), true, true),
            (refused(403, None, &code("token_refused")), false, false),
            (refused(400, None, &code("not_permitted")), false, false),
            (refused(403, None, ""), false, false),
        ] {
            let found = (failure.refuses_principal(), failure.is_not_permitted());
            assert_eq!(found, (is_refused, is_not_permitted), "{failure:?}");
        }
    }

    #[test]
    fn a_url_is_wrong_where_an_answer_comes_that_no_balancer_gives_for_this_service() {
        let code = |code: &str| format!(r#"{{"code": "{code}", "detail": ""}}"#);
        for (failure, wrong) in [
            (Failure::Unreachable(String::new()), false),
            (Failure::Cut(String::new()), false),
            (Failure::Silent(Duration::ZERO), false),
            (Failure::Foreign, true),
            (Failure::WithoutTls, true),
            (Failure::WithoutHttp, true),
            (refused(404, None, ""), true),
            (refused(404, None, &code("not_found")), true),
            (refused(308, None, ""), true),
            (refused(501, None, ""), true),
            (refused(403, None, &code("token_refused")), false),
            (refused(403, None, &code("not_permitted")), false),
            (refused(408, None, ""), false),
            (refused(429, None, ""), false),
            (refused(500, None, ""), false),
            (refused(502, None, ""), false),
            (refused(503, None, ""), false),
            (refused(504, None, ""), false),
        ] {
            assert_eq!(failure.is_wrong_url(), wrong, "{failure:?}");
        }
    }
}
