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
                Resume::Never(reason) => return reset(hub, reason),
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
fn reset(hub: &Hub, reason: ResetReason) -> Next {
    hub.newest().map_or(Next::Wait(None), |(cursor, id)| {
        hub.settings().metrics.events.resumed(ResumedFrom::Nowhere);
        Next::Reset(frame::reset(id, reason.as_str()), cursor)
    })
}

#[cfg(test)]
mod tests;
