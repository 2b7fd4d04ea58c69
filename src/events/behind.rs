//! A stream whose client has seen less than the ring holds, or more than this instance has read, or that began before the
//! log was known. It reads the log itself, page by page, until the ring goes on from where it is.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::entry::Entry;
use super::frame;
use super::history::Page;
use super::hub::{Gap, Hub, Resume};
use super::id::{EventId, Position};
use super::registry::Place;
use super::ring::Cursor;
use crate::metrics::ResumedFrom;

/// Another instance may have delivered an event that this one has yet to read; not longer than this, while the log can be
/// reached.
const AHEAD_FOR: Duration = Duration::from_secs(2);
/// After the log could not be asked.
const RETRY: Duration = Duration::from_millis(500);

/// Where such a stream stands.
pub(super) struct Behind {
    /// What the client has seen; nothing, where it did not say and the log was not known when it came.
    seen: Option<EventId>,
    page: VecDeque<Entry>,
    /// What the client has seen when it has got the page.
    page_ends: Option<Position>,
    /// When a client that is ahead is taken to be wrong.
    patience: Option<Instant>,
    /// When to ask the log again.
    not_before: Option<Instant>,
}

/// What comes next.
pub(super) enum Next {
    /// An event, from the log.
    Event(Bytes),
    /// What the client missed cannot be told; it goes on at this place in the ring.
    Reset(Bytes, Cursor),
    /// The ring goes on from here.
    InRing(Cursor),
    /// Nothing, before there is news, or this moment.
    Wait(Option<Instant>),
}

impl Behind {
    pub(super) const fn after(seen: Option<EventId>) -> Self {
        Self { seen, page: VecDeque::new(), page_ends: None, patience: None, not_before: None }
    }

    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self, hub: &Hub, place: &Place) -> Next {
        loop {
            let Some(seen) = &mut self.seen else {
                return reset(hub, Gap::Unknown);
            };
            if let Some(entry) = self.page.pop_front() {
                seen.position = entry.position;
                return Next::Event(entry.frame(seen.epoch));
            }
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
                    if let Some(next) = self.turn_page(hub, place, seen).await {
                        return next;
                    }
                }
            }
        }
    }

    fn wait_for_reader(&mut self, hub: &Hub) -> Next {
        if !hub.is_log_in_reach() {
            self.patience = None;
            return Next::Wait(None);
        }
        let now = Instant::now();
        let patience = *self.patience.get_or_insert(now + AHEAD_FOR);
        if now >= patience { reset(hub, Gap::Future) } else { Next::Wait(Some(patience)) }
    }

    /// Reads the next page; otherwise says what to do instead.
    async fn turn_page(&mut self, hub: &Hub, place: &Place, seen: EventId) -> Option<Next> {
        let now = Instant::now();
        if let Some(not_before) = self.not_before.filter(|moment| *moment > now) {
            return Some(Next::Wait(Some(not_before)));
        }
        let Some(history) = hub.history().filter(|_| hub.is_log_in_reach()) else {
            return Some(Next::Wait(None));
        };
        let page = tokio::select! {
            page = history.after(seen.position) => page,
            _ = place.ended() => return Some(Next::Wait(None)),
        };
        match page {
            Ok(Page::Expired) => Some(reset(hub, Gap::Expired)),
            Ok(Page::Events(entries, Some(read_to))) => {
                self.page = entries.into();
                self.page_ends = Some(read_to);
                None
            }
            Ok(Page::Events(_, None)) | Err(_) => {
                self.not_before = Some(now + RETRY);
                Some(Next::Wait(self.not_before))
            }
        }
    }
}

/// Not before the log is known.
fn reset(hub: &Hub, gap: Gap) -> Next {
    hub.newest().map_or(Next::Wait(None), |(cursor, id)| {
        hub.settings().metrics.events.resumed(ResumedFrom::Nowhere);
        Next::Reset(frame::reset(id, gap.as_str()), cursor)
    })
}
