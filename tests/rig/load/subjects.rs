//! Requests of drills for subjects: tokens, commands, lists, and streams that are kept open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vx11_kit::{Api, Frames, Issued};

use super::Stage;
use super::subscribers::ended_in_order;
use crate::history::{Command, CommandKind, Endpoint, Kind, Outcome, Subject, TicketUse};

/// Tokens of subjects have numbers from here on, to tell them from those of the load.
pub(super) const FIRST_NUMBER: u64 = 1 << 56;
/// The life of their tokens in seconds: longer than a drill.
const LIFE: u64 = 900;
/// Code of a refusal to issue a token.
const BLOCKED: &str = "subject_blocked";
/// Bound of a list.
pub(crate) const MOST_LISTED: usize = 10_000;

/// A token of a subject.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) number: u64,
    pub(crate) subject: Subject,
    token: String,
}

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It opens as many streams as it likes.
    Any,
    /// It opens one stream.
    Ticket,
}

/// A topic that only this subject reads.
fn topic_of(subject: Subject) -> String {
    format!("accounts/{subject}/news")
}

/// Name of a subject. Some are the beginning of others.
fn name_of(subject: Subject) -> String {
    format!("account-{subject}")
}

impl Stage {
    /// Issues a token for a subject; none if that is refused or fails.
    pub(crate) async fn issue_for(&self, subject: Subject, endpoint: Endpoint, wish: Wish) -> Option<Pass> {
        let number = FIRST_NUMBER + self.passes.fetch_add(1, Ordering::Relaxed);
        let mut body = json!({
            "subject": name_of(subject),
            "topics": ["default", topic_of(subject)],
            "expires_in": LIFE,
        });
        if wish == Wish::Ticket {
            body["single_use"] = Value::Bool(true);
        }
        // A refusal says something about the subject, too.
        self.recorder.subject_of(number, subject);
        let (mut issued, kind): (Option<Issued>, _) = (None, Kind::Issue { life: Duration::from_secs(LIFE) });
        let request = async {
            match self.at(endpoint).issue_with(Some(&body)).await {
                Ok(token) => issued = Some(token),
                Err(words) if words.contains(BLOCKED) => return Ok(false),
                Err(words) => return Err(words),
            }
            Ok(true)
        };
        self.recorder.note((kind, number, endpoint), self.recorder.now(), request).await;
        let issued = issued?;
        self.recorder.token(number, &issued.id);
        Some(Pass { number, subject, token: issued.token })
    }

    /// Introspects the token of a subject.
    pub(crate) async fn present(&self, pass: &Pass, endpoint: Endpoint) {
        let request = self.at(endpoint).introspect(&pass.token);
        self.recorder.note((Kind::Introspect, pass.number, endpoint), self.recorder.now(), request).await;
    }

    /// Uses a ticket for a request, the number of which is its id.
    pub(crate) async fn use_ticket(&self, pass: &Pass, request: u8, endpoint: Endpoint) {
        let sent = self.recorder.now();
        let outcome = match self.at(endpoint).authorise(&pass.token, &format!("request-{request}")).await {
            Ok(true) => Outcome::Yes,
            Ok(false) => Outcome::No,
            Err(words) => Outcome::Unanswered(words),
        };
        let (ticket, answered) = (pass.number, self.recorder.now());
        self.recorder.ticket_use(TicketUse { ticket, request, endpoint, sent, answered, outcome });
    }

    /// Opens a stream and keeps it open until it ends or the value is dropped.
    pub(crate) async fn hold(self: &Arc<Self>, pass: &Pass, endpoint: Endpoint) -> Option<Held> {
        let (mut response, sent) = (None, self.recorder.now());
        let request = async {
            response = self.at(endpoint).fetch_stream(&pass.token).await?;
            Ok(response.is_some())
        };
        self.recorder.note((Kind::OpenStream, pass.number, endpoint), sent, request).await;
        let response = response?;
        let index = self.recorder.stream_opened(pass.number, endpoint, sent);
        let (stop, stopped) = oneshot::channel();
        let stage = Arc::clone(self);
        let reader = tokio::spawn(async move {
            let mut stream = OpenedStream::new(response);
            let reason = tokio::select! {
                reason = stream.ended() => Some(reason),
                // Also where the other end was dropped.
                _ = stopped => None,
            };
            // Before the connection is closed: the client counts it as closed before the instance.
            stage.recorder.stream_ended(index, reason);
        });
        Some(Held { stop: Some(stop), reader })
    }

    /// Gives a command, and returns its outcome.
    pub(crate) async fn command(&self, kind: CommandKind, subject: Subject, endpoint: Endpoint) -> Outcome {
        let (api, name, sent) = (self.at(endpoint), name_of(subject), self.recorder.now());
        let request = async {
            match kind {
                CommandKind::Revoke => api.revoke_subject(&name).await,
                CommandKind::Block(lasts) => api.block_subject(&name, lasts.as_secs()).await,
                CommandKind::Unblock => api.unblock_subject(&name).await,
                CommandKind::End => api.end_streams("subject", &name).await,
                CommandKind::EndTopic => api.end_streams("topic", &topic_of(subject)).await,
            }
            .map(|()| true)
        };
        let outcome = self.recorder.note((Kind::Command, 0, endpoint), sent, request).await;
        let answered = self.recorder.now();
        let command = Command { kind, subject, endpoint, sent, answered, outcome: outcome.clone() };
        self.recorder.command(command);
        outcome
    }

    /// Lists all streams.
    pub(crate) async fn list(&self, endpoint: Endpoint) {
        let sent = self.recorder.now();
        let request = async {
            let list = self.at(endpoint).list_streams(MOST_LISTED).await?;
            self.recorder.listing(endpoint, sent, list);
            Ok(true)
        };
        self.recorder.note((Kind::List, 0, endpoint), sent, request).await;
    }
}

impl Pass {
    /// Opens a stream as an `EventSource` does, or as another client.
    pub(crate) async fn open(
        &self,
        api: &Api,
        is_event_source: bool,
    ) -> Result<Option<OpenedStream>, String> {
        let response = if is_event_source {
            api.open_stream(&self.token).await
        } else {
            api.fetch_stream(&self.token).await
        };
        Ok(response?.map(OpenedStream::new))
    }
}

/// A stream that is kept open; closed when dropped.
pub(crate) struct Held {
    stop: Option<oneshot::Sender<()>>,
    reader: JoinHandle<()>,
}

impl Held {
    /// Closes the stream; returns when that is recorded.
    pub(crate) async fn close(mut self) {
        self.stop = None;
        (&mut self.reader).await.expect("a stream is no reason to panic");
    }

    /// Waits until the stream has ended.
    pub(crate) async fn ended(&mut self) {
        (&mut self.reader).await.expect("a stream is no reason to panic");
    }
}

/// The rest of an answer that is a stream.
pub(crate) struct OpenedStream {
    response: Response,
    frames: Frames,
}

impl OpenedStream {
    fn new(response: Response) -> Self {
        Self { response, frames: Frames::default() }
    }

    /// Reads until the stream ends, and returns the reason. Cancel safe.
    pub(crate) async fn ended(&mut self) -> String {
        loop {
            match self.response.chunk().await {
                Ok(Some(bytes)) => {
                    let mut reason = None;
                    self.frames.read(&bytes, |frame| {
                        if frame.event == "reconnect" {
                            reason = Some(ended_in_order(frame));
                        }
                    });
                    if let Some(reason) = reason {
                        return reason;
                    }
                }
                Ok(None) => return "it ended".to_owned(),
                Err(_) => return "it was cut".to_owned(),
            }
        }
    }
}
