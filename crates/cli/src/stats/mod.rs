//! `vx11-operator stats`: the state of the instances, once or repeatedly.
//!
//! Each `answer` is of one instance. Behind a load balancer they answer in turn, so a [`look`] asks
//! until all have answered. `cluster` combines the answers, `picture` is its state at one moment,
//! `table` its text. `watch` repeats this on a `screen`.

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

pub(super) use self::answer::Answer;
use self::cluster::{Cluster, FORBEARANCE};
use self::screen::Screen;
use self::table::{Line, Tone, lines};
use self::watch::End;
use super::arguments::StatsArguments;
use super::failure::Failure;
use super::session::Session;
use super::stdout::{self, Stdout};
use super::{notice, stop_signal, unanswered, unauthorized, unwritable};

const NO_ANSWER: &str = "no answer";
/// Deadline of a look. nginx waits two seconds for an instance that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the state of the cluster, once or repeatedly.
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
        // Texts and numbers can always be serialised.
        let object = serde_json::to_string(&picture).unwrap_or_default();
        screen.print(&[Line::new(Tone::Plain, &object)]).await
    } else {
        screen.print(&lines(&picture, None)).await
    };
    printed.map_or_else(|error| unwritable(&error), |()| ExitCode::SUCCESS)
}

async fn watch(session: &Session, every: Duration, mut screen: Screen) -> io::Result<ExitCode> {
    let stop = stop_signal()?;
    let end = tokio::select! {
        end = watch::watch(session, every, &mut screen) => end,
        () = stdout::closed() => End::Told,
        () = stop => End::Told,
    };
    // Restore the terminal first, then print.
    screen.leave().await;
    Ok(match end {
        End::Told => ExitCode::SUCCESS,
        End::Unauthorized(failure) => unauthorized(session, &failure),
        End::WrongUrl(failure) => unanswered(NO_ANSWER, session, &failure),
        End::Unwritable(error) => unwritable(&error),
    })
}

/// Asks until every known instance has answered, and one of them twice: while Redis is unavailable
/// each knows only itself. Bounded, because not every URL leads to all instances.
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
