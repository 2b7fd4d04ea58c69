//! Catch-up: serves a stream from the log itself if it opened at a position outside this instance's
//! ring.
//!
//! The position is before the ring, or after the head (another instance was faster), or the log was
//! not known yet when the stream opened. The stream reads the log page by page until the ring
//! contains its position, and then reads the ring for the rest of its life. If the log no longer
//! holds the next event, the client gets `reset`.
//!
//! A stream that reads the ring and is overtaken by it does not come back here: it ends with
//! `reconnect` (`slow`). Without Redis the ring is the log, and nothing is in catch-up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::event::Event;
use super::frame;
use super::hub::{Begin, Hub, ResetReason, Resume};
use super::id::{EventId, Position};
use super::log::{EventPage, LogReader, Page, Unreachable};
use super::registry::Place;
use super::ring::Cursor;
use crate::metrics::ResumedFrom;
use crate::topic::Patterns;

/// Time after which a position after the head counts as wrong (`reset` with reason `future`).
/// Another instance may have delivered an event that this one has not read yet. The time does not
/// run while the log is unavailable or this instance lags.
const AHEAD_FOR: Duration = Duration::from_secs(2);
/// Pause before the log is asked again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// State of a stream in catch-up.
pub(super) struct CatchUp {
    /// Last event that the client has received. `None` if the client named none and the log was not
    /// known when it connected: it gets `reset` (`unknown`) when the log is known.
    seen: Option<EventId>,
    /// Number of earlier events to begin with, until their position is known.
    earlier: Option<usize>,
    page: VecDeque<Event>,
    /// Position reached at the end of the page.
    page_ends: Option<Position>,
    /// Reservation for the bytes of the page.
    held: Option<OwnedSemaphorePermit>,
    question: Question,
    /// Time at which a position after the head counts as wrong.
    patience: Option<Instant>,
    /// Earliest time of the next request.
    not_before: Option<Instant>,
    /// Changes when the head moves or the availability of the log changes.
    head: watch::Receiver<()>,
}

/// Request to the log. It is kept while the stream does something else, such as sending a
/// heartbeat: a new request would wait at the end of the queue.
enum Question {
    /// No request is pending.
    No,
    Asked(BoxFuture<'static, Result<Answer, Unreachable>>),
    Answered(Result<Answer, Unreachable>),
}

/// Answer of the log.
enum Answer {
    Page(Page),
    /// Position before the earlier events to begin with.
    Beginning(EventId),
}

/// Next step of a stream in catch-up.
pub(super) enum Next {
    /// Send an event from the log.
    Event(Bytes),
    /// Send `reset` and continue at this cursor in the ring.
    Reset(Bytes, Cursor),
    /// Continue in the ring at this cursor.
    InRing(Cursor),
    /// Wait for news, for the page, or until this time.
    Wait(Option<Instant>),
}

impl CatchUp {
    /// Begins after the last event that the client has received.
    pub(super) fn after(hub: &Hub, seen: Option<EventId>) -> Self {
        Self {
            seen,
            earlier: None,
            page: VecDeque::new(),
            page_ends: None,
            held: None,
            question: Question::No,
            patience: None,
            not_before: None,
            head: hub.watch_head(),
        }
    }

    /// Begins with the last `number` events that match the stream's topics.
    pub(super) fn before_last(hub: &Hub, number: usize) -> Self {
        Self { earlier: Some(number), ..Self::after(hub, None) }
    }

    /// Waits for the answer to a pending request. If none is pending, waits until the head moves or
    /// the availability of the log changes.
    ///
    /// Cancel safe: the request and its answer stay in `self`.
    pub(super) async fn progress(&mut self) {
        if let Question::Asked(answer) = &mut self.question {
            let answer = answer.await;
            self.question = Question::Answered(answer);
        } else if self.head.changed().await.is_err() {
            // The hub is gone, and the stream with it.
            std::future::pending::<()>().await;
        }
    }

