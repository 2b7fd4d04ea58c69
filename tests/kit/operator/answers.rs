//! Calls of an instance. Failures are results, because tests look for them.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::api::UNANSWERED;
use super::{Api, InstanceFigures};
use crate::artefacts::remember_secret;
use crate::event_id::EventId;

/// Reason for a stream that nginx asked to come back later, because no instance took it.
pub const COME_BACK: &str = "no instance takes streams";

/// An issued token.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The secret.
    pub token: String,
    /// Its id.
    pub id: String,
}

/// State of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it uses Redis.
    pub on_redis: bool,
    /// Entries that Redis does not have yet.
    pub fallback_entries: u64,
}

impl Standing {
    /// Whether it uses Redis and has reconciled.
    #[must_use]
    pub fn is_well(self) -> bool {
        self.on_redis && self.fallback_entries == 0
    }
}

/// Outcome of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is in the log under this id.
    Acknowledged {
        /// Its place there.
        id: EventId,
        /// It was there before this request.
        replayed: bool,
    },
    /// It is certainly not in the log, which cannot be reached.
    Refused,
    /// It may be in the log or not.
    Unknown,
    /// Any other answer, as text.
    Unanswered(String),
}

impl Api {
    /// Issues a token.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn issue(&self) -> Result<Issued, String> {
        self.issue_with(None).await
    }

    /// Issues a token with the grant that this body asks for, or a plain one.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn issue_with(&self, grant: Option<&Value>) -> Result<Issued, String> {
        let request = self.post("/operator/api/events/sse-token");
        let request = match grant {
            Some(grant) => request.json(grant),
            None => request,
        };
        let body = json(request.send().await).await?;
        let text = |key: &str| body[key].as_str().map(str::to_owned).ok_or(format!("no {key}"));
        let issued = Issued { token: text("sse_token")?, id: text("token_id")? };
        // Without the grant, which is no secret.
        remember_secret(issued.token.split('.').next().unwrap_or_default());
        Ok(issued)
    }

    /// Whether a token is active.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn introspect(&self, token: &str) -> Result<bool, String> {
        let request = self.post("/operator/api/tokens/introspect").form(&[("token", token)]);
        let body = json(request.send().await).await?;
        body["active"].as_bool().ok_or_else(|| "no word whether it is active".to_owned())
    }

    /// Revokes a token, by `token` or `token_id`.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn revoke(&self, parameter: &str, value: &str) -> Result<(), String> {
        let request = self.post("/operator/api/tokens/revoke").form(&[(parameter, value)]);
        json(request.send().await).await.map(drop)
    }

    /// Whether a token is accepted for a request of this id, as a reverse proxy asks.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn authorise(&self, token: &str, request_id: &str) -> Result<bool, String> {
        let request = self.get_without_end("/operator/internal/authorise").timeout(UNANSWERED);
        let request = request.query(&[("token", token)]).header("X-Request-Id", request_id);
        let response = request.send().await.map_err(words)?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(true),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
            _ => Err(problem(response).await),
        }
    }

    /// Opens a stream; `None` if the token was refused.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn open_stream(&self, token: &str) -> Result<Option<Response>, String> {
        self.stream_of(&[("token", token)]).await
    }

    /// Opens a stream after the event with this id; `None` if the token was refused.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn resume_stream(&self, token: &str, after: &str) -> Result<Option<Response>, String> {
        self.stream_of(&[("token", token), ("last_event_id", after)]).await
    }

    /// Opens a stream as a client that is no `EventSource`: nginx passes each answer of an instance
    /// on. `None` if the token was refused.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn fetch_stream(&self, token: &str) -> Result<Option<Response>, String> {
        let request = self.get_without_end("/operator/api/events/stream").query(&[("token", token)]);
        stream(request.send().await).await
    }

    async fn stream_of(&self, query: &[(&str, &str)]) -> Result<Option<Response>, String> {
        let request = self.get_as_client("/operator/api/events/stream").query(query);
        stream(request.send().await).await
    }

    /// Publishes an event under a key. Returns the outcome, and the wait before the next attempt.
    pub async fn publish(&self, key: &str, data: &Value) -> (Answer, Option<Duration>) {
        self.publish_to(&[], key, data).await
    }

    /// The same to these topics, or without a topic if there are none.
    pub async fn publish_to(&self, topics: &[String], key: &str, data: &Value) -> (Answer, Option<Duration>) {
        let request = self.post("/operator/api/events").header("Idempotency-Key", key);
        let body = match topics {
            [] => json!({ "data": data }),
            [topic] => json!({ "data": data, "topic": topic }),
            topics => json!({ "data": data, "topics": topics }),
        };
        match request.json(&body).send().await {
            Ok(response) => {
                let wait = header(&response, RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
                (answer(response).await, wait.map(Duration::from_secs))
            }
            Err(error) => (Answer::Unanswered(words(error)), None),
        }
    }

    /// State of the instance.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn standing(&self) -> Result<Standing, String> {
        let body = json(self.get("/operator/internal/cache-stats").send().await).await?;
        let fallback_entries = body["instance"]["fallback_entries"].as_u64().ok_or("no fallback_entries")?;
        Ok(Standing { on_redis: body["backend"] == "redis", fallback_entries })
    }

    /// Whether its event log is available.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn is_log_available(&self) -> Result<bool, String> {
        let page = self.metrics().await?;
        let gauge = page.lines().find(|line| line.starts_with("vx11_operator_event_log_in_reach{"));
        gauge.map(|line| line.ends_with(" 1")).ok_or_else(|| "no event_log_in_reach".to_owned())
    }

    /// Number of open streams.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn streams(&self) -> Result<u64, String> {
        let body = json(self.get("/operator/internal/cache-stats").send().await).await?;
        body["instance"]["streams"].as_u64().ok_or_else(|| "no streams".to_owned())
    }

    /// Its figures since its start.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn figures(&self) -> Result<InstanceFigures, String> {
        self.metrics().await.map(|page| InstanceFigures::read(&page))
    }

    /// Its page of metrics.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn metrics(&self) -> Result<String, String> {
        self.get("/metrics").send().await.map_err(words)?.text().await.map_err(words)
    }

    /// Its health, requested with a further header.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn health_with(&self, header: &str) -> Result<(), String> {
        json(self.get("/operator/api/health").header(header, "1").send().await).await.map(drop)
    }
}

