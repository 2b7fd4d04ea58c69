//! Deliveries to subscribers. They are recorded for every frame of every stream. A subscriber's
//! sequence is therefore stored as ranges of one shared list: the events in order of first
//! delivery.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use vx11_kit::EventId;

use super::{Moment, Patterns};

/// Delivery times are kept in microseconds, up to an hour, to two significant figures.
const LONGEST: u64 = 3_600_000_000;
const FIGURES: u8 = 2;

/// An event as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// Its id.
    pub id: EventId,
    /// Number of its publication; `None` for foreign events.
    pub number: Option<usize>,
    /// The topic that its frame names, if any.
    pub topic: Option<Arc<str>>,
}

/// Messages to a subscriber, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The subscriber reads these patterns after this event, or after the newest one. Its earlier
    /// sequence ends where it was. A subscriber without it reads `default`.
    Began {
        /// Patterns of its grant, or those within it that its streams name.
        patterns: Patterns,
        /// Id from which it resumes.
        after: Option<EventId>,
    },
    /// A heartbeat moved the position to this event.
    Position(EventId),
    /// A stream began after this event.
    Greeting(Option<EventId>),
    /// Events, as indices of [`Deliveries::events`].
    Events(Range<usize>),
    /// A reset: events up to this one are lost, or unknown.
    Reset {
        /// Id at which it continues.
        id: Option<EventId>,
        /// Reason.
        reason: String,
    },
    /// `degraded`.
    Degraded,
    /// `recovered`.
    Recovered,
}

/// All deliveries.
#[derive(Debug, Clone, Default)]
pub struct Deliveries {
    /// Distinct events, in order of first delivery.
    pub events: Vec<Delivered>,
    /// Log epochs, in order of first appearance.
    pub epochs: Vec<u32>,
    /// Messages to each subscriber.
    pub messages: Vec<Vec<Message>>,
    /// Position of each subscriber.
    pub positions: Vec<Option<EventId>>,
    /// Times from due to delivery in µs, by the second in which events were due.
    pub times: BTreeMap<u64, Histogram<u32>>,
}

impl Deliveries {
    /// Records the time of a delivery.
    pub fn took(&mut self, due: Moment, time: Duration) {
        let new = || Histogram::new_with_bounds(1, LONGEST, FIGURES).expect("bounds of a histogram");
        let second = self.times.entry(due.as_secs()).or_insert_with(new);
        second.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST));
    }
}

/// Recorder of deliveries.
pub(crate) struct DeliveryRecorder {
    deliveries: Deliveries,
    /// Data of each event, which has to be the same for all subscribers.
    data: Vec<Box<str>>,
    due: Vec<Option<Moment>>,
    known: HashMap<Delivered, usize>,
    /// Marks events of this history.
    publisher: u32,
}

impl DeliveryRecorder {
    pub(super) fn new(publisher: u32) -> Self {
        Self {
            deliveries: Deliveries::default(),
            data: Vec::new(),
            due: Vec::new(),
            known: HashMap::new(),
            publisher,
        }
    }

    /// The deliveries so far.
    pub(super) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// The deliveries.
    pub(super) fn take(&mut self) -> Deliveries {
        std::mem::take(&mut self.deliveries)
    }

    /// Id of one of the last events that anybody received first, at most so many back.
    pub(crate) fn any_id(&self, back: usize, rng: &mut Rng) -> Option<EventId> {
        let events = &self.deliveries.events;
        let back = rng.usize(1..=back.min(events.len()).max(1));
        events.get(events.len().checked_sub(back)?).map(|event| event.id)
    }

    /// Records that a subscriber begins to read these patterns, after this event.
    pub(crate) fn began(&mut self, subscriber: usize, patterns: &Patterns, after: Option<EventId>) {
        self.moved(subscriber, after);
        self.deliveries.positions[subscriber] = after;
        let patterns = Arc::clone(patterns);
        self.deliveries.messages[subscriber].push(Message::Began { patterns, after });
    }

    /// Records the id of a heartbeat.
    pub(crate) fn position(&mut self, subscriber: usize, id: EventId) {
        self.moved(subscriber, Some(id));
        self.deliveries.messages[subscriber].push(Message::Position(id));
    }