    /// The next step. Does not block.
    pub(super) fn next(&mut self, hub: &Hub, patterns: &Patterns, place: &Place) -> Next {
        self.head.mark_unchanged();
        if let Some(number) = self.earlier
            && let Some(next) = self.find_beginning(hub, patterns, place, number)
        {
            return next;
        }
        loop {
            let Some(seen) = &mut self.seen else {
                return reset(hub, ResetReason::Unknown);
            };
            if let Some(event) = self.page.pop_front() {
                seen.position = event.position();
                // The log has filtered already; a grant holds whatever it answers.
                let Some(frame) = event.frame_for(patterns) else { continue };
                return Next::Event(frame);
            }
            self.held = None;
            seen.position = self.page_ends.take().unwrap_or(seen.position);
            let seen = *seen;
            match hub.resume(seen) {
                Resume::At(cursor) => {
                    hub.settings().metrics.events.resumed(ResumedFrom::Log);
                    return Next::InRing(cursor);
                }
                Resume::Never(gap) => return reset(hub, gap),
                Resume::NotYet => return Next::Wait(None),
                Resume::Ahead => return self.wait_for_reader(hub),
                Resume::Earlier => {
                    if let Some(next) = self.turn_page(hub, patterns, place, seen) {
                        return next;
                    }
                }
            }
        }
    }

    fn wait_for_reader(&mut self, hub: &Hub) -> Next {
        if !hub.is_log_available() {
            self.patience = None;
            return Next::Wait(None);
        }
        let now = Instant::now();
        // A lagging instance is still reading what others have delivered already.
        let known = self.patience.filter(|_| !hub.is_lagging());
        let patience = *self.patience.insert(known.unwrap_or(now + AHEAD_FOR));
        if now >= patience { reset(hub, ResetReason::Future) } else { Next::Wait(Some(patience)) }
    }

    /// Finds the position before the earlier events to begin with. Returns the next step, or `None`
    /// if the position is known.
    fn find_beginning(
        &mut self,
        hub: &Hub,
        patterns: &Patterns,
        place: &Place,
        number: usize,
    ) -> Option<Next> {
        let (missing, horizon) = match hub.begin_before_last(patterns, number) {
            Begin::At(cursor) => {
                hub.settings().metrics.events.resumed(ResumedFrom::Ring);
                return Some(Next::InRing(cursor));
            }
            Begin::Earlier { missing, horizon } => (missing, horizon),
            Begin::NotYet => return Some(Next::Wait(None)),
        };
        match self.answer() {
            Some(Ok(Answer::Beginning(id))) => {
                (self.seen, self.earlier) = (Some(id), None);
                None
            }
            Some(_) => Some(self.ask_later()),
            None => Some(self.ask(hub, |log| {
                let (patterns, token) = (patterns.clone(), place.token());
                async move {
                    let position = log.before_last(horizon, &patterns, missing, token).await?;
                    Ok(Answer::Beginning(EventId { epoch: horizon.epoch, position }))
                }
                .boxed()
            })),
        }
    }

    /// Takes the next page or requests it. Returns the next step, or `None` if a page was taken.
    fn turn_page(&mut self, hub: &Hub, patterns: &Patterns, place: &Place, seen: EventId) -> Option<Next> {
        match self.answer() {
            Some(Ok(Answer::Page(Page::Expired))) => Some(reset(hub, ResetReason::Expired)),
            Some(Ok(Answer::Page(Page::Events(EventPage { events, read_to: Some(read_to), held })))) => {
                self.page = events.into();
                self.page_ends = Some(read_to);
                self.held = held;
                None
            }
            Some(_) => Some(self.ask_later()),
            None => Some(self.ask(hub, |log| {
                let (patterns, token) = (patterns.clone(), place.token());
                async move { log.after(seen, &patterns, token).await.map(Answer::Page) }.boxed()
            })),
        }
    }

    /// Takes the answer to a request that has come.
    fn answer(&mut self) -> Option<Result<Answer, Unreachable>> {
        match std::mem::replace(&mut self.question, Question::No) {
            Question::Answered(answer) => Some(answer),
            pending => {
                self.question = pending;
                None
            }
        }
    }

    /// Sends a request, unless one is pending or it is too early.
    fn ask(
        &mut self,
        hub: &Hub,
        request: impl FnOnce(Arc<dyn LogReader>) -> BoxFuture<'static, Result<Answer, Unreachable>>,
    ) -> Next {
        if matches!(self.question, Question::Asked(_)) {
            return Next::Wait(None);
        }
        if let Some(not_before) = self.not_before.filter(|moment| *moment > Instant::now()) {
            return Next::Wait(Some(not_before));
        }
        if let Some(reader) = hub.reader().filter(|_| hub.is_log_available()) {
            self.question = Question::Asked(request(reader));
        }
        Next::Wait(None)
    }

