//! Calls of the service over HTTP. Credentials are sent in headers, never in a URL.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::cache_stats::CacheStats;
use crate::failure::{Failure, reason};
use crate::server::Server;

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const PUBLISH: &str = "/operator/api/events";
const STATISTICS: &str = "/operator/internal/cache-stats";
const STREAMS: &str = "/operator/api/streams";
const X_VX11_TOKEN: HeaderName = HeaderName::from_static("x-vx11-token");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const JSON: &str = "application/json";
/// Deadline of connecting, for all addresses of the server. Shorter than an attempt, so that a
/// failure to connect is known as such: nothing was sent.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer that is neither a stream nor a list of streams.
const LARGEST_ANSWER: usize = 64 * 1024;
/// Largest list of streams: 10,000 of them, with 16 topics of 128 characters each.
const LARGEST_LIST: usize = 32 * 1024 * 1024;

pub(super) struct Session {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
    principal: HeaderValue,
}

/// A token that opens one stream.
pub(super) struct Token(HeaderValue);

/// Limits of a token. With none of them it is a plain token.
#[derive(Default, Serialize)]
pub(super) struct TokenRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) topics: &'a [String],
    /// Life in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_in: Option<u64>,
}

impl TokenRequest<'_> {
    const fn is_plain(&self) -> bool {
        self.subject.is_none() && self.topics.is_empty() && self.expires_in.is_none()
    }
}

/// The answer to a request for a token.
#[derive(Serialize, Deserialize)]
pub(super) struct Issued {
    pub(super) sse_token: String,
    pub(super) token_id: String,
    pub(super) expires_in: u64,
    pub(super) expires_at: String,
    instance_id: String,
    backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topics: Option<Vec<String>>,
    /// Path and query of the stream that it opens.
    #[serde(default)]
    pub(super) stream_url: String,
}

/// Beginning of a stream.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// The next event.
    Next,
    /// The event after the one with this id.
    After(String),
    /// Events that the log still has: `start` for all, or `-N` for the last N.
    Log(String),
}

/// A published event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) id: String,
    /// Whether an earlier attempt with the same key had published it.
    pub(super) earlier: bool,
}

/// Open streams of all instances.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StreamList {
    pub(super) streams: Vec<OpenStream>,
    /// Instances that did not answer in time.
    #[serde(default)]
    pub(super) missing: Vec<String>,
    /// Whether more streams match than were asked for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) more: bool,
}

