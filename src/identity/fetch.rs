//! Fetching the keys of an issuer over HTTP: one request without redirects, with a deadline and a
//! bound of the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::{ACCEPT, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::keys::{KeySet, KeySetError};

/// Deadline of a fetch, from the name's resolution to the end of the body.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bound of a key set, in bytes.
const LARGEST_SET: usize = 256 * 1024;

/// Reason why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("{0}")]
    Connection(String),
    #[error("the answer is {0}; expected is 200, and redirects are not followed")]
    Status(StatusCode),
    #[error("the answer is longer than {LARGEST_SET} bytes")]
    TooLarge,
    #[error("the answer cannot be used: {0}")]
    NoKeys(#[from] KeySetError),
}

/// An HTTP client.
pub(super) struct Fetcher(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Fetcher {
    /// A client that trusts the authorities of the system. An authority that cannot be used is left
    /// out.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        // The next fetch is minutes away, and the server may have closed the connection by then.
        Ok(Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    pub(super) async fn fetch(&self, url: &Uri) -> Result<KeySet, FetchError> {
        let document = tokio::time::timeout(DEADLINE, self.get(url)).await;
        Ok(KeySet::parse(&document.map_err(|_| FetchError::Deadline)??)?)
    }

    async fn get(&self, url: &Uri) -> Result<Bytes, FetchError> {
        let Self(client) = self;
        let request = Request::get(url)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("vx11-operator/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| FetchError::Connection(error.to_string()))?;
        let response =
            client.request(request).await.map_err(|error| FetchError::Connection(with_causes(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), LARGEST_SET).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge
            } else {
                FetchError::Connection(with_causes(&*error))
            }
        })
    }
}

/// An error with its causes: the outermost one only says that there was one.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::identity::testing::key_set_of;

    /// Fetches from a server with one answer.
    async fn fetched(answer: String) -> Result<KeySet, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let serving = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.read(&mut [0; 4096]).await;
            let _ = client.write_all(answer.as_bytes()).await;
            // Until the client has read everything, or gives up.
            let _ = client.read(&mut [0; 16]).await;
        });
        let fetched = Fetcher::new().unwrap().fetch(&url).await;
        serving.abort();
        fetched
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn keys_are_read_from_the_answer() {
        let keys = fetched(answer("200 OK", &key_set_of(&["a"]))).await.unwrap();
        assert_eq!(keys.number(), 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_key_set_is_an_error() {
        let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(fetched(redirect.to_owned()).await, Err(FetchError::Status(_))));
        assert!(matches!(fetched(answer("200 OK", "<html>")).await, Err(FetchError::NoKeys(_))));
        let large = format!("{{\"keys\": [\"{}\"]}}", "x".repeat(LARGEST_SET));
        assert!(matches!(fetched(answer("200 OK", &large)).await, Err(FetchError::TooLarge)));
        assert!(matches!(fetched("nonsense\r\n\r\n".to_owned()).await, Err(FetchError::Connection(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_does_not_answer_is_waited_for_until_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let fetched = Fetcher::new().unwrap().fetch(&url).await;
        assert!(matches!(fetched, Err(FetchError::Deadline)), "{fetched:?}");
    }
}