    /// Waits before the next request.
    fn ask_later(&mut self) -> Next {
        self.not_before = Some(Instant::now() + RETRY);
        Next::Wait(self.not_before)
    }
}

/// `reset` at the head, or a wait if the log is not known yet.
fn reset(hub: &Hub, gap: ResetReason) -> Next {
    hub.newest().map_or(Next::Wait(None), |(cursor, id)| {
        hub.settings().metrics.events.resumed(ResumedFrom::Nowhere);
        Next::Reset(frame::reset(id, gap.as_str()), cursor)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::clock::{Jitter, SystemClock};
    use crate::events::frame::EventType;
    use crate::events::hub::{HubDeps, LogPlace, SharedLog, StreamSettings};
    use crate::events::id::Epoch;
    use crate::events::log::LogReader;
    use crate::events::registry::{Opener, StreamLimits};
    use crate::events::ring::RingLimits;
    use crate::metrics::Metrics;
    use crate::principal::PrincipalId;
    use crate::token::TokenId;
    use crate::topic::Topics;

    const EPOCH: Epoch = Epoch(1);

    const fn at(millis: u64) -> Position {
        Position { millis, seq: 0 }
    }

    fn event(millis: u64) -> Event {
        let id = EventId { epoch: EPOCH, position: at(millis) };
        Event::new(id, &EventType::default(), &millis.to_string(), Topics::default(), None)
    }

    /// Answers of a log that a test thought of, the first one first, and after what it was asked
    /// for.
    #[derive(Default)]
    struct Script {
        answers: Mutex<VecDeque<Result<Page, Unreachable>>>,
        asked: Mutex<Vec<Position>>,
    }

    #[async_trait]
    impl LogReader for Script {
        async fn after(
            &self,
            seen: EventId,
            _patterns: &Patterns,
            _token: Option<TokenId>,
        ) -> Result<Page, Unreachable> {
            self.asked.lock().push(seen.position);
            self.answers.lock().pop_front().unwrap_or(Err(Unreachable))
        }

        async fn before_last(
            &self,
            horizon: EventId,
            _patterns: &Patterns,
            number: usize,
            _token: Option<TokenId>,
        ) -> Result<Position, Unreachable> {
            // Each millisecond up to the horizon has an event.
            Ok(at(horizon.position.millis - number as u64))
        }
    }

    struct Stage {
        hub: Hub,
        place: Place,
        script: Arc<Script>,
    }

    /// A hub whose ring begins behind 10 and has 11 and 12.
    fn stage(answers: impl IntoIterator<Item = Result<Page, Unreachable>>) -> Stage {
        let script =
            Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
        let hub = Hub::new(HubDeps {
            instance_id: "1".to_owned(),
            log: LogPlace::Shared(SharedLog(Arc::clone(&script) as Arc<dyn LogReader>)),
            ring: RingLimits { entries: 10, bytes: 10_000 },
            streams: StreamSettings {
                limits: StreamLimits { all: 1, per_token: None, per_principal: None, per_subject: None },
                heartbeat: Duration::from_secs(15),
                coalesce: Duration::ZERO,
                max_age: Duration::from_mins(15),
                retry: Duration::from_secs(3),
            },
            clock: Arc::new(SystemClock),
            jitter: Arc::new(Jitter::seeded(1)),
            metrics: Arc::new(Metrics::new().unwrap()),
            stream_events: None,
        });
        hub.restart(EPOCH, ResetReason::Epoch, at(10), &[event(11), event(12)], at(12));
        hub.set_log_available(true);
        let principal = PrincipalId::parse("operator").unwrap();
        let opener = Opener {
            principal,
            token: None,
            subject: None,
            patterns: Patterns::default(),
            issued_at: None,
            until: None,
        };
        Stage { place: hub.enter(opener).unwrap(), hub, script }
    }

    impl Stage {
        async fn next(&self, catch_up: &mut CatchUp) -> Next {
            loop {
                match catch_up.next(&self.hub, &Patterns::default(), &self.place) {
                    Next::Wait(_) if matches!(catch_up.question, Question::Asked(_)) => {
                        catch_up.progress().await;
                    }
                    next => return next,
                }
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is one of the answers of a log that may be unavailable")]
    fn page(millis: &[u64], read_to: u64) -> Result<Page, Unreachable> {
        let events = millis.iter().copied().map(event).collect();
        Ok(Page::Events(EventPage { events, read_to: Some(at(read_to)), held: None }))
    }

    impl Stage {
        /// A client that has received the events up to here.
        fn after(&self, millis: u64) -> CatchUp {
            CatchUp::after(&self.hub, Some(EventId { epoch: EPOCH, position: at(millis) }))
        }
    }

    fn is_event(next: &Next, millis: u64) -> bool {
        matches!(next, Next::Event(frame) if *frame == event(millis).frame_for(&Patterns::default()).unwrap())
    }

    fn is_reset(next: &Next, why: &str) -> bool {
        matches!(next, Next::Reset(frame, 2) if String::from_utf8_lossy(frame).contains(&format!("\"{why}\"")))
    }

    #[tokio::test]
    async fn pages_of_the_log_come_before_the_ring_which_goes_on_where_the_last_one_ends() {
        // The second page ends after its last event, at an entry that is no event.
        let stage = stage([page(&[6, 7], 7), page(&[9], 10)]);
        let mut catch_up = stage.after(5);
        for millis in [6, 7, 9] {
            assert!(is_event(&stage.next(&mut catch_up).await, millis), "{millis}");
        }
        assert!(matches!(stage.next(&mut catch_up).await, Next::InRing(0)));
        assert_eq!(*stage.script.asked.lock(), [at(5), at(7)]);
    }

    #[tokio::test]
    async fn what_the_log_has_no_longer_is_announced() {
        let stage = stage([Ok(Page::Expired)]);
        assert!(is_reset(&stage.next(&mut stage.after(5)).await, "expired"));
    }

    #[tokio::test]
    async fn an_id_of_another_log_epoch_says_nothing_about_this_one() {
        let stage = stage([]);
        let other = EventId { epoch: Epoch(2), position: at(11) };
        assert!(is_reset(&stage.next(&mut CatchUp::after(&stage.hub, Some(other))).await, "epoch"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_does_not_answer_is_asked_again_a_little_later_and_nothing_is_skipped() {
        let stage = stage([Err(Unreachable), page(&[6], 10)]);
        let mut catch_up = stage.after(5);
        for _ in 0..2 {
            assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(Some(_))));
        }
        assert_eq!(stage.script.asked.lock().len(), 1, "not before it is time");
        tokio::time::advance(RETRY).await;
        assert!(is_event(&stage.next(&mut catch_up).await, 6));
        assert_eq!(*stage.script.asked.lock(), [at(5), at(5)]);
    }

    #[tokio::test]
    async fn the_room_that_a_page_takes_is_given_back_with_its_last_event() {
        let room = Arc::new(Semaphore::new(1));
        let held = Arc::clone(&room).try_acquire_owned().ok();
        let events = EventPage { events: vec![event(6), event(7)], read_to: Some(at(10)), held };
        let stage = stage([Ok(Page::Events(events))]);
        let mut catch_up = stage.after(5);
        for millis in [6, 7] {
            assert!(is_event(&stage.next(&mut catch_up).await, millis));
            assert_eq!(room.available_permits(), 0);
        }
        assert!(matches!(stage.next(&mut catch_up).await, Next::InRing(0)));
        assert_eq!(room.available_permits(), 1);
    }

    #[tokio::test]
    async fn an_unavailable_log_is_not_asked() {
        let stage = stage([]);
        stage.hub.set_log_available(false);
        assert!(matches!(stage.next(&mut stage.after(5)).await, Next::Wait(None)));
        assert!(stage.script.asked.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_ahead_gets_a_reset_after_a_wait() {
        let stage = stage([]);
        let mut catch_up = stage.after(13);
        assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(Some(_))));
        // Time in which the log cannot be reached does not count.
        stage.hub.set_log_available(false);
        tokio::time::advance(AHEAD_FOR).await;
        assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(None)));
        stage.hub.set_log_available(true);
        assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(Some(_))));
        tokio::time::advance(AHEAD_FOR).await;
        assert!(is_reset(&stage.next(&mut catch_up).await, "future"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_ahead_is_waited_for_as_long_as_the_instance_lags() {
        let stage = stage([]);
        let mut catch_up = stage.after(20);
        stage.hub.lags(true);
        for _ in 0..3 {
            assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(Some(_))));
            tokio::time::advance(AHEAD_FOR).await;
        }
        assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(Some(_))));
        stage.hub.lags(false);
        assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(Some(_))));
        tokio::time::advance(AHEAD_FOR).await;
        assert!(matches!(stage.next(&mut catch_up).await, Next::Reset(..)));
    }

