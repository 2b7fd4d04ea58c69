//! The command-line client: `tail` prints events, `publish` publishes one, `stats` prints the state
//! of the instances.
//!
//! `arguments`, `variables` and `server` determine command and server. `session` calls the service,
//! `failure` classifies failures, `backoff` waits.
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
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use fastrand::Rng;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use self::arguments::ServerArguments;
pub use self::arguments::{
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

/// Exit code of a wrong argument, variable or credential.
const BAD_CONFIGURATION: u8 = 2;
/// Exit code of `publish` if it is not known whether the event was published.
const OUTCOME_UNKNOWN: u8 = 3;
const NO_PRINCIPAL: &str = "no principal to act as: set VX11_PRINCIPAL_TOKEN to its credential, or \
    VX11_PRINCIPAL_TOKEN_FILE to a file that holds it, or give the service's own --config FILE. No argument takes it: \
    others could read it there";

/// Settings of a client, from the environment and the service's configuration.
pub struct Settings<'a> {
    /// All variables.
    pub environment: &'a HashMap<String, String>,
    /// Variables with the service's prefixes that neither the service nor a client reads.
    pub unknown_variables: Vec<&'a str>,
    /// Credential of the principal to act as, or the reason why it cannot be read.
    pub credential: Result<Option<SecretString>, String>,
}

/// Runs `tail`.
pub fn tail(arguments: TailArguments, settings: &Settings<'_>) -> ExitCode {
    let session = match session(&arguments.server, settings) {
        Ok(session) => session,
        Err(complaint) => return misconfigured(&complaint),
    };
    in_runtime(async {
        let stop = stop_signal()?;
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
            () = stop => {
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
pub fn publish(arguments: &PublishArguments, settings: &Settings<'_>) -> ExitCode {
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
pub fn stats(arguments: &StatsArguments, settings: &Settings<'_>) -> ExitCode {
    match session(&arguments.server, settings) {
        Ok(session) => in_runtime(stats::run(&session, arguments, settings.environment)),
        Err(complaint) => misconfigured(&complaint),
    }
}

/// A session with the configured credential and server.
fn session(arguments: &ServerArguments, settings: &Settings<'_>) -> Result<Session, String> {
    variables::check(settings.environment, &settings.unknown_variables)?;
    let credential = settings.credential.as_ref().map_err(Clone::clone)?.as_ref().ok_or(NO_PRINCIPAL)?;
    Session::new(Server::find(arguments)?, credential)
}

fn backoff((least, most): (Duration, Duration)) -> Backoff {
    Backoff::new(Rng::new(), least, most)
}

fn misconfigured(complaint: &str) -> ExitCode {
    print(format_args!("vx11-operator: {complaint}"));
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
    print(format_args!("vx11-operator: {}", visible(&words.to_string())));
}

/// Installs handlers of SIGTERM and SIGINT; from now on neither signal kills the process. Resolves
/// with the first of them.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn print(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{words}");
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
