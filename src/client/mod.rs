//! The command-line client: `tail` prints events, `publish` publishes one, `stats` prints the state
//! of the instances.
//!
//! `arguments`, `variables`, `server` and [`Config::principal_credential`] determine command,
//! server and credential. `session` calls the service, `failure` classifies failures, `backoff`
//! waits.
//!
//! Standard output has the results only; messages go to standard error. A client needs a
//! principal's credential and nothing else of the service's configuration.

mod arguments;
mod backoff;
mod failure;
mod output;
mod publish;
mod server;
mod session;
mod stats;
mod stdout;
mod subscription;
mod tail;
mod variables;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use vx11_operator::clock::Jitter;
use vx11_operator::config::Config;
use vx11_operator::lifecycle::StopSignals;

use self::arguments::ServerArguments;
pub(crate) use self::arguments::{
    PUBLISH_HELP, PublishArguments, STATS_HELP, StatsArguments, TAIL_HELP, TailArguments,
};
use self::backoff::Backoff;
use self::failure::Failure;
use self::output::{Format, visible};
use self::publish::Unpublished;
use self::server::Server;
use self::session::Session;
use self::stdout::Stdout;
use self::tail::{End, Tail, Tally};
use crate::BAD_CONFIGURATION;

/// Exit code of `publish` if it is not known whether the event was published.
const OUTCOME_UNKNOWN: u8 = 3;
const NO_PRINCIPAL: &str = "no principal to act as: set VX11_PRINCIPAL_TOKEN to its credential, or \
    VX11_PRINCIPAL_TOKEN_FILE to a file that holds it, or give the service's own --config FILE. No argument takes it: \
    others could read it there";

/// Sources of the configuration: a file of the service, and the environment.
pub(crate) struct Settings<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) environment: &'a HashMap<String, String>,
}

/// Runs `tail`.
pub(crate) fn tail(arguments: TailArguments, settings: &Settings<'_>) -> ExitCode {
    let session = match session(&arguments.server, settings) {
        Ok(session) => session,
        Err(complaint) => return misconfigured(&complaint),
    };
    in_runtime(async {
        let mut signals = StopSignals::listen()?;
        let mut tail = Tail {
            session: &session,
            format: if arguments.json { Format::Json } else { Format::Readable },
            wanted: arguments.count,
            last_event_id: arguments.from,
            backoff: backoff(tail::BACKOFF),
            stdout: Stdout::open(),
            tally: Tally::default(),
        };
        let end = tokio::select! {
            end = tail.follow() => end,
            () = stdout::closed() => return Ok(ExitCode::SUCCESS),
            _ = signals.next() => {
                notice(format_args!("{}", tail.tally));
                return Ok(ExitCode::SUCCESS);
            }
        };
        Ok(match end {
            End::Enough => ExitCode::SUCCESS,
            End::Unauthorized(failure) => unauthorized(&session, &failure),
            End::WrongUrl(what, failure) => unanswered(what, &session, &failure),
            End::Unwritable(error) => unwritable(&error),
        })
    })
}

/// Runs `publish`.
pub(crate) fn publish(arguments: &PublishArguments, settings: &Settings<'_>) -> ExitCode {
    // Start the session first, so that nobody types an event in vain.
    let session = match session(&arguments.server, settings) {
        Ok(session) => session,
        Err(complaint) => return misconfigured(&complaint),
    };
    let event = match publish::event(arguments) {
        Ok(event) => event,
        Err(complaint) => return misconfigured(&complaint),
    };
    let key = match arguments.key.clone().map_or_else(publish::random_key, Ok) {
        Ok(key) => key,
        Err(error) => return misconfigured(&format!("no key can be made: {error}; give one as --key")),
    };
    let patience = Duration::from_secs(arguments.patience);
    in_runtime(async {
        let published = publish::publish(&session, event, &key, patience, backoff(publish::BACKOFF)).await;
        Ok(match published {
            Ok(published) => {
                if published.earlier {
                    notice(format_args!("an earlier attempt under this key had published it"));
                }
                // The event is published even if nobody reads the id.
                let _ = Stdout::open().write(&format!("{}\n", visible(&published.id))).await;
                ExitCode::SUCCESS
            }
            Err(unpublished) => unpublished_at(&session, &key, &unpublished),
        })
    })
}

fn unpublished_at(session: &Session, key: &str, unpublished: &Unpublished) -> ExitCode {
    let (url, failure) = (session.url(), &unpublished.failure);
    if let Some(doubt) = unpublished.doubt() {
        notice(format_args!(
            "not known whether it was published at {url}: {doubt}; the same command with --key {key} publishes it \
             now, or tells its id"
        ));
        return ExitCode::from(OUTCOME_UNKNOWN);
    }
    if failure.is_unauthorized() {
        return unauthorized(session, failure);
    }
    notice(format_args!("not published at {url}: {failure}{}", failure.advice()));
    ExitCode::FAILURE
}

/// Runs `stats`.
pub(crate) fn stats(arguments: &StatsArguments, settings: &Settings<'_>) -> ExitCode {
    match session(&arguments.server, settings) {
        Ok(session) => in_runtime(stats::run(&session, arguments, settings.environment)),
        Err(complaint) => misconfigured(&complaint),
    }
}

/// A session with the configured credential and server.
fn session(arguments: &ServerArguments, settings: &Settings<'_>) -> Result<Session, String> {
    variables::check(settings.environment)?;
    let credential = Config::principal_credential(settings.file, settings.environment);
    let credential = credential.map_err(|errors| errors.to_string())?.ok_or(NO_PRINCIPAL)?;
    Session::new(Server::find(arguments)?, &credential)
}

fn backoff((least, most): (Duration, Duration)) -> Backoff {
    Backoff::new(Jitter::seeded(fastrand::u64(..)), least, most)
}

fn misconfigured(complaint: &str) -> ExitCode {
    crate::print(format_args!("vx11-operator: {complaint}"));
    ExitCode::from(BAD_CONFIGURATION)
}

fn unauthorized(session: &Session, failure: &Failure) -> ExitCode {
    notice(format_args!(
        "{} knows no principal by this credential ({failure}); set VX11_PRINCIPAL_TOKEN or VX11_PRINCIPAL_TOKEN_FILE to that of one",
        session.url()
    ));
    ExitCode::from(BAD_CONFIGURATION)
}

/// The service did not fulfil the request.
fn unanswered(what: &str, session: &Session, failure: &Failure) -> ExitCode {
    notice(format_args!("{what} from {}: {failure}{}", session.url(), failure.advice()));
    ExitCode::FAILURE
}

/// Standard output is closed, which is no error, or cannot be written.
fn unwritable(error: &io::Error) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::SUCCESS;
    }
    notice(format_args!("standard output cannot be written: {error}"));
    ExitCode::FAILURE
}

/// Prints one line for the person at the terminal. Control characters in a server's text are
/// escaped.
fn notice(words: fmt::Arguments<'_>) {
    crate::print(format_args!("vx11-operator: {}", visible(&words.to_string())));
}

/// Runs to the end, without waiting for reads or writes that hang then.
fn in_runtime(command: impl Future<Output = io::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            notice(format_args!("cannot run: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(command).unwrap_or_else(|error| {
        notice(format_args!("cannot run: {error}"));
        ExitCode::FAILURE
    });
    runtime.shutdown_background();
    code
}