    #[tokio::test]
    async fn streams_in_catch_up_are_woken_when_the_head_moves_without_an_event() {
        let stage = stage([]);
        let news = stage.hub.watch_head();
        stage.hub.extend(&[], at(12));
        assert!(!news.has_changed().unwrap(), "it had read as far before");
        stage.hub.extend(&[], at(13));
        assert!(news.has_changed().unwrap());
        assert!(matches!(stage.next(&mut stage.after(13)).await, Next::InRing(2)));
    }

    /// The tail of the log and what is read after it may overlap.
    #[tokio::test]
    async fn an_event_that_is_read_twice_is_in_the_ring_once() {
        let stage = stage([]);
        stage.hub.extend(&[event(11), event(12), event(13)], at(13));
        assert_eq!(stage.hub.ring_end(), 3);
        assert_eq!(stage.hub.log_head(), Some(EventId { epoch: EPOCH, position: at(13) }));
        assert!(matches!(stage.next(&mut stage.after(12)).await, Next::InRing(2)));
    }

    #[tokio::test]
    async fn streams_are_woken_by_each_change_of_the_availability_of_the_log() {
        let stage = stage([]);
        let mut news = stage.hub.watch_head();
        for (is_in_reach, changes) in [(true, false), (false, true), (false, false), (true, true)] {
            stage.hub.set_log_available(is_in_reach);
            assert_eq!(news.has_changed().unwrap(), changes);
            assert_eq!(stage.hub.is_log_available(), is_in_reach);
            news.mark_unchanged();
        }
    }

