//! Calls that list and end streams, and that revoke and block subjects.

use serde::Deserialize;
use serde_json::{Value, json as object};

use super::Api;
use super::answers::json;

/// A stream in a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedStream {
    /// Its id.
    pub stream_id: String,
    /// Id of its token; none if a principal opened it.
    pub token_id: Option<String>,
    /// Its instance.
    pub instance_id: String,
}

/// The open streams of all instances.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StreamList {
    /// The streams.
    pub streams: Vec<ListedStream>,
    /// Instances that did not answer.
    pub missing: Vec<String>,
    /// Whether more streams match.
    #[serde(default)]
    pub more: bool,
}

impl Api {
    /// Lists streams, up to `limit`.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn list_streams(&self, limit: usize) -> Result<StreamList, String> {
        let request = self.get("/operator/api/streams").query(&[("limit", limit)]);
        let body = json(request.send().await).await?;
        serde_json::from_value(body).map_err(|error| format!("no list of streams: {error}"))
    }

    /// Ends streams on all instances, by `subject`, `token_id`, `stream_id`, `principal` or
    /// `topic`.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn end_streams(&self, by: &str, value: &str) -> Result<(), String> {
        self.command("/operator/api/streams/end", &object!({ by: value })).await
    }

    /// Refuses all tokens that were issued to a subject until now.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn revoke_subject(&self, subject: &str) -> Result<(), String> {
        self.command("/operator/api/subjects/revoke", &object!({ "subject": subject })).await
    }

    /// Blocks a subject for so many seconds.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn block_subject(&self, subject: &str, seconds: u64) -> Result<(), String> {
        let body = object!({ "subject": subject, "seconds": seconds });
        self.command("/operator/api/subjects/block", &body).await
    }

    /// Ends the block of a subject.
    ///
    /// # Errors
    /// The failure, as text.
    pub async fn unblock_subject(&self, subject: &str) -> Result<(), String> {
        self.command("/operator/api/subjects/unblock", &object!({ "subject": subject })).await
    }

    async fn command(&self, path: &str, body: &Value) -> Result<(), String> {
        json(self.post(path).json(body).send().await).await.map(drop)
    }
}
