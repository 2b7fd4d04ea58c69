//! A steady load: tokens issued at a fixed rate, each validated or revoked later; events published
//! at a fixed rate; subscribers with open streams; and frequent queries of every instance's state.
//! Everything is recorded in the history.

mod connection;
mod grants;
mod publisher;
mod subjects;
mod subscribers;
mod token_lifecycle;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;
use vx11_kit::{Api, Operator};

use crate::history::{Endpoint, HistoryRecorder};
pub use grants::{Grant, TopicLoad, TopicSpace};
pub(crate) use subjects::{Held, MOST_LISTED, Pass, Wish};
pub(crate) use subscribers::subscriber_of;
use token_lifecycle::{Course, Token};

/// Size of the load.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Tokens issued a second.
    pub rate: u32,
    /// Streams that are kept open.
    pub subscribers: usize,
    /// Events published a second; none if it is zero.
    pub events: u32,
    /// The least that the data of an event takes.
    pub event_bytes: usize,
    /// Number of subscribers that stop reading on request.
    pub pausing: usize,
    /// Topics and grants; `None`: everything is of `default`, and tokens are plain.
    pub topics: Option<TopicLoad>,
}

/// An instance, and the number of its process where it is known.
#[derive(Clone)]
pub struct Member {
    api: Api,
    pid: Option<Arc<AtomicU32>>,
}

impl Member {
    /// An instance whose process is somebody else's.
    #[must_use]
    pub fn from_afar(api: Api) -> Self {
        Self { api, pid: None }
    }
}

impl From<&Operator> for Member {
    fn from(operator: &Operator) -> Self {
        Self { api: operator.api().clone(), pid: Some(operator.pid()) }
    }
}

/// Who is asked, and where it is noted.
pub(crate) struct Stage {
    pub(crate) members: Vec<Member>,
    /// In front of all instances. Without it, clients ask the instances themselves.
    pub(crate) balancer: Option<Api>,
    /// Of a load with grants.
    pub(crate) topics: Option<TopicSpace>,
    pub(crate) recorder: HistoryRecorder,
    /// Number of tokens that drills issued for subjects.
    passes: AtomicU64,
}

impl Stage {
    pub(crate) fn new(members: Vec<Member>, balancer: Option<Api>, topics: Option<TopicLoad>) -> Self {
        let topics = topics.map(TopicSpace::of);
        Self { members, balancer, topics, recorder: HistoryRecorder::default(), passes: AtomicU64::new(0) }
    }

    /// Interface of the target.
    pub(crate) fn at(&self, endpoint: Endpoint) -> &Api {
        match endpoint {
            Endpoint::Instance(index) => &self.members[index].api,
            Endpoint::Balancer => self.balancer.as_ref().expect("there is a balancer"),
        }
    }

    /// All instances.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Api> {
        self.members.iter().map(|member| &member.api)
    }

    /// Target of a client, the `turn`th of many.
    fn entrance(&self, turn: usize) -> Endpoint {
        match self.balancer {
            Some(_) => Endpoint::Balancer,
            None => Endpoint::Instance(turn % self.members.len()),
        }
    }
}

/// The load; ends when dropped, together with all its requests.
pub(crate) struct Load {
    tasks: Vec<JoinHandle<()>>,
    publisher: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Whether those who can stop reading do so.
    paused: tokio::sync::watch::Sender<bool>,
    /// Whether subscribers with a grant leave their streams from time to time.
    roams: tokio::sync::watch::Sender<bool>,
}

impl Load {
    /// Begins, with all streams open when it returns.
    pub(crate) async fn start(stage: &Arc<Stage>, measure: Measure, mut rng: Rng) -> Self {
        let (paused, of_reading) = tokio::sync::watch::channel(false);
        let (roams, of_roaming) = tokio::sync::watch::channel(true);
        let mut tasks = subscribers::subscribe(stage, measure, (&of_reading, &of_roaming), &mut rng).await;
        for instance in 0..stage.members.len() {
            tasks.push(tokio::spawn(watch::watch(Arc::clone(stage), instance)));
        }
        tasks.push(tokio::spawn(issue(Arc::clone(stage), measure.rate, rng.fork())));
        let publisher = (measure.events > 0).then(|| {
            let (stop, stopped) = oneshot::channel();
            (stop, tokio::spawn(publisher::publish(Arc::clone(stage), measure, rng.fork(), stopped)))
        });
        Self { tasks, publisher, paused, roams }
    }

    /// Tells those subscribers who can to stop reading, or to go on.
    pub(crate) fn pause_reading(&self, pause: bool) {
        self.paused.send_replace(pause);
    }

    /// Makes subscribers with a grant stay where they are, or leave their streams again.
    pub(crate) fn roam(&self, roams: bool) {
        self.roams.send_replace(roams);
    }

    /// Publishes no more; returns when what was on its way has been acknowledged, or will not be.
    pub(crate) async fn stop_publishing(&mut self) {
        if let Some((stop, publisher)) = self.publisher.take() {
            // It listens as long as it publishes.
            let _ = stop.send(());
            publisher.await.expect("an event is no reason to panic");
        }
    }

    /// Panics if a part of the load did.
    pub(crate) async fn stop(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            if let Err(error) = task.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in self.tasks.iter().chain(self.publisher.as_ref().map(|(_, publisher)| publisher)) {
            task.abort();
        }
    }
}

async fn issue(stage: Arc<Stage>, rate: u32, mut rng: Rng) {
    let mut lives = JoinSet::new();
    let mut clock = interval(Duration::from_secs(1) / rate);
    for number in 0_u64.. {
        let due = clock.tick().await;
        let issuer = stage.entrance(usize::try_from(number).unwrap_or(0));
        let due = stage.recorder.moment(due.into_std());
        let course = Course::draw(&mut rng, stage.at(issuer));
        lives.spawn(Token { stage: Arc::clone(&stage), number, issuer, due }.live(course, rng.fork()));
        while let Some(ended) = lives.try_join_next() {
            ended.expect("a token's course is no reason to panic");
        }
    }
}