    #[tokio::test]
    async fn a_client_that_is_ahead_goes_on_once_the_instance_has_read_as_far() {
        let stage = stage([]);
        let mut catch_up = stage.after(13);
        assert!(matches!(stage.next(&mut catch_up).await, Next::Wait(Some(_))));
        stage.hub.extend(&[event(13), event(14)], at(14));
        assert!(matches!(stage.next(&mut catch_up).await, Next::InRing(3)));
    }

    #[tokio::test]
    async fn a_stream_gets_no_event_of_other_topics_whatever_the_log_answers() {
        let id = EventId { epoch: EPOCH, position: at(6) };
        let foreign = Event::new(id, &EventType::default(), "6", Topics::new(["other"]).unwrap(), None);
        let page = EventPage { events: vec![foreign, event(7)], read_to: Some(at(10)), held: None };
        let stage = stage([Ok(Page::Events(page))]);
        let mut catch_up = stage.after(5);
        assert!(is_event(&stage.next(&mut catch_up).await, 7));
        assert!(matches!(stage.next(&mut catch_up).await, Next::InRing(0)));
    }

    #[tokio::test]
    async fn a_stream_that_begins_with_earlier_events_finds_them_in_the_ring_or_the_log() {
        let stage = stage([page(&[8, 9], 10)]);
        let mut in_ring = CatchUp::before_last(&stage.hub, 2);
        assert!(matches!(stage.next(&mut in_ring).await, Next::InRing(0)));
        // The ring has two of five.
        let mut in_log = CatchUp::before_last(&stage.hub, 5);
        for millis in [8, 9] {
            assert!(is_event(&stage.next(&mut in_log).await, millis), "{millis}");
        }
        assert!(matches!(stage.next(&mut in_log).await, Next::InRing(0)));
        assert_eq!(*stage.script.asked.lock(), [at(7)]);
    }
}
