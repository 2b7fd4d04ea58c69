//! Arguments, configuration, telemetry, application, exit code. Commands that call a service are
//! handed to `vx11_cli`, with the settings they need.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use actix_web::rt::{System, SystemRunner};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use secrecy::ExposeSecret;
use vx11_operator::app::Application;
use vx11_operator::config::Config;
use vx11_operator::events::EventType;
use vx11_operator::lifecycle::{ReloadSignal, StopSignals};
use vx11_operator::telemetry::{self, Log};
use vx11_operator::topic::{Pattern, Topics};

mod healthcheck;
mod reload;

use reload::Reload;

/// Many small allocations live as long as a stream. This allocator packs them more densely than the
/// system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BAD_CONFIGURATION: u8 = 2;

/// An event server for web applications: backends publish events, and open pages receive them over
/// Server-Sent Events
#[derive(Parser)]
#[command(version, arg_required_else_help = false)]
#[command(
    after_help = "Configuration: built-in defaults, then --config, then the environment. `check-config` shows the\n\
                        result; docs/configuration.md lists every key. The commands that call a service, from `tail` to\n\
                        `stats`, need only the credential of a principal; docs/command-line.md explains them.\n\n\
                        Exit codes: 0 clean stop, 2 bad configuration, 1 otherwise; `publish` also has 3: it is not\n\
                        known whether the event was published."
)]
struct Arguments {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default). SIGHUP reads principals and signing keys again
    Serve,
    /// Ask the instance on this machine whether it is ready, for containers
    Healthcheck,
    /// Check the configuration and print the result without secrets
    CheckConfig,
    #[command(flatten)]
    Client(vx11_cli::Command),
}

fn main() -> ExitCode {
    let arguments = arguments();
    let environment = environment();
    let file = arguments.config.as_deref();
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Client(command) => vx11_cli::run(command, client_settings(file, &environment)),
        Command::Serve => start(file, environment),
        Command::Healthcheck => with_config(file, environment, |config| healthcheck::run(config.listen)),
        Command::CheckConfig => with_config(file, environment, |config| check_config(&config)),
    }
}

/// Parses the arguments. The client does not know the service's rules for event types, topics and
/// patterns, so they are added here.
fn arguments() -> Arguments {
    let event_type = |text: &str| EventType::parse(text).map(|event_type| event_type.to_string());
    let topic = |text: &str| Topics::new([text]).map(|topics| topics.as_str().to_owned());
    let pattern = |text: &str| Pattern::parse(text).map(|pattern| pattern.to_string());
    let command = Arguments::command()
        .mut_subcommand("publish", |publish| {
            let publish = publish.mut_arg("event", |event| event.value_parser(event_type));
            publish.mut_arg("topic", |topics| topics.value_parser(topic))
        })
        .mut_subcommand("streams", |streams| streams.mut_arg("topic", |topics| topics.value_parser(topic)))
        .mut_subcommand("end", |end| end.mut_arg("topic", |topics| topics.value_parser(topic)))
        .mut_subcommand("tail", |tail| tail.mut_arg("topic", |topics| topics.value_parser(pattern)))
        .mut_subcommand("token", |token| {
            token.mut_subcommand("issue", |issue| {
                issue.mut_arg("topic", |topics| topics.value_parser(pattern))
            })
        });
    Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// The part of the configuration that the client needs.
fn client_settings<'a>(
    file: Option<&Path>,
    environment: &'a HashMap<String, String>,
) -> vx11_cli::Settings<'a> {
    let credential = Config::principal_credential(file, environment);
    vx11_cli::Settings {
        environment,
        unknown_variables: Config::unknown_variables(environment),
        credential: credential.map_err(|errors| errors.to_string()),
    }
}

