//! Life of a token in a load.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;
use vx11_kit::{Api, Issued};

use super::{Grant, Stage};
use crate::history::{Endpoint, Kind, Moment, Outcome};

/// A token is not looked at in its last two seconds, by which clocks may differ; nor when it is
/// older than this.
const OLDEST: Duration = Duration::from_mins(1);
const LAST_SECONDS: Duration = Duration::from_secs(2);
/// Most are looked at before they are as old as this.
const YOUNG: Duration = Duration::from_secs(3);
/// After a revocation every instance is asked so many milliseconds later; the other instances may
/// take a second.
const LOOKS_AT_REVOKED: [u64; 4] = [1020, 2500, 4500, 7000];

/// Next operation on a token.
#[derive(Clone, Copy)]
pub(super) enum Course {
    Introspect(Duration),
    OpenStream(Duration),
    Revoke(Duration),
}

impl Course {
    pub(super) fn draw(rng: &mut Rng, issuer: &Api) -> Self {
        let oldest = OLDEST.min(issuer.life().saturating_sub(LAST_SECONDS)).as_secs_f64();
        let young = oldest.min(YOUNG.as_secs_f64());
        let age = if rng.u8(..100) < 75 { rng.f64() * young } else { rng.f64() * oldest };
        match rng.u8(..100) {
            0..2 => Self::Revoke(Duration::from_millis(rng.u64(..1000))),
            2..6 => Self::OpenStream(Duration::from_secs_f64(age)),
            _ => Self::Introspect(Duration::from_secs_f64(age)),
        }
    }
}

/// A token that is yet to be issued.
pub(super) struct Token {
    pub(super) stage: Arc<Stage>,
    pub(super) number: u64,
    pub(super) issuer: Endpoint,
    pub(super) due: Moment,
}

impl Token {
    pub(super) async fn live(self, course: Course, mut rng: Rng) {
        let by = Endpoint::Instance(rng.usize(..self.stage.members.len()));
        let subject = format!("visitor-{}", self.number);
        let grant = self.stage.topics.as_ref().map(|space| Grant::draw(space, subject, &mut rng));
        let Some(issued) = self.issue(grant.as_ref()).await else { return };
        match course {
            Course::Introspect(age) => {
                sleep(age).await;
                self.introspect(by, &issued).await;
                if self.stage.balancer.is_some() {
                    self.introspect(Endpoint::Balancer, &issued).await;
                }
            }
            Course::OpenStream(age) => {
                sleep(age).await;
                let by = if self.stage.balancer.is_some() { Endpoint::Balancer } else { by };
                self.open_stream(by, &issued).await;
            }
            Course::Revoke(age) => {
                sleep(age).await;
                let through_it = self.stage.balancer.is_some() && rng.bool();
                let by = if through_it { Endpoint::Balancer } else { by };
                self.revoke(by, &issued, rng.bool()).await;
            }
        }
    }

    async fn issue(&self, grant: Option<&Grant>) -> Option<Issued> {
        let operator = self.stage.at(self.issuer);
        let grant = grant.and_then(Grant::request);
        let (mut issued, kind) = (None, Kind::Issue { life: operator.life() });
        let request = async {
            issued = Some(operator.issue_with(grant.as_ref()).await?);
            Ok(true)
        };
        self.stage.recorder.note((kind, self.number, self.issuer), self.due, request).await;
        if let Some(issued) = &issued {
            self.stage.recorder.token(self.number, &issued.id);
        }
        issued
    }

    async fn introspect(&self, by: Endpoint, issued: &Issued) {
        let recorder = &self.stage.recorder;
        let request = self.stage.at(by).introspect(&issued.token);
        recorder.note((Kind::Introspect, self.number, by), recorder.now(), request).await;
    }

    async fn open_stream(&self, by: Endpoint, issued: &Issued) {
        let recorder = &self.stage.recorder;
        let (opened, mut stream, sent) = (self.stage.at(by).open_stream(&issued.token), None, recorder.now());
        let request = async {
            stream = opened.await?;
            Ok(stream.is_some())
        };
        recorder.note((Kind::OpenStream, self.number, by), sent, request).await;
        if stream.is_some() {
            let index = recorder.stream_opened(self.number, by, sent);
            recorder.stream_ended(index, None);
        }
    }

    /// Revokes it, and asks for it at once where it was revoked and from time to time everywhere.
    async fn revoke(&self, by: Endpoint, issued: &Issued, by_id: bool) {
        let recorder = &self.stage.recorder;
        let (parameter, value) = if by_id { ("token_id", &issued.id) } else { ("token", &issued.token) };
        let request = async { self.stage.at(by).revoke(parameter, value).await.map(|()| true) };
        let outcome = recorder.note((Kind::Revoke, self.number, by), recorder.now(), request).await;
        if outcome != Outcome::Yes {
            return;
        }
        let revoked = recorder.now();
        // Behind the load balancer another instance may answer, which has a second to apply the
        // revocation.
        if by != Endpoint::Balancer {
            self.introspect(by, issued).await;
        }
        for after in LOOKS_AT_REVOKED {
            sleep((revoked + Duration::from_millis(after)).saturating_sub(recorder.now())).await;
            for instance in 0..self.stage.members.len() {
                self.introspect(Endpoint::Instance(instance), issued).await;
            }
        }
    }
}
