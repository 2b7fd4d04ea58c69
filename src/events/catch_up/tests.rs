//! Catch-up from a log whose answers a test has prepared.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::events::frame::EventType;
use crate::events::hub::{HubDeps, LogPlace, SharedLog};
use crate::events::id::Epoch;
use crate::events::log::LogReader;
use crate::events::registry::Opener;
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
    let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
    let log = LogPlace::Shared(SharedLog(Arc::clone(&script) as Arc<dyn LogReader>));
    let hub = Hub::new(HubDeps::for_tests(log));
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
    for (is_available, changes) in [(true, false), (false, true), (false, false), (true, true)] {
        stage.hub.set_log_available(is_available);
        assert_eq!(news.has_changed().unwrap(), changes);
        assert_eq!(stage.hub.is_log_available(), is_available);
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
