//! `vx11-operator stats`: how the instances are, once or again and again.
//!
//! Each `answer` is one instance's, and behind a balancer they answer in turn; a [`look`] asks
//! until all have. `cluster` keeps what they said, a `picture` is what is known of it at one
//! moment, a `table` its text. `watch` looks for as long as anyone wants, on a `screen`.

mod answer;
mod cluster;
mod picture;
mod screen;
mod table;
mod watch;

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;
use vx11_operator::lifecycle::StopSignals;

pub(super) use self::answer::Answer;
use self::cluster::{Cluster, FORBEARANCE};
use self::screen::Screen;
use self::table::{Line, Tone, lines};
use self::watch::End;
use super::arguments::StatsArguments;
use super::failure::Failure;
use super::session::Session;
use super::stdout::{self, Stdout};
use super::{notice, unanswered, unauthorized, unwritable};

const NO_ANSWER: &str = "no answer";
/// For all answers of a look. nginx gives an instance that hangs two seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints what is known of the cluster, once or until it is told to end.
pub(super) async fn run(
    session: &Session,
    arguments: &StatsArguments,
    environment: &HashMap<String, String>,
) -> io::Result<ExitCode> {
    let is_set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    let is_terminal = io::stdout().is_terminal() && environment.get("TERM").is_none_or(|term| term != "dumb");
    let screen = Screen::new(Stdout::open(), is_terminal, is_terminal && !is_set("NO_COLOR"));
    match arguments.watch {
        Some(seconds) => watch(session, Duration::from_secs(seconds), screen).await,
        None => Ok(once(session, arguments.json, screen).await),
    }
}

async fn once(session: &Session, as_json: bool, mut screen: Screen) -> ExitCode {
    let mut cluster = Cluster::default();
    match look(session, &mut cluster).await {
        Ok(()) => {}
        Err(failure) if failure.is_unauthorized() => return unauthorized(session, &failure),
        Err(failure) if cluster.heard_at().is_none() => {
            return unanswered(NO_ANSWER, session, &failure);
        }
        Err(failure) => notice(format_args!("not every instance has answered: {failure}")),
    }
    let picture = cluster.picture(Instant::now());
    let printed = if as_json {
        // What is made of texts and numbers can always be written.
        let object = serde_json::to_string(&picture).unwrap_or_default();
        screen.print(&[Line::new(Tone::Plain, &object)]).await
    } else {
        screen.print(&lines(&picture, None)).await
    };
    printed.map_or_else(|error| unwritable(&error), |()| ExitCode::SUCCESS)
}

async fn watch(session: &Session, every: Duration, mut screen: Screen) -> io::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let end = tokio::select! {
        end = watch::watch(session, every, &mut screen) => end,
        () = stdout::closed() => End::Told,
        _ = signals.next() => End::Told,
    };
    // First: what is said now is for the terminal as it was.
    screen.leave().await;
    Ok(match end {
        End::Told => ExitCode::SUCCESS,
        End::Unauthorized(failure) => unauthorized(session, &failure),
        End::WrongUrl(failure) => unanswered(NO_ANSWER, session, &failure),
        End::Unwritable(error) => unwritable(&error),
    })
}

/// Asks until the instances have answered in turn: each that is heard of, and one of them again,
/// for while Redis is away they hear of nobody else. Not without end: not every URL leads to all,
/// and others may ask, too.
async fn look(session: &Session, cluster: &mut Cluster) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut answered = HashSet::new();
    let mut asked = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = session.statistics(left).await?;
        let is_first = answered.insert(answer.instance.instance_id.clone());
        cluster.heard(answer, Instant::now());
        asked += 1;
        let have_all = cluster.present().all(|id| answered.contains(id));
        if (have_all && !is_first) || asked >= cluster.present().count() + FORBEARANCE {
            return Ok(());
        }
    }
}
