//! Check of the events: every subscriber has to get each acknowledged event of its topics once, in
//! the order of the log, and no other event. An event whose loss is announced by `reset` is a gap;
//! any other missing event is lost, also if a heartbeat passes over it.

use std::collections::HashMap;

use vx11_kit::EventId;

use super::Findings;
use crate::history::{DEFAULT, Deliveries, History, Message, Patterns, Publication, matches};

/// A position in the log, comparable between log epochs.
type LogPosition = (usize, u64, u64);

/// The log epochs, in the order in which the first subscriber received an event of each.
struct Epochs(HashMap<u32, usize>);

impl Epochs {
    fn of(deliveries: &Deliveries) -> Self {
        Self(deliveries.epochs.iter().copied().zip(0..).collect())
    }

    /// Events that nobody has received yet count as new.
    fn position_of(&self, id: EventId) -> LogPosition {
        (self.0.get(&id.epoch).copied().unwrap_or(usize::MAX), id.millis, id.seq)
    }
}

/// Results of the events, for all subscribers together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sequences {
    /// Acknowledged and not received.
    pub(crate) lost: Findings,
    /// Received more than once.
    pub(crate) twice: Findings,
    /// Events received after an event with a later id.
    pub(super) disordered: Findings,
    /// Received under another id than was acknowledged.
    pub(super) renamed: Findings,
    /// Received although no pattern matches.
    pub(crate) foreign: Findings,
    /// Received with another topic than the first that matches.
    pub(super) mislabelled: Findings,
    /// Streams whose last state was `degraded`.
    pub(super) left_degraded: Findings,
    /// Acknowledged and not received, but announced as lost.
    pub(crate) announced: usize,
    /// Resets.
    pub(crate) resets: usize,
    /// Sequences of subscribers with a grant.
    pub(crate) begun: usize,
    /// Sequences among these that begin at the event id of another subscriber.
    pub(crate) others_ids: usize,
    /// Events that were due in these sequences, and events that they must not have.
    pub(crate) judged: usize,
}

/// The acknowledged and the delivered events.
struct Log<'a> {
    epochs: Epochs,
    deliveries: &'a Deliveries,
    publications: &'a [Publication],
    /// With the numbers, in the order of the log.
    acknowledged: Vec<(LogPosition, usize)>,
}

pub(super) fn judge(history: &History) -> Sequences {
    let log = Log::of(&history.publications, &history.deliveries);
    let mut found = Sequences::default();
    for (subscriber, messages) in history.deliveries.messages.iter().enumerate() {
        Reading::of(&log, subscriber).judge(messages, &mut found);
    }
    found
}

/// The acknowledged event with the latest id.
pub(crate) fn last_acknowledged(publications: &[Publication], deliveries: &Deliveries) -> Option<EventId> {
    let epochs = Epochs::of(deliveries);
    let acknowledged = publications.iter().filter_map(Publication::acknowledged).map(|(_, id)| id);
    acknowledged.max_by_key(|id| epochs.position_of(*id))
}

/// Whether every subscriber is where this event is, or behind it.
pub(crate) fn all_reached(deliveries: &Deliveries, event: EventId) -> bool {
    let epochs = Epochs::of(deliveries);
    let has_reached = |id: EventId| epochs.position_of(id) >= epochs.position_of(event);
    deliveries.positions.iter().all(|position| position.is_some_and(has_reached))
}

/// Whether the last state of a stream was `degraded`.
pub(crate) fn any_degraded(deliveries: &Deliveries) -> bool {
    deliveries.messages.iter().any(|messages| is_degraded(messages))
}

fn is_degraded(messages: &[Message]) -> bool {
    let last = messages.iter().rev().find_map(|message| match message {
        Message::Degraded => Some(true),
        Message::Recovered | Message::Greeting(_) => Some(false),
        Message::Began { .. } | Message::Position(_) | Message::Events(_) | Message::Reset { .. } => None,
    });
    last == Some(true)
}

impl<'a> Log<'a> {
    fn of(publications: &'a [Publication], deliveries: &'a Deliveries) -> Self {
        let epochs = Epochs::of(deliveries);
        let acknowledged = publications.iter().enumerate();
        let positions = acknowledged
            .filter_map(|(number, it)| it.acknowledged().map(|(_, id)| (epochs.position_of(id), number)));
        let mut acknowledged: Vec<_> = positions.collect();
        acknowledged.sort_unstable();
        Self { epochs, deliveries, publications, acknowledged }
    }

    fn position_of(&self, id: EventId) -> LogPosition {
        self.epochs.position_of(id)
    }
}

/// One subscriber's sequence, being read.
struct Reading<'a> {
    log: &'a Log<'a>,
    subscriber: usize,
    /// `None`: a subscriber without a grant, which reads `default`.
    patterns: Option<&'a Patterns>,
    /// By number.
    received: Vec<bool>,
    /// Index in the sequence.
    position: Option<LogPosition>,
    /// Behind this, all is expected.
    began: Option<LogPosition>,
    /// From behind the first up to the second.
    announced: Vec<(LogPosition, LogPosition)>,
}

impl<'a> Reading<'a> {
    fn of(log: &'a Log<'a>, subscriber: usize) -> Self {
        let received = vec![false; log.publications.len()];
        let (patterns, announced) = (None, Vec::new());
        Self { log, subscriber, patterns, received, position: None, began: None, announced }
    }

