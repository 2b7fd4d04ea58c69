//! The command-line client: `tail` prints events, `publish` publishes one, `token issue` issues a
//! token, `streams` lists the open streams, `end`, `block`, `unblock` and `revoke` give orders
//! about them, `stats` prints the state of the instances.
//!
//! The client calls the service over HTTP and knows nothing else of it. [`Settings`] has the
//! configuration that it needs: a principal's credential and the variables.
//!
//! `arguments` and `variables` determine what to do. `session` calls the `server`, `failure`
//! classifies failures, `backoff` waits. `tail`, `publish`, `issue`, `streams`, `control` and
//! `stats` are the commands. Standard output (`stdout`) has the results only; messages go to
//! standard error (`report`).
//!
//! Modules import from the modules beside and below them, never from this file, and without
//! circles. `tests/architecture.rs` of the service checks it.

mod arguments;
mod backoff;
mod cache_stats;
mod control;
mod escape;
mod failure;
mod frame_parser;
mod issue;
mod output;
mod publish;
mod report;
mod server;
mod session;
mod signals;
mod stats;
mod stdout;
mod streams;
mod subscription;
mod tail;
mod variables;

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;

use secrecy::SecretString;

pub use self::arguments::Command;
use self::arguments::{ServerArguments, TokenCommand};
use self::report::{misconfigured, notice};
use self::server::Server;
use self::session::Session;

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

/// Runs a command.
#[must_use = "it is the exit code of the program"]
pub fn run(command: Command, settings: Settings<'_>) -> ExitCode {
    let environment = settings.environment;
    // Create the session first, so that nobody types an event in vain.
    let session = match session(command.server(), settings) {
        Ok(session) => session,
        Err(complaint) => return misconfigured(&complaint),
    };
    in_runtime(async {
        match command {
            Command::Tail(arguments) => tail::run(&session, arguments).await,
            Command::Publish(arguments) => Ok(publish::run(&session, &arguments).await),
            Command::Token(TokenCommand::Issue(arguments)) => Ok(issue::run(&session, &arguments).await),
            Command::Streams(arguments) => Ok(streams::run(&session, &arguments).await),
            Command::End(arguments) => Ok(control::end(&session, &arguments).await),
            Command::Block(arguments) => Ok(control::block(&session, &arguments).await),
            Command::Unblock(arguments) => Ok(control::unblock(&session, &arguments).await),
            Command::Revoke(arguments) => Ok(control::revoke(&session, &arguments).await),
            Command::Stats(arguments) => stats::run(&session, &arguments, environment).await,
        }
    })
}

/// A session with the configured credential and server.
fn session(arguments: &ServerArguments, settings: Settings<'_>) -> Result<Session, String> {
    variables::check(settings.environment, &settings.unknown_variables)?;
    let credential = settings.credential?.ok_or(NO_PRINCIPAL)?;
    Session::new(Server::find(&arguments.url, arguments.ca.as_deref())?, &credential)
}

/// Runs to the end, without waiting for reads or writes that hang then.
fn in_runtime(command: impl Future<Output = io::Result<ExitCode>>) -> ExitCode {
    let cannot_run = |error| {
        notice(format_args!("cannot run: {error}"));
        ExitCode::FAILURE
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cannot_run(error),
    };
    let code = runtime.block_on(command).unwrap_or_else(cannot_run);
    runtime.shutdown_background();
    code
}
