//! Questions between instances that exchange them in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::clock::{Clock as _, Jitter, ManualClock};
use crate::events::{
    Epoch, EventStream, HubDeps, LogPlace, OpenStream, Opener, RingLimits, Start, StreamLimits,
    StreamOpening, StreamSettings,
};
use crate::principal::PrincipalId;
use crate::telemetry::RequestIds;
use crate::token::Subject;
use crate::topic::Patterns;

const NOW: UnixMillis = UnixMillis(1_767_470_400_000);

/// Redis, as the instances of a test share it.
#[derive(Default)]
struct Place {
    instances: Mutex<Vec<Arc<Questions>>>,
    /// Names of instances that do not answer.
    hung: Mutex<BTreeSet<String>>,
    answers: Mutex<HashMap<String, Vec<(String, String)>>>,
    is_away: AtomicBool,
    questions: Mutex<Vec<Question>>,
    answered: AtomicUsize,
}

struct InMemory {
    place: Arc<Place>,
    names: Vec<String>,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Exchange for InMemory {
    async fn others(&self, _due: Instant) -> Asked {
        let names = || self.names.iter().cloned();
        let live = if self.is_available() { names().collect() } else { Vec::new() };
        Asked::new(live, names())
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    fn is_available(&self) -> bool {
        !self.place.is_away.load(Ordering::Relaxed)
    }

    async fn ask(&self, question: &Question, _due: Instant) -> bool {
        self.place.questions.lock().push(question.clone());
        for instance in self.place.instances.lock().iter() {
            instance.consider(question.clone(), NOW);
        }
        self.is_available()
    }

    async fn answer(&self, id: QuestionId, _at: UnixMillis, from: &str, answer: &str, _due: Instant) {
        if !self.place.hung.lock().contains(from) {
            self.place.answered.fetch_add(1, Ordering::Relaxed);
            let mut answers = self.place.answers.lock();
            answers.entry(id.to_string()).or_default().push((from.to_owned(), answer.to_owned()));
        }
    }

    async fn answers(&self, id: QuestionId, read_to: &mut String, _due: Instant) -> Vec<(String, String)> {
        let before: usize = read_to.parse().unwrap();
        let answers = self.place.answers.lock();
        let answers = answers.get(&id.to_string()).map_or(&[][..], Vec::as_slice);
        *read_to = answers.len().to_string();
        answers[before..].to_vec()
    }

    async fn remove_answers(&self, id: QuestionId) {
        self.place.answers.lock().remove(&id.to_string());
    }
}

/// Three instances.
struct Cluster {
    place: Arc<Place>,
    clock: Arc<ManualClock>,
    hubs: Vec<Arc<Hub>>,
    questions: Vec<Arc<Questions>>,
    streams: Vec<EventStream>,
}

const NAMES: [&str; 3] = ["1", "2", "3"];

impl Cluster {
    fn start() -> Self {
        let place = Arc::new(Place::default());
        let clock = Arc::new(ManualClock::at(NOW));
        let hubs: Vec<_> = (1..).zip(NAMES).map(|(seed, name)| hub(seed, name, &clock)).collect();
        let mut cluster = Self { place, clock, hubs, questions: Vec::new(), streams: Vec::new() };
        let names = NAMES.map(str::to_owned);
        cluster.questions = (0..names.len()).map(|at| Arc::new(cluster.questions_of(at, &names))).collect();
        cluster.questions.clone_into(&mut cluster.place.instances.lock());
        cluster
    }

    /// The questions of an instance that knows instances of these names.
    fn questions_of(&self, at: usize, names: &[String]) -> Questions {
        let (place, clock) = (Arc::clone(&self.place), Arc::clone(&self.clock));
        Questions::new(QuestionsDeps {
            instance_id: NAMES[at].to_owned(),
            start: 7 + at as u64,
            hub: Arc::clone(&self.hubs[at]),
            metrics: metrics(),
            exchange: Some(Arc::new(InMemory { place, names: names.to_vec(), clock })),
        })
    }

    /// Opens a stream of `subject` on an instance, later than those before.
    fn open(&mut self, at: usize, subject: &str) -> String {
        self.clock.advance(Duration::from_millis(1));
        let opener = Opener {
            principal: PrincipalId::parse("p").unwrap(),
            token: None,
            subject: Subject::parse(subject),
            patterns: Patterns::default(),
            issued_at: None,
            until: None,
        };
        let opening = StreamOpening::take(&self.hubs[at], opener).unwrap();
        let id = opening.id().to_string();
        self.streams.push(opening.open(Start::default(), RequestIds::new(1).draw()));
        id
    }

    async fn list(&self, subject: Option<&str>, instance: Option<&str>, limit: usize) -> Listing {
        let filter = StreamFilter { subject: subject.and_then(Subject::parse), ..StreamFilter::default() };
        self.questions[0].list(filter, instance.map(str::to_owned), limit).await.unwrap()
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

fn hub(seed: u64, name: &str, clock: &Arc<ManualClock>) -> Arc<Hub> {
    Arc::new(Hub::new(HubDeps {
        instance_id: name.to_owned(),
        log: LogPlace::Own(Epoch(1)),
        ring: RingLimits { entries: 10, bytes: 10_000 },
        streams: StreamSettings {
            limits: StreamLimits { all: 100, per_token: None, per_principal: None },
            heartbeat: Duration::from_secs(15),
            coalesce: Duration::ZERO,
            max_age: Duration::from_mins(15),
            retry: Duration::from_secs(3),
        },
        clock: Arc::<ManualClock>::clone(clock),
        jitter: Arc::new(Jitter::seeded(seed)),
        metrics: metrics(),
        stream_events: None,
    }))
}

fn ids(listing: &Listing) -> Vec<(String, String)> {
    let streams = listing.streams.iter();
    streams.map(|listed| (listed.instance_id.clone(), listed.stream.stream_id.to_string())).collect()
}

fn on(instance: &str, id: &str) -> (String, String) {
    (instance.to_owned(), id.to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_list_has_the_streams_of_all_instances_the_oldest_first() {
    let mut cluster = Cluster::start();
    let (a, b, c) = (cluster.open(2, "a"), cluster.open(0, "b"), cluster.open(1, "a"));
    let began = Instant::now();
    let listing = cluster.list(None, None, 100).await;
    assert_eq!(ids(&listing), [on("3", &a), on("1", &b), on("2", &c)]);
    assert!(listing.missing.is_empty() && !listing.more);
    assert!(began.elapsed() <= POLL, "nobody is waited for who has answered");
    assert_eq!(ids(&cluster.list(Some("a"), None, 100).await), [on("3", &a), on("2", &c)]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_keeps_the_oldest_streams_of_all_and_says_that_there_are_more() {
    let mut cluster = Cluster::start();
    let opened: Vec<_> = [2, 0, 1, 2, 0].map(|at| (NAMES[at], cluster.open(at, "a"))).into();
    for limit in 1..=5 {
        let listing = cluster.list(None, None, limit).await;
        let oldest: Vec<_> = opened[..limit].iter().map(|(name, id)| on(name, id)).collect();
        assert_eq!((ids(&listing), listing.more), (oldest, limit < 5));
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_does_not_answer_within_a_second_is_missing() {
    let mut cluster = Cluster::start();
    let (here, there) = (cluster.open(0, "a"), cluster.open(2, "a"));
    cluster.open(1, "a");
    cluster.place.hung.lock().insert("2".to_owned());
    let began = Instant::now();
    let listing = cluster.list(None, None, 100).await;
    assert_eq!(ids(&listing), [on("1", &here), on("3", &there)]);
    assert_eq!(listing.missing, ["2"]);
    assert!(
        began.elapsed() <= QUESTION_DEADLINE
            && began.elapsed() > QUESTION_DEADLINE.checked_sub(POLL).unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn answers_are_removed_when_they_were_read_also_if_an_instance_did_not_answer() {
    let cluster = Cluster::start();
    for hung in [None, Some("2")] {
        cluster.place.hung.lock().extend(hung.map(str::to_owned));
        assert_eq!(cluster.list(None, None, 100).await.missing.len(), hung.iter().len());
        let order = cluster.questions[0].draw();
        cluster.questions[2].answer_ended(order, NOW, 1);
        assert_eq!(cluster.questions[0].count_ended(order, true).await.0, 1);
        assert!(cluster.place.answers.lock().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_beyond_those_that_are_made_at_once_is_refused_and_one_after_them_is_not() {
    let cluster = Cluster::start();
    cluster.place.hung.lock().insert("2".to_owned());
    let list = || cluster.questions[0].list(StreamFilter::default(), None, 100);
    let lists = futures_util::future::join_all((0..LISTS_AT_ONCE + 2).map(|_| list())).await;
    let missing: Vec<_> = lists.into_iter().map(|list| list.map(|list| list.missing)).collect();
    let made = vec![Ok(vec!["2".to_owned()]); LISTS_AT_ONCE];
    assert_eq!(missing, [made, vec![Err(TooManyLists); 2]].concat());
    assert!(list().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn all_answers_to_a_list_together_are_bounded() {
    let cluster = Cluster::start();
    for others in [1, 2, 3, 100] {
        let names: Vec<_> = (0..others).map(|number| format!("other-{number}")).collect();
        let questions = cluster.questions_of(0, &names);
        questions.list(StreamFilter::default(), None, MOST_LISTED).await.unwrap();
        let bytes = cluster.place.questions.lock().last().unwrap().bytes;
        assert!(bytes * others <= BYTES_OF_A_LIST, "{others} instances, {bytes} each");
        let is_all = bytes == LARGEST || (bytes + 1) * others > BYTES_OF_A_LIST;
        assert!(is_all, "{others} instances, {bytes} each");
    }
}

#[tokio::test(start_paused = true)]
async fn while_redis_is_unavailable_an_instance_lists_its_own_streams_and_misses_all_others() {
    let mut cluster = Cluster::start();
    let here = cluster.open(0, "a");
    cluster.open(1, "a");
    cluster.place.is_away.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let listing = cluster.list(None, None, 100).await;
    assert_eq!(
        (ids(&listing), listing.missing),
        (vec![on("1", &here)], vec!["2".to_owned(), "3".to_owned()])
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_instance_is_asked_alone_and_is_missing_if_nobody_has_its_name() {
    let mut cluster = Cluster::start();
    let (here, there) = (cluster.open(0, "a"), cluster.open(1, "a"));
    assert_eq!(ids(&cluster.list(None, Some("2"), 100).await), [on("2", &there)]);
    assert_eq!(cluster.place.answered.load(Ordering::Relaxed), 1);
    assert_eq!(ids(&cluster.list(None, Some("1"), 100).await), [on("1", &here)]);
    assert_eq!(cluster.place.questions.lock().len(), 1, "its own streams it knows");
    let listing = cluster.list(None, Some("4"), 100).await;
    assert_eq!((ids(&listing), listing.missing), (vec![], vec!["4".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn answers_to_an_order_are_added_up_and_each_instance_counts_once() {
    let cluster = Cluster::start();
    let id = cluster.questions[0].draw();
    for (at, ended) in [(0, 100), (1, 3), (1, 3), (2, 4)] {
        cluster.questions[at].answer_ended(id, NOW, ended);
    }
    assert_eq!(cluster.questions[0].count_ended(id, true).await, (7, vec![]));
    let (ended, missing) = cluster.questions[0].count_ended(id, false).await;
    assert_eq!((ended, missing.join(" ")), (0, "2 3".to_owned()), "nobody can read it");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_any_more_is_not_answered() {
    let cluster = Cluster::start();
    let id = cluster.questions[0].draw();
    cluster.clock.advance(OUTDATED);
    cluster.questions[1].answer_ended(id, NOW, 1);
    tokio::task::yield_now().await;
    assert_eq!(cluster.place.answers.lock().len(), 1);
    cluster.clock.advance(Duration::from_millis(1));
    cluster.questions[2].answer_ended(id, NOW, 1);
    tokio::task::yield_now().await;
    assert_eq!(cluster.place.answers.lock()[&id.to_string()].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn questions_beyond_the_bound_are_not_answered_and_those_within_it_are() {
    let cluster = Cluster::start();
    for _ in 0..2 * MOST_WAITING {
        cluster.questions[1].answer_ended(cluster.questions[0].draw(), NOW, 1);
    }
    tokio::time::sleep(POLL).await;
    assert_eq!(cluster.place.answers.lock().len(), MOST_WAITING);
    cluster.questions[1].answer_ended(cluster.questions[0].draw(), NOW, 1);
    tokio::time::sleep(POLL).await;
    assert_eq!(cluster.place.answers.lock().len(), MOST_WAITING + 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_none() {
    let mut cluster = Cluster::start();
    let here = cluster.open(0, "a");
    cluster.place.instances.lock().clear();
    let id = QuestionId::parse(&format!("{:016x}{:016x}", 7, 0)).unwrap();
    let wrong = |from: &str, text: &str| (from.to_owned(), text.to_owned());
    let answers = vec![wrong("2", "{}"), wrong("3", r#"{"streams":[],"more":false}"#)];
    cluster.place.answers.lock().insert(id.to_string(), answers);
    let listing = cluster.list(None, None, 100).await;
    assert_eq!((ids(&listing), listing.missing), (vec![on("1", &here)], vec!["2".to_owned()]));
}

#[test]
fn an_instance_that_has_started_again_is_not_missing_for_its_earlier_start() {
    let names = || ["1".to_owned(), "2".to_owned(), "2".to_owned()];
    let mut asked = Asked::new(names(), names());
    asked.remove("1");
    asked.answered.insert("2".to_owned());
    assert!(asked.is_complete());
    assert!(asked.missing().is_empty());
}

#[test]
fn the_streams_of_several_instances_are_bounded_while_they_are_added() {
    let stream = |number: u64| OpenStream {
        stream_id: crate::events::StreamId::new(number),
        token_id: None,
        subject: None,
        topics: Patterns::default(),
        principal: PrincipalId::parse("p").unwrap(),
        opened_at: UnixMillis(number),
    };
    let mut merged = Merged::new(3);
    merged.add("1", vec![stream(2), stream(4), stream(6)], false);
    assert!(!merged.more);
    merged.add("2", vec![stream(1), stream(3), stream(5)], false);
    assert!(merged.more && merged.streams.len() == 3);
    let numbers: Vec<_> = merged.in_order().streams.iter().map(|it| it.stream.opened_at.0).collect();
    assert_eq!(numbers, [1, 2, 3]);
}