    fn judge(mut self, messages: &'a [Message], found: &mut Sequences) {
        if is_degraded(messages) {
            found.left_degraded.note(|| format!("subscriber {}", self.subscriber));
        }
        for message in messages {
            match message {
                Message::Began { patterns, after } => {
                    self.miss(self.position, found);
                    self.begin(patterns, after.map(|id| self.log.position_of(id)), found);
                }
                Message::Position(id) => self.passes(self.log.position_of(*id)),
                Message::Greeting(id) => {
                    // Later ones repeat where the client is, or would hide a gap.
                    if let Some(id) = id.filter(|_| self.position.is_none()) {
                        self.moves(self.log.position_of(id));
                    }
                }
                Message::Events(range) => range.clone().for_each(|index| self.receive(index, found)),
                Message::Reset { id, .. } => {
                    found.resets += 1;
                    let Some(to) = id.map(|id| self.log.position_of(id)) else { continue };
                    self.announced.extend(self.position.map(|from| (from, to)));
                    self.moves(to);
                }
                Message::Degraded | Message::Recovered => {}
            }
        }
        self.miss(None, found);
    }

    fn begin(&mut self, patterns: &'a Patterns, after: Option<LogPosition>, found: &mut Sequences) {
        found.begun += 1;
        found.others_ids += usize::from(after.is_some() && after != self.position);
        self.received.fill(false);
        self.announced.clear();
        (self.patterns, self.position, self.began) = (Some(patterns), after, after);
    }

    /// The topic by which an event is for this subscriber.
    fn first_match<'b>(&self, publication: &'b Publication) -> Option<&'b str> {
        publication.topics().find(|topic| match self.patterns {
            None => *topic == DEFAULT,
            Some(patterns) => patterns.iter().any(|pattern| matches(pattern, topic)),
        })
    }

    /// The next event has to come after this one.
    fn passes(&mut self, to: LogPosition) {
        self.began.get_or_insert(to);
        self.position = self.position.max(Some(to));
    }

    fn moves(&mut self, to: LogPosition) {
        self.began.get_or_insert(to);
        self.position = Some(to);
    }

    fn receive(&mut self, index: usize, found: &mut Sequences) {
        let event = &self.log.deliveries.events[index];
        let (own, subscriber, id) = (self.log.position_of(event.id), self.subscriber, event.id);
        let publication = event.number.and_then(|number| self.log.publications.get(number));
        let acknowledged = publication.and_then(Publication::acknowledged).map(|(_, id)| id);
        if let Some(other) = acknowledged.filter(|acknowledged| *acknowledged != id) {
            found.renamed.note(|| format!("subscriber {subscriber} got {id}, acknowledged as {other}"));
        }
        if let Some(publication) = publication {
            let shown = event.topic.as_deref().unwrap_or(DEFAULT);
            let of = || publication.topics().collect::<Vec<_>>().join(" ");
            match self.first_match(publication) {
                None => found.foreign.note(|| format!("subscriber {subscriber} got {id} of {}", of())),
                Some(first) if first != shown => found
                    .mislabelled
                    .note(|| format!("subscriber {subscriber} got {id} of {} as of {shown}", of())),
                Some(_) => {}
            }
        }
        let number = event.number.filter(|_| publication.is_some());
        let known = number.filter(|number| std::mem::replace(&mut self.received[*number], true));
        if let Some(number) = known {
            found.twice.note(|| format!("subscriber {subscriber} got number {number} again, as {id}"));
        } else if let Some((_, millis, seq)) = self.position.filter(|position| own <= *position) {
            found.disordered.note(|| format!("subscriber {subscriber} got {id} after one at {millis}-{seq}"));
        }
        if self.position.is_none() {
            // A stream that did not say where it begins begins with its first event.
            self.began = Some(before(own));
        }
        self.position = self.position.max(Some(own));
    }

    /// Notes what it did not get up to this event, or at all.
    fn miss(&self, until: Option<LogPosition>, found: &mut Sequences) {
        let Some(began) = self.began else { return };
        let acknowledged = &self.log.acknowledged;
        let first = acknowledged.partition_point(|(position, _)| *position <= began);
        let due =
            acknowledged[first..].iter().take_while(|(position, _)| until.is_none_or(|it| *position <= it));
        for (position, number) in due {
            let publication = &self.log.publications[*number];
            let is_announced = self.announced.iter().any(|(from, to)| from < position && position <= to);
            let is_missing = !self.received[*number] && self.first_match(publication).is_some();
            if is_missing && is_announced {
                found.announced += 1;
            } else if is_missing {
                let subscriber = self.subscriber;
                found.lost.note(|| {
                    let last = publication.attempts.last().map(|attempt| attempt.answered);
                    format!("subscriber {subscriber} did not get number {number}, answered at {last:?}")
                });
            }
            found.judged += usize::from(self.patterns.is_some() && !is_announced);
        }
    }
}

fn before((epoch, millis, seq): LogPosition) -> LogPosition {
    match seq.checked_sub(1) {
        Some(seq) => (epoch, millis, seq),
        None => (epoch, millis.saturating_sub(1), u64::MAX),
    }
}
