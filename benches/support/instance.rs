//! A whole instance as the process that is measured, set up as the real binary does it.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use vx11_operator::app::Application;
use vx11_operator::config::Config;
use vx11_operator::http::ExtraRoutes;
use vx11_operator::telemetry;

use super::child::Measured;
use super::processor;

/// Variable that names the configuration file of an instance.
pub(crate) const CONFIG: &str = "BENCHMARK_CONFIG";

/// An instance on a free loopback port, without Redis unless its settings name one.
pub(crate) struct Instance {
    /// Its process.
    pub(crate) process: Measured,
    /// Address on which it listens.
    pub(crate) address: SocketAddr,
    /// Its principal credential.
    pub(crate) principal: String,
}

impl Instance {
    /// Starts one with `settings` beside the defaults.
    pub(crate) fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        let secret = getrandom::u64().expect("the system gives random numbers");
        let principal = format!("benchmark-principal-{secret:016x}");
        let mut environment =
            vec![("VX11_PRINCIPAL_TOKEN", principal.as_str()), ("VX11_OPERATOR_LISTEN", "127.0.0.1:0")];
        environment.extend_from_slice(settings);
        let mut process = Measured::start(name, &environment);
        let address = process.line();
        Self { address: address.parse().expect("the first line is the address"), process, principal }
    }

    /// Target of the load, and its credential.
    pub(crate) fn server(&self) -> (SocketAddr, &str) {
        (self.address, &self.principal)
    }

    /// Seconds of processor time it has used so far, all threads together.
    pub(crate) fn processor_seconds(&self) -> f64 {
        processor::seconds(self.process.child.id())
    }
}

/// Plays the instance, with `extra` routes beside its own; returns only if it fails.
pub(crate) fn serve(extra: Option<ExtraRoutes>) {
    let environment: HashMap<_, _> = std::env::vars().collect();
    let file = environment.get(CONFIG).map(Path::new);
    let config = Config::load(file, &environment).expect("the benchmark's configuration is valid");
    let log = telemetry::Log::start(std::io::stderr()).expect("a thread can be started");
    let subscriber = telemetry::subscriber(config.log_format, config.log_filter.clone(), false, log.lines());
    tracing::subscriber::set_global_default(subscriber).expect("it is set once");
    actix_web::rt::System::new().block_on(async {
        let application = Application::build(&config, extra).await.expect("the instance starts");
        writeln!(std::io::stdout(), "{}", application.address()).expect("the parent listens");
        application.run(std::future::pending()).await.expect("the server runs");
    });
}