/// Outcome of a publish.
async fn answer(response: Response) -> Answer {
    let (status, replayed) = (response.status(), header(&response, "idempotent-replayed"));
    let replayed = replayed.as_deref() == Some("true");
    let body: Value = match response.json().await {
        Ok(body) => body,
        Err(error) => return Answer::Unanswered(words(error)),
    };
    let code = body["code"].as_str().unwrap_or("no code");
    match (status, code) {
        (StatusCode::ACCEPTED, _) => match body["id"].as_str().and_then(|id| id.parse().ok()) {
            Some(id) => Answer::Acknowledged { id, replayed },
            None => Answer::Unanswered("202 without an id".to_owned()),
        },
        (StatusCode::SERVICE_UNAVAILABLE, "log_unavailable") => Answer::Refused,
        (_, "outcome_unknown") => Answer::Unknown,
        (status, code) => Answer::Unanswered(format!("{status}, {code}")),
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// An open stream; `None` if the token was refused.
async fn stream(response: reqwest::Result<Response>) -> Result<Option<Response>, String> {
    let response = response.map_err(words)?;
    match response.status() {
        // A stream has no length; an answer with one asks to come back later.
        StatusCode::OK if response.content_length().is_some() => Err(COME_BACK.to_owned()),
        StatusCode::OK => Ok(Some(response)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(None),
        _ => Err(problem(response).await),
    }
}

/// The body of a 200.
pub(super) async fn json(response: reqwest::Result<Response>) -> Result<Value, String> {
    let response = response.map_err(words)?;
    match response.status() {
        StatusCode::OK => response.json().await.map_err(words),
        _ => Err(problem(response).await),
    }
}

/// The status of an answer, its code if it has one, and the wait that it asks for:
/// `503 Service Unavailable, store_unavailable, Retry-After: 1`.
async fn problem(response: Response) -> String {
    let (status, wait) = (response.status(), header(&response, RETRY_AFTER.as_str()));
    let body: Value = response.json().await.unwrap_or_default();
    let code = body["code"].as_str().map(|code| format!(", {code}")).unwrap_or_default();
    let wait = wait.map(|wait| format!(", Retry-After: {wait}")).unwrap_or_default();
    format!("{status}{code}{wait}")
}

/// Text of an error without the URL, which may contain a token.
fn words(error: reqwest::Error) -> String {
    use std::error::Error;
    let error = error.without_url();
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}
