//! Questions to all instances: which streams are open, and how many streams an order has ended.
//!
//! An instance writes its question to a stream in Redis, which all instances read, and collects
//! their answers for a second. It knows from the member records which instances there are, so it
//! names those that did not answer. While Redis is unavailable, it answers for itself and names all
//! others.

mod answer;
mod exchange;
mod id;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::answer::{Answer, LARGEST};
pub(crate) use self::exchange::Exchange;
use self::exchange::Question;
pub use self::exchange::RedisExchange;
pub(crate) use self::id::QuestionId;
use super::heavy::{self, MANY_STREAMS};
use super::{ListedStream, Listing};
use crate::clock::UnixMillis;
use crate::events::{Hub, OpenStream, StreamFilter};
use crate::limits::{CLOCK_SKEW, QUESTION_DEADLINE};
use crate::metrics::Metrics;
use crate::redis::stream::StreamEntry;

/// Interval of reading answers.
const POLL: Duration = Duration::from_millis(15);
/// Age of a question after which nobody waits for the answer.
const OUTDATED: Duration = Duration::from_secs(2).saturating_add(CLOCK_SKEW);
/// Bound of the streams in a list.
const MOST_LISTED: usize = 10_000;
/// Bound of the lists that this instance makes at once. A further one is refused.
const LISTS_AT_ONCE: usize = 4;
/// Bound of the bytes in Redis of all answers to one list. The instances share it.
const BYTES_OF_A_LIST: usize = 2_000_000;
/// Length of an answer that takes about a millisecond to parse.
const LONG_ANSWER: usize = 100_000;
/// Bound of the orders whose answers this instance awaits at once. The others wait for their turn.
const ORDERS_AT_ONCE: usize = 16;
/// Bounds of the questions that wait to be answered here, and of those that are answered at once.
/// An answer may have a megabyte.
const MOST_WAITING: usize = 64;
const ANSWERED_AT_ONCE: usize = 4;
/// Bound of the instances whose answers are read.
const MOST_ANSWERS: usize = 1000;

/// Dependencies of [`Questions`].
pub(crate) struct QuestionsDeps {
    /// Name of this instance.
    pub(crate) instance_id: String,
    /// Random number that distinguishes the questions of this start of the instance.
    pub(crate) start: u64,
    /// The streams of this instance.
    pub(crate) hub: Arc<Hub>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// Way to the other instances; `None` without Redis.
    pub(crate) exchange: Option<Arc<dyn Exchange>>,
}

/// As many lists are being made as may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyLists;

/// Asks and answers questions.
pub(crate) struct Questions {
    deps: QuestionsDeps,
    ids: id::Source,
    lists: Semaphore,
    orders: Semaphore,
    waiting: Arc<Semaphore>,
    answering: Semaphore,
}

impl Questions {
    pub(crate) fn new(deps: QuestionsDeps) -> Self {
        Self {
            ids: id::Source::new(deps.start),
            deps,
            lists: Semaphore::new(LISTS_AT_ONCE),
            orders: Semaphore::new(ORDERS_AT_ONCE),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            answering: Semaphore::new(ANSWERED_AT_ONCE),
        }
    }

    /// Lists the `limit` oldest open streams that `filter` selects, those of all instances or of
    /// one.
    ///
    /// # Cancel safety
    /// If the future is dropped, answers stay in Redis until they expire, and the list counts no
    /// longer among those of the moment.
    pub(crate) async fn list(
        &self,
        filter: StreamFilter,
        instance: Option<String>,
        limit: usize,
    ) -> Result<Listing, TooManyLists> {
        let _turn = self.lists.try_acquire().map_err(|_| TooManyLists)?;
        let due = Instant::now() + QUESTION_DEADLINE;
        let limit = limit.clamp(1, MOST_LISTED);
        let own = &self.deps.instance_id;
        let mut merged = Merged::new(limit);
        if instance.as_ref().is_none_or(|instance| instance == own) {
            let (hub, filter) = (Arc::clone(&self.deps.hub), filter.clone());
            let (streams, more) = heavy::run(limit > MANY_STREAMS, move || hub.list(&filter, limit)).await;
            merged.add(own, streams, more);
        }
        let mut asked = match &instance {
            Some(instance) if instance == own => Asked::default(),
            Some(instance) => Asked::one(instance),
            None => self.others(due).await,
        };
        if !asked.awaited.is_empty()
            && let Some(exchange) = &self.deps.exchange
        {
            let bytes = (BYTES_OF_A_LIST / asked.awaited.len()).min(LARGEST);
            let question = Question { id: self.ids.draw(), filter, instance, limit, bytes };
            if exchange.ask(&question, due).await {
                self.collect(exchange.as_ref(), question.id, due, &mut asked, |from, answer| {
                    if let Answer::Streams { streams, more } = answer {
                        merged.add(from, streams, more);
                    }
                })
                .await;
            }
        }
        let Merged { streams, more, .. } = merged.in_order();
        Ok(Listing { streams, missing: asked.missing(), more })
    }

