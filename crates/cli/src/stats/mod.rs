//! `vx11-operator stats`: the state of the instances, once or repeatedly.
//!
//! Cache-stats are of one instance. Behind a load balancer the instances answer in turn, so a
//! `look` asks until all have answered. `cluster` combines the answers, `picture` is its state at
//! one moment, `table` its text. `watch` repeats this on a `screen`.

mod cluster;
mod look;
mod picture;
mod screen;
mod table;
mod watch;

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

use self::cluster::Cluster;
use self::look::look;
use self::screen::Screen;
use self::table::{Line, Tone, lines};
use self::watch::{End, watch};
use crate::arguments::StatsArguments;
use crate::report::{notice, refused_principal, unanswered, unwritable};
use crate::session::Session;
use crate::signals::stop_signal;
use crate::stdout::{self, Stdout};

const NO_ANSWER: &str = "no answer";

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
        Some(seconds) => repeatedly(session, Duration::from_secs(seconds), screen).await,
        None => Ok(once(session, arguments.json, screen).await),
    }
}

async fn once(session: &Session, as_json: bool, mut screen: Screen) -> ExitCode {
    let mut cluster = Cluster::default();
    match look(session, &mut cluster).await {
        Ok(()) => {}
        Err(failure) if failure.refuses_principal() => return refused_principal(session.url(), &failure),
        Err(failure) if cluster.answered_at().is_none() => {
            return unanswered(NO_ANSWER, session.url(), &failure);
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

async fn repeatedly(session: &Session, every: Duration, mut screen: Screen) -> io::Result<ExitCode> {
    let stop = stop_signal()?;
    let end = tokio::select! {
        end = watch(session, every, &mut screen) => Some(end),
        () = stdout::closed() => None,
        () = stop => None,
    };
    // Restore the terminal first, then print.
    screen.leave().await;
    Ok(match end {
        None => ExitCode::SUCCESS,
        Some(End::Refused(failure)) => refused_principal(session.url(), &failure),
        Some(End::WrongUrl(failure)) => unanswered(NO_ANSWER, session.url(), &failure),
        Some(End::Unwritable(error)) => unwritable(&error),
    })
}