/// An open stream.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OpenStream {
    pub(super) stream_id: String,
    /// None for a stream that was opened with the credential of a principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    pub(super) topics: Vec<String>,
    pub(super) principal: String,
    pub(super) instance_id: String,
    /// RFC 3339, in UTC.
    pub(super) opened_at: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Session {
    /// Creates a session; the error is a text for people.
    pub(super) fn new(server: Server, principal: &SecretString) -> Result<Self, String> {
        let principal = secret(principal.expose_secret());
        let principal = principal.ok_or("the principal's credential cannot travel in a header")?;
        let url = server.url().to_owned();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(server.tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, url, principal })
    }

    /// URL of the service; contains no secret.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Issues a token, to open a stream with.
    pub(super) async fn token(
        &self,
        wanted: &TokenRequest<'_>,
        patience: Duration,
    ) -> Result<Token, Failure> {
        #[derive(Deserialize)]
        struct OnlyToken {
            sse_token: String,
        }
        let body = self.ask_for_token(wanted, patience).await?;
        let issued: OnlyToken = serde_json::from_slice(&body).map_err(|_| Failure::Foreign)?;
        secret(&issued.sse_token).map(Token).ok_or(Failure::Foreign)
    }

    /// Issues a token, to print it.
    pub(super) async fn issue(
        &self,
        wanted: &TokenRequest<'_>,
        patience: Duration,
    ) -> Result<Issued, Failure> {
        let body = self.ask_for_token(wanted, patience).await?;
        let mut issued: Issued = serde_json::from_slice(&body).map_err(|_| Failure::Foreign)?;
        // The answer has none for a plain token.
        if issued.stream_url.is_empty() {
            issued.stream_url = format!("{STREAM}?token={}", issued.sse_token);
        }
        Ok(issued)
    }

    async fn ask_for_token(&self, wanted: &TokenRequest<'_>, patience: Duration) -> Result<Bytes, Failure> {
        let mut request = self.request(Method::POST, ISSUE).header(X_VX11_TOKEN, &self.principal);
        let mut body = Bytes::new();
        if !wanted.is_plain() {
            request = request.header(CONTENT_TYPE, JSON);
            // Texts and numbers can always be serialised.
            body = serde_json::to_vec(wanted).unwrap_or_default().into();
        }
        self.ask(request, body, StatusCode::OK, patience).await.map(|(_, body)| body)
    }

    /// The body of a stream. The first byte has no deadline.
    ///
    /// Sends no `Accept` for event streams: nginx would treat this as a browser's `EventSource` and
    /// turn a refusal into an empty stream.
    pub(super) async fn open(&self, token: Token, start: &Start) -> Result<Incoming, Failure> {
        let request = match start {
            Start::Next => self.request(Method::GET, STREAM),
            Start::After(id) => self.request(Method::GET, STREAM).header(LAST_EVENT_ID, id),
            Start::Log(from) => self.request(Method::GET, &format!("{STREAM}?from={from}")),
        };
        let request = request.header(X_VX11_TOKEN, token.0);
        let response = self.send(request, Bytes::new()).await?;
        let is_stream = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
        match (response.status(), response.headers().get(CONTENT_TYPE)) {
            (StatusCode::OK, Some(value)) if is_stream(value) => Ok(response.into_body()),
            (StatusCode::OK, _) => Err(Failure::Foreign),
            _ => Err(refusal(response).await),
        }
    }

    /// Publishes an event. With the same key it is published once, however often it is sent.
    pub(super) async fn publish(
        &self,
        event: Bytes,
        key: &str,
        patience: Duration,
    ) -> Result<Published, Failure> {
        #[derive(Deserialize)]
        struct Accepted {
            id: String,
        }
        let request = self
            .request(Method::POST, PUBLISH)
            .header(X_VX11_TOKEN, &self.principal)
            .header(CONTENT_TYPE, JSON)
            .header(IDEMPOTENCY_KEY, key);
        let (replayed, body) = self.ask(request, event, StatusCode::ACCEPTED, patience).await?;
        let accepted: Accepted = serde_json::from_slice(&body).map_err(|_| Failure::Foreign)?;
        Ok(Published { id: accepted.id, earlier: replayed })
    }

    /// Cache-stats of the instance that answers.
    pub(super) async fn statistics(&self, patience: Duration) -> Result<CacheStats, Failure> {
        let request = self.request(Method::GET, STATISTICS).header(X_VX11_TOKEN, &self.principal);
        let (_, body) = self.ask(request, Bytes::new(), StatusCode::OK, patience).await?;
        serde_json::from_slice(&body).map_err(|_| Failure::Foreign)
    }

    /// The open streams that match, with the names of the instances that did not answer.
    pub(super) async fn streams(
        &self,
        filter: &[(&str, String)],
        patience: Duration,
    ) -> Result<StreamList, Failure> {
        let request = self.request(Method::GET, &format!("{STREAMS}{}", query(filter)));
        let request = request.header(X_VX11_TOKEN, &self.principal);
        let (_, body) =
            self.ask_for_at_most(LARGEST_LIST, request, Bytes::new(), StatusCode::OK, patience).await?;
        serde_json::from_slice(&body).map_err(|_| Failure::Foreign)
    }

    /// Gives an order about streams or a subject.
    pub(super) async fn order<T: DeserializeOwned>(
        &self,
        path: &str,
        order: &impl Serialize,
        patience: Duration,
    ) -> Result<T, Failure> {
        let request =
            self.request(Method::POST, path).header(X_VX11_TOKEN, &self.principal).header(CONTENT_TYPE, JSON);
        // Texts and numbers can always be serialised.
        let order = serde_json::to_vec(order).unwrap_or_default().into();
        let (_, body) = self.ask(request, order, StatusCode::OK, patience).await?;
        serde_json::from_slice(&body).map_err(|_| Failure::Foreign)
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(USER_AGENT, concat!("vx11-operator/", env!("CARGO_PKG_VERSION")))
    }

    /// Sends a request and reads the answer, within the deadline. Returns whether it repeats an
    /// earlier answer, and the body.
    async fn ask(
        &self,
        request: Builder,
        body: Bytes,
        expected: StatusCode,
        patience: Duration,
    ) -> Result<(bool, Bytes), Failure> {
        self.ask_for_at_most(LARGEST_ANSWER, request, body, expected, patience).await
    }

    /// The same for an answer of another size.
    async fn ask_for_at_most(
        &self,
        largest: usize,
        request: Builder,
        body: Bytes,
        expected: StatusCode,
        patience: Duration,
    ) -> Result<(bool, Bytes), Failure> {
        let exchange = async {
            let response = self.send(request, body).await?;
            match response.status() {
                status if status == expected => {
                    let replayed = response.headers().get(IDEMPOTENT_REPLAYED).is_some_and(|it| it == "true");
                    Ok((replayed, whole(response, largest).await?))
                }
                status if status.is_success() => Err(Failure::Foreign),
                _ => Err(refusal(response).await),
            }
        };
        timeout(patience, exchange).await.unwrap_or(Err(Failure::Silent(patience)))
    }

    async fn send(&self, request: Builder, body: Bytes) -> Result<Response<Incoming>, Failure> {
        // Everything else is ours, so the id cannot be sent in a header and is none of this
        // service.
        let request = request.body(Full::new(body)).map_err(|_| Failure::Foreign)?;
        self.client.request(request).await.map_err(|error| Failure::unanswered(&error))
    }
}

async fn refusal(response: Response<Incoming>) -> Failure {
    let (status, headers) = (response.status(), response.headers().clone());
    // A refusal without a readable body is still a refusal.
    Failure::refused(status, &headers, &whole(response, LARGEST_ANSWER).await.unwrap_or_default())
}

async fn whole(response: Response<Incoming>, largest: usize) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), largest).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Failure::Cut(reason(&*error)))
}

/// The query of a URL; none for no parameters.
fn query(parameters: &[(&str, String)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    query.push(byte.into());
                }
                _ => drop(write!(query, "%{byte:02X}")),
            }
        }
    }
    query
}

/// A header value that debug output does not show.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_may_hold_any_character() {
        assert_eq!(query(&[]), "");
        let parameters = [("subject", "a&b=c#d%20+\"é".to_owned()), ("topic", "orders/17:x@y~z".to_owned())];
        assert_eq!(query(&parameters), "?subject=a%26b%3Dc%23d%2520%2B%22%C3%A9&topic=orders%2F17%3Ax%40y~z");
    }
}