    /// Draws the id of a question that an order carries: how many streams it ends.
    pub(crate) fn draw(&self) -> QuestionId {
        self.ids.draw()
    }

    /// Waits for the answers of the other instances to the question of an order. Returns the number
    /// of streams that they have ended, and the instances that did not answer. `is_announced` is
    /// false if the order is not in Redis.
    pub(crate) async fn count_ended(&self, id: QuestionId, is_announced: bool) -> (u64, Vec<String>) {
        let due = Instant::now() + QUESTION_DEADLINE;
        let mut asked = self.others(due).await;
        let mut ended = 0_u64;
        if is_announced
            && !asked.awaited.is_empty()
            && let Some(exchange) = &self.deps.exchange
            && let Ok(Ok(_turn)) = timeout_at(due, self.orders.acquire()).await
        {
            self.collect(exchange.as_ref(), id, due, &mut asked, |_from, answer| {
                if let Answer::Ended { ended: there } = answer {
                    ended = ended.saturating_add(there);
                }
            })
            .await;
        }
        (ended, asked.missing())
    }

    /// Answers the question of an order that was announced at `asked_at`, by the clock of Redis: it
    /// has ended so many streams here.
    pub(crate) fn answer_ended(self: &Arc<Self>, id: QuestionId, asked_at: UnixMillis, ended: usize) {
        let ended = u64::try_from(ended).unwrap_or(u64::MAX);
        self.answer(id, asked_at, false, move |_| Answer::Ended { ended }.written(LARGEST));
    }

    /// Answers a question that was read in Redis.
    pub(crate) fn receive(self: &Arc<Self>, entry: &StreamEntry<'_>) {
        let Some(question) = Question::read(entry) else {
            self.note_invalid();
            return;
        };
        self.consider(question, entry.written_at());
    }

    fn consider(self: &Arc<Self>, question: Question, asked_at: UnixMillis) {
        let Question { id, filter, instance, limit, bytes } = question;
        if instance.is_none_or(|instance| instance == self.deps.instance_id) {
            self.answer(id, asked_at, limit > MANY_STREAMS, move |hub| {
                let (streams, more) = hub.list(&filter, limit);
                Answer::Streams { streams, more }.written(bytes)
            });
        }
    }

