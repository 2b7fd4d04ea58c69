//! `stats --watch`: shows the state repeatedly, with changes highlighted. While the service does
//! not answer, the last picture stays, with its age.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::cluster::Cluster;
use super::look::look;
use super::picture::Picture;
use super::screen::Screen;
use super::table::{Line, Tone, lines};
use crate::backoff::LONGEST_WAIT;
use crate::failure::Failure;
use crate::session::Session;

/// Reason for the end.
#[derive(Debug)]
pub(super) enum End {
    /// The service refuses the principal; repeating would look like guessing.
    Refused(Failure),
    /// There was no answer yet, and the URL is not that of the service.
    WrongUrl(Failure),
    /// A picture could not be written.
    Unwritable(io::Error),
}

/// A picture, its time, and the one before it.
struct Taken {
    picture: Picture,
    at: Instant,
    before: Picture,
}

/// Repeats looks until a reason to end.
pub(super) async fn watch(session: &Session, every: Duration, screen: &mut Screen) -> End {
    let mut cluster = Cluster::default();
    let mut taken: Option<Taken> = None;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        let failure = look(session, &mut cluster).await.err();
        let failure = match failure {
            Some(failure) if failure.refuses_principal() => return End::Refused(failure),
            Some(failure) if failure.is_wrong_url() && cluster.answered_at().is_none() => {
                return End::WrongUrl(failure);
            }
            failure => failure,
        };
        if let Some(at) = cluster.answered_at().filter(|at| *at >= begun) {
            let picture = cluster.picture(at);
            let before = taken.map_or_else(|| picture.clone(), |taken| taken.picture);
            taken = Some(Taken { picture, at, before });
        }
        if let Err(error) = screen.show(&shown(taken.as_ref(), failure.as_ref(), begun)).await {
            return End::Unwritable(error);
        }
        // Not before the time that the service asks for.
        if let Some(wait) = failure.and_then(|failure| failure.retry_after()) {
            sleep(wait.min(LONGEST_WAIT)).await;
        }
    }
}

/// The problem, if there is one, and the picture below it.
fn shown(taken: Option<&Taken>, failure: Option<&Failure>, begun: Instant) -> Vec<Line> {
    let trouble = failure.map(|failure| match taken {
        None => format!("no answer yet: {failure}"),
        Some(taken) if taken.at >= begun => format!("not every instance has answered: {failure}"),
        Some(taken) => {
            format!("no answer for {} s, as old is this picture: {failure}", taken.at.elapsed().as_secs())
        }
    });
    let mut shown: Vec<_> = trouble.map(|words| Line::new(Tone::Warning, &words)).into_iter().collect();
    shown.extend(taken.into_iter().flat_map(|taken| lines(&taken.picture, Some(&taken.before))));
    shown
}
