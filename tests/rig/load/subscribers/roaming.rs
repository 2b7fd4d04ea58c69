//! Subscribers with a grant leave their streams from time to time. They open another one, after
//! their own or somebody else's event, for all or a part of their topics, and sometimes try to
//! reach beyond their grant first.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::{PATIENT_ATTEMPT, Subscriber};
use crate::history::{Outcome, Trespass};
use crate::load::connection::{Connection, Request};

/// Of a hundred that leave, so many try to reach beyond their grant first.
const TRESPASSERS: u8 = 10;
/// Somebody else's event is at most so many events back: a minute of the documented load.
const EVENTS_BACK: usize = 3000;

/// Waits until a subscriber may leave its stream, at this time at the earliest. Cancel safe.
pub(super) async fn may_leave(at: Option<Instant>, roaming: &mut watch::Receiver<bool>) {
    let Some(at) = at else { return pending().await };
    sleep_until(at).await;
    let allowed = roaming.wait_for(|roams| *roams).await;
    allowed.expect("the load outlives its subscribers");
}

impl Subscriber {
    /// Time at which it leaves a stream that it opens now. `None`: it stays, as somebody does who
    /// has no grant or stops reading.
    pub(super) fn leaves_at(&mut self) -> Option<Instant> {
        let topics = self.stage.topics.as_ref().filter(|_| self.pauses.is_none())?;
        Some(Instant::now() + topics.stay(&mut self.rng))
    }

    /// Records what it reads from now on.
    pub(super) fn begin(&mut self) {
        if let Some(share) = &self.share {
            let recorder = &self.stage.recorder;
            self.since = recorder.now();
            recorder.delivery_recorder().began(self.number, share.patterns(), self.position);
        }
    }

    /// Chooses its next stream.
    pub(super) async fn move_on(&mut self) {
        if self.rng.u8(..100) < TRESPASSERS {
            self.trespass().await;
        }
        match self.rng.u8(..100) {
            // As before, with its own id: its sequence goes on.
            0..40 => return,
            // Other topics, with its own id.
            40..50 => {}
            50..90 => {
                let any = self.stage.recorder.delivery_recorder().any_id(EVENTS_BACK, &mut self.rng);
                self.position = any.or(self.position);
            }
            _ => self.position = None,
        }
        if let (Some(share), Some(topics)) = (&mut self.share, &self.stage.topics) {
            share.narrow(topics, &mut self.rng);
        }
        self.begin();
    }

    /// Tries to open a stream for topics beyond its grant, or with another token's grant.
    async fn trespass(&mut self) {
        let Some(token) = self.issue().await else { return };
        let stage = Arc::clone(&self.stage);
        let (Some(share), Some(space)) = (&self.share, &stage.topics) else { return };
        let (way, token, topics) = if self.rng.bool() {
            ("with topics beyond its grant", token, share.grant.beyond(space, &mut self.rng))
        } else if let Some(swapped) = space.swapped(&token) {
            ("with another token's grant", swapped, Vec::new())
        } else {
            return;
        };
        let at = stage.recorder.now();
        let request = Request { token: &token, after: self.position, topics: &topics, small_buffer: false };
        let opened = timeout(PATIENT_ATTEMPT, Connection::open(stage.at(self.endpoint), request)).await;
        let outcome = match opened {
            Ok(Ok(Some(_))) => Outcome::Yes,
            Ok(Ok(None)) => Outcome::No,
            Ok(Err(words)) => Outcome::Unanswered(words),
            Err(_) => Outcome::Unanswered("no answer in time".to_owned()),
        };
        stage.recorder.trespass(Trespass { at, subscriber: self.number, way, outcome });
    }
}