    /// Answers a question in the background, unless nobody waits for the answer any more.
    fn answer(
        self: &Arc<Self>,
        id: QuestionId,
        asked_at: UnixMillis,
        is_heavy: bool,
        answer: impl FnOnce(&Hub) -> String + Send + 'static,
    ) {
        let Some(exchange) = self.deps.exchange.clone() else { return };
        let is_outdated = move |exchange: &dyn Exchange| exchange.now() > asked_at.plus(OUTDATED);
        // Its own questions an instance answers without Redis.
        if self.ids.is_own(id) || is_outdated(exchange.as_ref()) {
            return;
        }
        // Beyond this number, the instance is missing in the answers to others.
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _place = place;
            let Ok(_turn) = this.answering.acquire().await else { return };
            if !is_outdated(exchange.as_ref()) {
                let hub = Arc::clone(&this.deps.hub);
                let text = heavy::run(is_heavy, move || answer(&hub)).await;
                let from = &this.deps.instance_id;
                exchange.answer(id, asked_at, from, &text, Instant::now() + QUESTION_DEADLINE).await;
            }
        });
    }

    /// Counts a question or an answer that cannot be read.
    fn note_invalid(&self) {
        self.deps.metrics.control.invalid();
    }

    /// The other instances.
    async fn others(&self, due: Instant) -> Asked {
        let Some(exchange) = &self.deps.exchange else { return Asked::default() };
        let mut asked = exchange.others(due).await;
        asked.remove(&self.deps.instance_id);
        asked
    }

    /// Reads the answers to a question, and removes them.
    async fn collect(
        &self,
        exchange: &dyn Exchange,
        id: QuestionId,
        due: Instant,
        asked: &mut Asked,
        take: impl FnMut(&str, Answer) + Send,
    ) {
        self.read(exchange, id, due, asked, take).await;
        exchange.remove_answers(id).await;
    }

    /// Reads answers until all instances that are awaited have answered, until `due`, or until
    /// Redis is unavailable. Each instance is heard once.
    async fn read(
        &self,
        exchange: &dyn Exchange,
        id: QuestionId,
        due: Instant,
        asked: &mut Asked,
        mut take: impl FnMut(&str, Answer) + Send,
    ) {
        let mut read_to = exchange::BEGINNING.to_owned();
        loop {
            for (from, text) in exchange.answers(id, &mut read_to, due).await {
                if asked.answered.len() >= MOST_ANSWERS || asked.answered.contains(&from) {
                    continue;
                }
                match heavy::run(text.len() > LONG_ANSWER, move || Answer::read(&text)).await {
                    Some(answer) => {
                        take(&from, answer);
                        asked.answered.insert(from);
                    }
                    None => self.note_invalid(),
                }
            }
            let next = Instant::now() + POLL;
            if asked.is_complete() || next > due || !exchange.is_available() {
                return;
            }
            sleep_until(next).await;
        }
    }
}

/// Instances that are asked, and those that have answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Those that run, as far as this instance knows. It waits for their answers.
    awaited: BTreeSet<String>,
    /// Those that have run until recently. Their streams may be open.
    seen: BTreeSet<String>,
    answered: BTreeSet<String>,
}

impl Asked {
    fn new(live: impl IntoIterator<Item = String>, seen: impl IntoIterator<Item = String>) -> Self {
        Self {
            awaited: live.into_iter().collect(),
            seen: seen.into_iter().collect(),
            answered: BTreeSet::new(),
        }
    }

    /// Only this instance, whether or not it is known.
    fn one(instance: &str) -> Self {
        Self::new([instance.to_owned()], [])
    }

    /// Removes this instance: an earlier start of it has a member record for a while.
    fn remove(&mut self, own: &str) {
        self.awaited.remove(own);
        self.seen.remove(own);
    }

    fn is_complete(&self) -> bool {
        self.awaited.is_subset(&self.answered)
    }

    /// Instances that did not answer.
    fn missing(self) -> Vec<String> {
        let asked = self.awaited.union(&self.seen);
        asked.filter(|instance| !self.answered.contains(*instance)).cloned().collect()
    }
}

/// The oldest streams of several instances.
struct Merged {
    limit: usize,
    streams: Vec<ListedStream>,
    more: bool,
}

impl Merged {
    const fn new(limit: usize) -> Self {
        Self { limit, streams: Vec::new(), more: false }
    }

    /// Adds those of an instance, and whether it has more.
    fn add(&mut self, instance_id: &str, streams: Vec<OpenStream>, more: bool) {
        self.more |= more;
        let listed =
            streams.into_iter().map(|stream| ListedStream { stream, instance_id: instance_id.to_owned() });
        self.streams.extend(listed);
        if self.streams.len() > self.limit {
            self.sort();
            self.streams.truncate(self.limit);
            self.more = true;
        }
    }

    fn sort(&mut self) {
        // Stable: streams of one instance and millisecond stay in the order of their opening.
        self.streams.sort_by_key(|listed| listed.stream.opened_at);
    }

    fn in_order(mut self) -> Self {
        self.sort();
        self
    }
}

#[cfg(test)]
mod tests;