    /// Records the greeting of a stream.
    pub(crate) fn greeting(&mut self, subscriber: usize, id: Option<EventId>) {
        self.moved(subscriber, id);
        self.deliveries.messages[subscriber].push(Message::Greeting(id));
    }

    /// Records an event, and its time if it was due within this period, which ends now.
    pub(crate) fn event(
        &mut self,
        subscriber: usize,
        id: EventId,
        (topic, data): (Option<&str>, &str),
        timed: Option<Range<Moment>>,
    ) {
        self.moved(subscriber, Some(id));
        let index = self.index(subscriber, id, topic, data);
        match self.deliveries.messages[subscriber].last_mut() {
            Some(Message::Events(range)) if range.end == index => range.end += 1,
            _ => self.deliveries.messages[subscriber].push(Message::Events(index..index + 1)),
        }
        if let (Some(timed), Some(due)) = (timed, self.due[index])
            && due >= timed.start
        {
            self.deliveries.took(due, timed.end.saturating_sub(due));
        }
    }

    /// Records a reset.
    pub(crate) fn reset(&mut self, subscriber: usize, id: Option<EventId>, reason: &str) {
        self.moved(subscriber, id);
        self.deliveries.messages[subscriber].push(Message::Reset { id, reason: reason.to_owned() });
    }

    /// Records `degraded` or `recovered`.
    pub(crate) fn reachable(&mut self, subscriber: usize, is_reachable: bool) {
        let message = if is_reachable { Message::Recovered } else { Message::Degraded };
        self.deliveries.messages[subscriber].push(message);
    }

    /// Usually the event after the last one.
    fn index(&mut self, subscriber: usize, id: EventId, topic: Option<&str>, data: &str) -> usize {
        let next = match self.deliveries.messages[subscriber].last() {
            Some(Message::Events(range)) => range.end,
            _ => self.data.len(),
        };
        let is_next = self.deliveries.events.get(next).is_some_and(|event| {
            event.id == id && event.topic.as_deref() == topic && *self.data[next] == *data
        });
        if is_next {
            return next;
        }
        let stamp = Stamp::read(data, self.publisher);
        let number = stamp.map(|stamp| stamp.number);
        let delivered = Delivered { id, number, topic: topic.map(Arc::from) };
        *self.known.entry(delivered.clone()).or_insert_with(|| {
            self.deliveries.events.push(delivered);
            self.data.push(data.into());
            self.due.push(stamp.map(|stamp| stamp.due));
            self.data.len() - 1
        })
    }

    fn moved(&mut self, subscriber: usize, id: Option<EventId>) {
        let Deliveries { messages, positions, epochs, .. } = &mut self.deliveries;
        if messages.len() <= subscriber {
            messages.resize(subscriber + 1, Vec::new());
            positions.resize(subscriber + 1, None);
        }
        let Some(id) = id else { return };
        positions[subscriber] = Some(id);
        if epochs.last() != Some(&id.epoch) && !epochs.contains(&id.epoch) {
            epochs.push(id.epoch);
        }
    }
}

/// Publication of an event, from its data.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) publisher: u32,
    pub(crate) number: usize,
    pub(crate) due: Moment,
}

impl Stamp {
    /// Data of an event, padded to about so many bytes.
    pub(crate) fn data(self, bytes: usize) -> Value {
        let Self { publisher, number, due } = self;
        let due = u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
        let bare = json!({ "publisher": publisher, "number": number, "due": due });
        match bytes.saturating_sub(bare.to_string().len()) {
            0 => bare,
            missing => {
                json!({ "publisher": publisher, "number": number, "due": due, "padding": "x".repeat(missing) })
            }
        }
    }

    /// `None` for foreign events.
    fn read(data: &str, publisher: u32) -> Option<Self> {
        let data: Value = serde_json::from_str(data).ok()?;
        let is_own = data["publisher"].as_u64()? == u64::from(publisher);
        let number = usize::try_from(data["number"].as_u64()?).ok()?;
        let due = Duration::from_micros(data["due"].as_u64()?);
        is_own.then_some(Self { publisher, number, due })
    }
}