/// Runs a command that needs the whole configuration.
fn with_config(
    file: Option<&Path>,
    environment: HashMap<String, String>,
    command: impl FnOnce(Config) -> ExitCode,
) -> ExitCode {
    let config = Config::load(file, &environment);
    // Drop the environment: it may hold credentials, and the command may run as long as the
    // process.
    drop(environment);
    match config {
        Ok(config) => command(config),
        Err(errors) => {
            print(format_args!("vx11-operator: {errors}"));
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn check_config(config: &Config) -> ExitCode {
    for warning in &config.warnings {
        print(format_args!("warning: {warning}"));
    }
    match std::io::stdout().write_all(config.redacted.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The environment as text. Other programs' variables may hold any bytes; in ours the replacement
/// characters are reported as invalid.
fn environment() -> HashMap<String, String> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}

/// Reads the configuration and serves.
fn start(file: Option<&Path>, environment: HashMap<String, String>) -> ExitCode {
    let system = System::new();
    // First of all: without a handler the signal kills the process.
    let reload = match system.block_on(async { ReloadSignal::listen() }) {
        Ok(reload) => reload,
        Err(error) => {
            print(format_args!("vx11-operator: signals cannot be received: {error}"));
            return ExitCode::FAILURE;
        }
    };
    with_config(file, environment, |config| serve(config, file, reload, system))
}

fn serve(config: Config, file: Option<&Path>, reload: ReloadSignal, system: SystemRunner) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Dropped at the end of this function, which writes the remaining lines.
    let log = match Log::start(std::io::stderr()) {
        Ok(log) => log,
        Err(error) => {
            print(format_args!("vx11-operator: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let subscriber = telemetry::subscriber(config.log_format, config.log_filter.clone(), colour, log.lines());
    if let Err(error) = tracing::subscriber::set_global_default(subscriber) {
        print(format_args!("vx11-operator: {error}"));
        return ExitCode::FAILURE;
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic: {}", panic.payload_as_str().unwrap_or("no message"));
    }));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let code = system.block_on(run(Arc::new(config), file, reload));
    // Before the log ends: tasks that end with it write lines.
    drop(system);
    code
}

async fn run(config: Arc<Config>, file: Option<&Path>, reload: ReloadSignal) -> ExitCode {
    let (mut signals, application) = match (StopSignals::listen(), Application::build(&config, None).await) {
        (Ok(signals), Ok(application)) => (signals, application),
        (Err(error), _) => {
            tracing::error!(%error, "signals cannot be received, so the instance does not start");
            return ExitCode::FAILURE;
        }
        (_, Err(error)) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    log_start(&config, &application);
    let window = config.drain_window;
    let reloads = Reload::new(reload, file.map(Path::to_owned), config, application.reloader()).run();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let second_signal = async move {
        let first = signals.next().await;
        tracing::info!(signal = first, ?window, "draining; a second signal stops at once");
        let _ = stop.send(());
        signals.next().await
    };
    let served = application.run(async {
        let _ = stopped.await;
    });
    tokio::select! {
        served = served => match served {
            Ok(()) => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(%error, "the instance stops because of a failure");
                ExitCode::FAILURE
            }
        },
        signal = second_signal => {
            tracing::warn!(signal, "stopped at once by a second signal");
            ExitCode::FAILURE
        }
        never = reloads => match never {},
    }
}

/// Prints address and generated credential for a person who started the instance at a terminal. The
/// credential is printed here only, never logged.
fn log_start(config: &Config, application: &Application) {
    let address = application.address();
    let mut page = address;
    if page.ip().is_unspecified() {
        page.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let instance = &config.instance_id;
    tracing::info!(%address, instance, version = env!("CARGO_PKG_VERSION"), panel = format!("http://{page}/"), "ready");
    if config.generated_principal {
        for (principal, secret) in &config.principals {
            let id = principal.id();
            print(format_args!(
                "\n  Events panel:     http://{page}/\n  Credential of principal \"{id}\": {}\n\n  \
                 This credential was generated for this run and is shown once. Set VX11_PRINCIPAL_TOKEN to keep one.\n",
                secret.expose_secret()
            ));
        }
    }
}

/// Prints a line for the person at the terminal; not a log line.
fn print(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
